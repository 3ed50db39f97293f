"""protocol.md 5.3: which error, and which of several comes first."""

from typing import Final

from tests.conformance.differences import Reason
from tests.conformance.table import (
    ABSENT_DOMID,
    DOM0,
    DOM0_B,
    GUEST,
    HOME,
    OK,
    Differs,
    Event,
    NotAsked,
    Row,
    Start,
    commit,
    get_perms,
    owned,
    perms,
    read,
    rows,
    watch,
    write,
    z,
)
from tests.conformance.wire import XS

MISSING: Final = (
    *(
        Row(f"{type_.name} of a missing node", DOM0, type_, z("/none") + tail, "ENOENT")
        for type_, tail in (
            (XS.DIRECTORY, b""), (XS.READ, b""), (XS.GET_PERMS, b""),
            (XS.SET_PERMS, b"n0\0"), (XS.DIRECTORY_PART, b"0\0"),
        )
    ),
    Row("READ below a missing node", DOM0, XS.READ, z("/none/a"), "ENOENT"),
    Row(
        "RM of a missing node in a missing directory",
        DOM0, XS.RM, z("/none/a"), "ENOENT",
    ),
    Row("UNWATCH of what nobody watches", DOM0, XS.UNWATCH, z("/a", "t"), "ENOENT"),
    Row(
        "UNWATCH with another token",
        DOM0, XS.UNWATCH, z("/a", "other"), "ENOENT", before=(watch("/a", "t"),),
    ),
    Row(
        "UNWATCH of another connection's watch",
        DOM0, XS.UNWATCH, z("/a", "t"), "ENOENT",
        before=(watch("/a", "t", who=DOM0_B),),
    ),
)  # fmt: skip

FORBIDDEN: Final = (
    *(
        Row(
            f"{type_.name} of a node that a domain may not {verb}",
            GUEST, type_, z("/a") + tail, "EACCES", before=owned("/a", letter),
        )
        for type_, tail, verb, letter in (
            (XS.DIRECTORY, b"", "read", "w0"),
            (XS.READ, b"", "read", "w0"),
            (XS.GET_PERMS, b"", "read", "w0"),
            (XS.DIRECTORY_PART, b"0\0", "read", "w0"),
            (XS.WRITE, b"v", "write", "r0"),
            (XS.MKDIR, b"", "write", "r0"),
            (XS.RM, b"", "write", "r0"),
            (XS.SET_PERMS, b"b0\0", "own", "b0"),
        )
    ),
    *(
        Row(
            f"{type_.name} of a missing node where a domain may not {verb}",
            GUEST, type_, z("/a/none") + tail, "EACCES", before=owned("/a", letter),
        )
        for type_, tail, verb, letter in (
            (XS.DIRECTORY, b"", "read", "w0"),
            (XS.READ, b"", "read", "w0"),
            (XS.GET_PERMS, b"", "read", "w0"),
            (XS.DIRECTORY_PART, b"0\0", "read", "w0"),
            (XS.WRITE, b"v", "write", "r0"),
            (XS.MKDIR, b"", "write", "r0"),
            (XS.RM, b"", "write", "r0"),
            (XS.SET_PERMS, b"n5\0", "see", "n0"),
        )
    ),
    *(
        Row(
            f"{type_.name} of a missing node where a domain may {verb}",
            GUEST, type_, z("/a/none") + tail, expect, before=owned("/a", letter),
        )
        for type_, tail, verb, letter, expect in (
            (XS.DIRECTORY, b"", "read", "r0", "ENOENT"),
            (XS.READ, b"", "read", "r0", "ENOENT"),
            (XS.GET_PERMS, b"", "read", "r0", "ENOENT"),
            (XS.DIRECTORY_PART, b"0\0", "read", "r0", "ENOENT"),
            (XS.WRITE, b"v", "write", "w0", OK),
            (XS.MKDIR, b"", "write", "w0", OK),
            (XS.RM, b"", "write", "w0", OK),
            (XS.SET_PERMS, b"n5\0", "write", "w0", "ENOENT"),
        )
    ),
    Row(
        "what a domain may do to missing nodes, the nearest one above says",
        GUEST, XS.READ, z("/a/none/none/none"), "ENOENT",
        before=(*owned("/a", "n0", "r5"),),
    ),
    Row(
        "a directory between may forbid",
        GUEST, XS.READ, z("/a/b/none"), "EACCES",
        before=(*owned("/a", "n0", "r5"), *owned("/a/b", "n0")),
    ),
    Row(
        "a node may be read in a directory that may not",
        GUEST, XS.READ, z("/a/b"), b"v",
        before=(*owned("/a", "n0"), *owned("/a/b", "r0")),
    ),
    Row(
        "RM of a missing node in a missing directory, by a domain that may write",
        GUEST, XS.RM, z("/a/none/none"), "ENOENT", before=owned("/a", "b0"),
    ),
    *(
        Row(f"{type_.name} of the root by a domain", GUEST, type_, z("/") + tail,
            "EACCES")
        for type_, tail in (
            (XS.READ, b""), (XS.DIRECTORY, b""), (XS.WRITE, b"v"), (XS.MKDIR, b""),
            (XS.RM, b""), (XS.SET_PERMS, b"n5\0"),
        )
    ),
    Row(
        "RM of the root by a domain that may write it (XSA-353)",
        GUEST, XS.RM, z("/"), "EINVAL", before=(perms("/", "b0"),),
    ),
    Row("RM of the root", DOM0, XS.RM, z("/"), "EINVAL"),
    Row(
        "SET_PERMS of a special name by a domain",
        GUEST, XS.SET_PERMS, z("@releaseDomain", "n5"), "EACCES",
        c_417=NotAsked(Reason.SPECIAL_NAMES),
    ),
)  # fmt: skip

OTHERS: Final = (
    Row(
        "WATCH with path and token of another watch",
        DOM0, XS.WATCH, z("/a", "t"), "EEXIST", before=(watch("/a", "t"),),
    ),
    Row(
        "WATCH with path and token of another watch, spelt otherwise",
        DOM0, XS.WATCH, z("a", "t"), "EEXIST",
        before=(watch("/local/domain/0/a", "t"),),
    ),
    Row(
        "WATCH with another token",
        DOM0, XS.WATCH, z("/a", "u"), OK, before=(watch("/a", "t"),),
        events_after=(Event(DOM0, "/a", "u"),),
    ),
    Row(
        "WATCH as another connection does",
        DOM0, XS.WATCH, z("/a", "t"), OK, before=(watch("/a", "t", who=DOM0_B),),
        events_after=(Event(DOM0, "/a", "t"),),
    ),
    Row(
        "TRANSACTION_START in a transaction",
        DOM0, XS.TRANSACTION_START, z(""), "EBUSY", tx="t", before=(Start("t"),),
        then=(commit("t"),),
    ),
    Row(
        "SET_PERMS of one's own node for another owner (XSA-352)",
        GUEST, XS.SET_PERMS, z("a", "n6"), "EPERM",
        before=(*HOME, write("a", who=GUEST)),
        then=(get_perms("/local/domain/5/a", "n5"),),
    ),
    Row(
        "SET_PERMS of one's own node to domain 0",
        GUEST, XS.SET_PERMS, z("a", "n0", "b5"), "EPERM",
        before=(*HOME, write("a", who=GUEST)),
    ),
    Row(
        "SET_PERMS with an owner that does not exist",
        DOM0, XS.SET_PERMS, z("/a", f"n{ABSENT_DOMID}"), "ENOENT",
        before=(write("/a"),), then=(get_perms("/a", "n0"),),
    ),
    *(
        Row(
            f"SET_PERMS with {entry!r}",
            DOM0, XS.SET_PERMS, z("/a", "n0", entry), "EINVAL", before=(write("/a"),),
            then=(get_perms("/a", "n0"),),
        )
        for entry in ("", "n", "x5", "5", "N5", "rw5", "r5x", "r5 ", "rx")
    ),
    *(
        Row(
            f"SET_PERMS with first {entry!r}",
            DOM0, XS.SET_PERMS, z("/a", entry), "EINVAL", before=(write("/a"),),
        )
        for entry in ("", "n", "x0", "0")
    ),
)  # fmt: skip

UNKNOWN_TX: Final = (
    *(
        Row(
            f"{type_.name} with a tx_id that nobody has",
            DOM0, type_, z(*strings), "ENOENT", tx=4711,
        )
        for type_, strings in (
            (XS.CONTROL, ("check",)), (XS.DIRECTORY, ("/",)), (XS.READ, ("/",)),
            (XS.GET_PERMS, ("/",)), (XS.TRANSACTION_START, ("",)),
            (XS.TRANSACTION_END, ("T",)), (XS.INTRODUCE, (5, 1, 1)),
            (XS.RELEASE, (5,)), (XS.GET_DOMAIN_PATH, (5,)), (XS.WRITE, ("/a", "v")),
            (XS.MKDIR, ("/a",)), (XS.RM, ("/a",)), (XS.SET_PERMS, ("/", "n0")),
            (XS.IS_DOMAIN_INTRODUCED, (5,)), (XS.RESUME, (5,)),
            (XS.SET_TARGET, (5, 6)), (XS.RESET_WATCHES, ("",)),
            (XS.DIRECTORY_PART, ("/", 0)),
        )
    ),
    *(
        Row(
            f"{type_.name} with a tx_id that nobody has",
            DOM0, type_, z(*strings), "ENOENT", tx=4711,
            c_417=Differs("ENOSYS", Reason.NEW_MESSAGES),
        )
        for type_, strings in (
            (XS.GET_FEATURE, ()), (XS.SET_FEATURE, (7, 0)), (XS.GET_QUOTA, ()),
            (XS.SET_QUOTA, ("nodes", 1000)),
        )
    ),
    Row(
        "WATCH with a tx_id that nobody has",
        DOM0, XS.WATCH, z("/a", "t"), OK, tx=4711,
        events_after=(Event(DOM0, "/a", "t"),),
    ),
    Row(
        "UNWATCH with a tx_id that nobody has",
        DOM0, XS.UNWATCH, z("/a", "t"), OK, tx=4711, before=(watch("/a", "t"),),
    ),
    Row(
        "TRANSACTION_END outside of a transaction",
        DOM0, XS.TRANSACTION_END, z("T"), "ENOENT",
    ),
    Row(
        "a transaction of another connection",
        DOM0_B, XS.READ, z("/"), "ENOENT", tx="t", before=(Start("t"),),
    ),
    Row(
        "a transaction of another domain",
        GUEST, XS.TRANSACTION_END, z("T"), "ENOENT", tx="t",
        before=(write("/a", b"old"), Start("t"), write("/a", b"new", tx="t")),
        then=(read("/a", b"old"), commit("t"), read("/a", b"new")),
    ),
)  # fmt: skip

FIRST: Final = (
    Row(
        "an unknown message comes before an unknown tx_id",
        GUEST, 27, b"", "ENOSYS", tx=4711,
    ),
    Row(
        "a missing privilege comes before an unknown tx_id",
        GUEST, XS.CONTROL, b"", "EACCES", tx=4711,
    ),
    Row(
        "an unknown tx_id comes before a malformed payload",
        DOM0, XS.READ, b"", "ENOENT", tx=4711,
    ),
    Row(
        "TRANSACTION_END looks at its payload before it misses its transaction",
        DOM0, XS.TRANSACTION_END, z("X"), "EINVAL",
    ),
    Row(
        "TRANSACTION_END of an unknown transaction with a malformed payload",
        DOM0, XS.TRANSACTION_END, z("X"), "ENOENT", tx=4711,
    ),
    Row(
        "SET_PERMS looks at the entries before the owner",
        DOM0, XS.SET_PERMS, z("/a", f"n{ABSENT_DOMID}", "x"), "EINVAL",
        before=(write("/a"),),
    ),
    Row(
        "SET_PERMS looks at the owner before the path",
        DOM0, XS.SET_PERMS, z("//", f"n{ABSENT_DOMID}"), "ENOENT",
    ),
    Row(
        "SET_PERMS looks at the path before the rights",
        GUEST, XS.SET_PERMS, z("//", "n5"), "EINVAL",
    ),
    Row(
        "SET_PERMS looks at the rights before the owner's change",
        GUEST, XS.SET_PERMS, z("/a", "n5"), "EACCES", before=owned("/a", "b0"),
    ),
    Row(
        "WATCH looks at the path before its double",
        DOM0, XS.WATCH, z("/a/", "t"), "EINVAL", before=(watch("/a", "t"),),
    ),
    Row(
        "WATCH looks at the depth before the path",
        DOM0, XS.WATCH, z("//", "t", -1), "EINVAL",
    ),
    Row(
        "a malformed payload comes before rights",
        GUEST, XS.READ, b"/tool", "EINVAL", c_417=NotAsked(Reason.STALE_ERRNO),
    ),
)  # fmt: skip

ERRORS: Final = rows(MISSING, FORBIDDEN, OTHERS, UNKNOWN_TX, FIRST)
