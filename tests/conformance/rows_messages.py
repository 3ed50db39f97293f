"""protocol.md 5.2: what each message asks and how it is answered when all is well.

Domains, features and quotas have a file of their own, and so have transactions and
watches; here are their simplest uses, so that each message is met once.
"""

from typing import Final

from tests.conformance.differences import Reason
from tests.conformance.table import (
    ABSENT_DOMID,
    DOM0,
    GUEST,
    HOME,
    OK,
    Differs,
    Event,
    NotAsked,
    Row,
    Start,
    Step,
    directory,
    get_perms,
    mkdir,
    owned,
    perms,
    read,
    rm,
    rows,
    text,
    watch,
    write,
    z,
)
from tests.conformance.wire import XS

VALUE_MAX: Final = bytes(range(256)) * 15 + bytes(253)
"""As much as fits beside the path /v: 4,096 bytes with it."""

DIRECTORY: Final = (
    Row(
        "DIRECTORY lists names in the order in which they were made",
        DOM0, XS.DIRECTORY, z("/d"), z("b", "a", "c"),
        before=(write("/d/b"), write("/d/a"), write("/d/c")),
    ),
    Row(
        "DIRECTORY lists a name last that was removed and made again",
        DOM0, XS.DIRECTORY, z("/d"), z("b", "a"),
        before=(write("/d/a"), write("/d/b"), rm("/d/a"), write("/d/a")),
    ),
    Row(
        "DIRECTORY keeps the order when a value changes",
        DOM0, XS.DIRECTORY, z("/d"), z("a", "b"),
        before=(write("/d/a"), write("/d/b"), write("/d/a", b"other")),
    ),
    Row(
        "DIRECTORY of a node without children is empty",
        DOM0, XS.DIRECTORY, z("/d"), b"", before=(write("/d"),),
    ),
    Row(
        "DIRECTORY lists children only, not theirs",
        DOM0, XS.DIRECTORY, z("/d"), z("a"), before=(write("/d/a/b/c"),),
    ),
    Row(
        "DIRECTORY of the root of a fresh store",
        DOM0, XS.DIRECTORY, z("/"), z("tool"),
    ),
    Row(
        "DIRECTORY of a path in the domain's own place",
        GUEST, XS.DIRECTORY, z("a"), z("b"),
        before=(*HOME, write("/local/domain/5/a/b"), perms("/local/domain/5/a", "n5")),
    ),
)  # fmt: skip

READ: Final = (
    Row(
        "READ gives the bytes of the value and no NUL",
        DOM0, XS.READ, z("/a"), b"value", before=(write("/a", b"value"),),
    ),
    Row(
        "READ of an empty value is empty",
        DOM0, XS.READ, z("/a"), b"", before=(write("/a", b""),),
    ),
    Row(
        "READ gives NULs that are in a value",
        DOM0, XS.READ, z("/a"), b"\0v\0\0w\0", before=(write("/a", b"\0v\0\0w\0"),),
    ),
    Row(
        "READ gives bytes that are no text",
        DOM0, XS.READ, z("/a"), b"\xff\x80\n", before=(write("/a", b"\xff\x80\n"),),
    ),
    Row(
        "READ gives the longest value that a request can write",
        DOM0, XS.READ, z("/v"), VALUE_MAX, before=(write("/v", VALUE_MAX),),
    ),
    Row("READ of the root of a fresh store is empty", DOM0, XS.READ, z("/"), b""),
    Row(
        "READ of a relative path looks below /local/domain/0 for domain 0",
        DOM0, XS.READ, z("name"), b"host",
        before=(write("/local/domain/0/name", b"host"),),
    ),
    Row(
        "READ of a relative path looks in the domain's own place",
        GUEST, XS.READ, z("name"), b"guest",
        before=(*HOME, write("/local/domain/5/name", b"guest"),
                perms("/local/domain/5/name", "n5")),
    ),
    Row(
        "READ of a node that was made for one below it is empty",
        DOM0, XS.READ, z("/a"), b"", before=(write("/a/b"),),
    ),
)  # fmt: skip

PERMISSIONS: Final = (
    Row(
        "GET_PERMS of the root of a fresh store",
        DOM0, XS.GET_PERMS, z("/"), z("n0"),
    ),
    Row(
        "GET_PERMS of /tool/xenstored in a fresh store",
        DOM0, XS.GET_PERMS, z("/tool/xenstored"), z("n0"),
    ),
    Row(
        "GET_PERMS of @introduceDomain in a fresh store",
        DOM0, XS.GET_PERMS, z("@introduceDomain"), z("n0"),
        c_417=NotAsked(Reason.SPECIAL_NAMES),
    ),
    Row(
        "GET_PERMS of @releaseDomain in a fresh store lets everybody read",
        DOM0, XS.GET_PERMS, z("@releaseDomain"), z("n0", "r32757"),
        c_417=NotAsked(Reason.SPECIAL_NAMES),
    ),
    Row(
        "GET_PERMS gives all entries in order",
        DOM0, XS.GET_PERMS, z("/a"), z("n5", "r0", "w6", "b5"),
        before=owned("/a", "n5", "r0", "w6", "b5"),
    ),
    Row(
        "SET_PERMS replaces the list",
        DOM0, XS.SET_PERMS, z("/a", "w6", "b5"), OK,
        before=owned("/a", "n5", "r0", "w6"),
        then=(get_perms("/a", "w6", "b5"), read("/a", b"v")),
    ),
    Row(
        "SET_PERMS changes one node, not those below",
        DOM0, XS.SET_PERMS, z("/a", "n5"), OK, before=(write("/a/b"),),
        then=(get_perms("/a/b", "n0"),),
    ),
    Row(
        "SET_PERMS of a special name",
        DOM0, XS.SET_PERMS, z("@introduceDomain", "n0", "r5"), OK,
    ),
    Row(
        "SET_PERMS ignores what follows the last NUL",
        DOM0, XS.SET_PERMS, z("/a", "r0") + b"r5", OK, before=(write("/a"),),
        then=(get_perms("/a", "r0"),),
    ),
)  # fmt: skip

WATCHES: Final = (
    Row(
        "WATCH is answered, then its first event comes",
        DOM0, XS.WATCH, z("/a", "token"), OK,
        events_after=(Event(DOM0, "/a", "token"),),
    ),
    Row(
        "WATCH ignores what follows the last NUL",
        DOM0, XS.WATCH, z("/a", "token") + b"more", OK,
        events_after=(Event(DOM0, "/a", "token"),),
    ),
    Row(
        "UNWATCH takes a watch back",
        DOM0, XS.UNWATCH, z("/a", "token"), OK, before=(watch("/a", "token"),),
        then=(write("/a"),),
    ),
    Row(
        "UNWATCH ignores what follows the last NUL",
        DOM0, XS.UNWATCH, z("/a", "token") + b"more", OK,
        before=(watch("/a", "token"),),
    ),
    Row(
        "RESET_WATCHES takes all watches back",
        DOM0, XS.RESET_WATCHES, z(""), OK, before=(watch("/a"), watch("/b")),
        then=(write("/a"), write("/b"),
              Step(DOM0, XS.UNWATCH, z("/a", "t"), "ENOENT")),
    ),
    Row("RESET_WATCHES without a watch", DOM0, XS.RESET_WATCHES, z(""), OK),
    Row("RESET_WATCHES with an empty payload", DOM0, XS.RESET_WATCHES, b"", OK),
    Row("RESET_WATCHES with any payload", DOM0, XS.RESET_WATCHES, z("a", "b"), OK),
    Row(
        "RESET_WATCHES drops the transactions too",
        DOM0, XS.RESET_WATCHES, z(""), OK, before=(Start("t"),),
        then=(read("/", "ENOENT", tx="t"),),
    ),
)  # fmt: skip

TRANSACTIONS: Final = (
    Row(
        "TRANSACTION_START gives a number",
        DOM0, XS.TRANSACTION_START, z(""), text("[1-9][0-9]*"),
    ),
    Row(
        "TRANSACTION_START with an empty payload",
        DOM0, XS.TRANSACTION_START, b"", text("[1-9][0-9]*"),
    ),
    Row(
        "TRANSACTION_START with any payload",
        DOM0, XS.TRANSACTION_START, z("a", "b"), text("[1-9][0-9]*"),
    ),
    Row(
        "TRANSACTION_END with T commits",
        DOM0, XS.TRANSACTION_END, z("T"), OK, tx="t",
        before=(Start("t"), write("/a", b"new", tx="t")), then=(read("/a", b"new"),),
    ),
    Row(
        "TRANSACTION_END with F drops all changes",
        DOM0, XS.TRANSACTION_END, z("F"), OK, tx="t",
        before=(Start("t"), write("/a", b"new", tx="t")),
        then=(read("/a", "ENOENT"),),
    ),
    Row(
        "TRANSACTION_END with T of an empty transaction",
        DOM0, XS.TRANSACTION_END, z("T"), OK, tx="t", before=(Start("t"),),
    ),
)  # fmt: skip

WRITES: Final = (
    Row(
        "WRITE makes a node",
        DOM0, XS.WRITE, z("/a") + b"v", OK,
        then=(read("/a", b"v"), directory("/", z("tool", "a"))),
    ),
    Row(
        "WRITE makes the nodes above, empty",
        DOM0, XS.WRITE, z("/a/b/c") + b"v", OK,
        then=(directory("/a", z("b")), directory("/a/b", z("c")),
              read("/a/b", b""), read("/a/b/c", b"v")),
    ),
    Row(
        "WRITE replaces a value and keeps children and permissions",
        DOM0, XS.WRITE, z("/a") + b"new", OK,
        before=(*owned("/a", "n5", "r6"), write("/a/b")),
        then=(read("/a", b"new"), directory("/a", z("b")),
              get_perms("/a", "n5", "r6")),
    ),
    Row(
        "WRITE of no bytes empties a value",
        DOM0, XS.WRITE, z("/a"), OK, before=(write("/a", b"v"),),
        then=(read("/a", b""),),
    ),
    Row(
        "WRITE takes everything behind the first NUL as value",
        DOM0, XS.WRITE, z("/a", "b", "c"), OK, then=(read("/a", z("b", "c")),),
    ),
    Row(
        "WRITE of the root",
        DOM0, XS.WRITE, z("/") + b"v", OK,
        then=(read("/", b"v"), directory("/", z("tool"))),
    ),
    Row(
        "MKDIR makes an empty node and those above",
        DOM0, XS.MKDIR, z("/a/b"), OK,
        then=(read("/a/b", b""), directory("/a", z("b"))),
    ),
    Row(
        "MKDIR leaves an existing node alone",
        DOM0, XS.MKDIR, z("/a"), OK, before=(write("/a", b"v"), write("/a/b")),
        then=(read("/a", b"v"), directory("/a", z("b"))),
    ),
    Row("MKDIR of the root", DOM0, XS.MKDIR, z("/"), OK),
    Row(
        "RM removes a node and all below",
        DOM0, XS.RM, z("/a"), OK, before=(write("/a/b/c"), write("/a/d")),
        then=(read("/a", "ENOENT"), read("/a/b/c", "ENOENT"),
              directory("/", z("tool"))),
    ),
    Row(
        "RM leaves the neighbours",
        DOM0, XS.RM, z("/a/b"), OK,
        before=(write("/a/b"), write("/a/bb"), write("/a/c")),
        then=(directory("/a", z("bb", "c")),),
    ),
    Row(
        "RM of a missing node in an existing directory",
        DOM0, XS.RM, z("/a/b"), OK, before=(write("/a"),),
        then=(directory("/", z("tool", "a")),),
    ),
    Row(
        "RM of a node deeper than anybody's stack (XSA-418)",
        DOM0, XS.RM, z("/a"), OK, before=(write("/a" * 1000),),
        then=(directory("/", z("tool")),),
    ),
)  # fmt: skip

BIG: Final = tuple(write(f"/d/{name:063d}", b"") for name in range(63))
"""A directory whose list of names is 63 * 64 = 4,032 bytes long."""

PARTS: Final = (
    Row(
        "DIRECTORY of exactly 4096 bytes of names",
        DOM0, XS.DIRECTORY, z("/d"), z(*(f"{name:063d}" for name in range(64))),
        before=(*BIG, write(f"/d/{63:063d}")),
    ),
    Row(
        "DIRECTORY of 4097 bytes of names (XSA-72)",
        DOM0, XS.DIRECTORY, z("/d"), "E2BIG",
        before=(*BIG, write(f"/d/{63:064d}")),
    ),
    Row(
        "DIRECTORY_PART gives generation, names and, as this is all, a NUL more",
        DOM0, XS.DIRECTORY_PART, z("/d", 0), text(r"[0-9]+\x00a\x00bb\x00c\x00"),
        before=(write("/d/a"), write("/d/bb"), write("/d/c")),
    ),
    Row(
        "DIRECTORY_PART counts its offset in bytes of the list",
        DOM0, XS.DIRECTORY_PART, z("/d", 2), text(r"[0-9]+\x00bb\x00c\x00"),
        before=(write("/d/a"), write("/d/bb"), write("/d/c")),
    ),
    Row(
        "DIRECTORY_PART from within a name",
        DOM0, XS.DIRECTORY_PART, z("/d", 3), text(r"[0-9]+\x00b\x00c\x00"),
        before=(write("/d/a"), write("/d/bb"), write("/d/c")),
    ),
    Row(
        "DIRECTORY_PART from the end of the list",
        DOM0, XS.DIRECTORY_PART, z("/d", 2), text(r"[0-9]+\x00"),
        before=(write("/d/a"),),
    ),
    Row(
        "DIRECTORY_PART from behind the end of the list",
        DOM0, XS.DIRECTORY_PART, z("/d", 4000000000), text(r"[0-9]+\x00"),
        before=(write("/d/a"),),
    ),
    Row(
        "DIRECTORY_PART from a negative offset",
        DOM0, XS.DIRECTORY_PART, z("/d", -1), "EINVAL", before=(write("/d/a"),),
        c_417=Differs(text(r"[0-9]+\x00"), Reason.LENIENT),
    ),
    Row(
        "DIRECTORY_PART from an offset that is no number",
        DOM0, XS.DIRECTORY_PART, z("/d", "x"), "EINVAL", before=(write("/d/a"),),
        c_417=Differs(text(r"[0-9]+\x00a\x00"), Reason.LENIENT),
    ),
    Row(
        "DIRECTORY_PART of a node without children",
        DOM0, XS.DIRECTORY_PART, z("/d", 0), text(r"[0-9]+\x00"),
        before=(write("/d"),),
    ),
    Row(
        "DIRECTORY_PART ignores what follows the last NUL",
        DOM0, XS.DIRECTORY_PART, z("/d", 0) + b"x", text(r"[0-9]+\x00a\x00"),
        before=(write("/d/a"),),
    ),
    Row(
        "DIRECTORY_PART gives whole names, as many as fit, and no NUL more",
        DOM0, XS.DIRECTORY_PART, z("/d", 0), text(r"[0-9]+(\x00[0-9]{63}){63}"),
        before=(*BIG, write(f"/d/{63:063d}")),
    ),
    Row(
        "DIRECTORY_PART goes on where the last one ended",
        DOM0, XS.DIRECTORY_PART, z("/d", 63 * 64), text(r"[0-9]+\x000{61}63\x00"),
        before=(*BIG, write(f"/d/{63:063d}")),
    ),
)  # fmt: skip

DOMAIN_PATHS: Final = (
    Row(
        "GET_DOMAIN_PATH of a domain",
        DOM0, XS.GET_DOMAIN_PATH, z(5), z("/local/domain/5"),
    ),
    Row(
        "GET_DOMAIN_PATH of domain 0",
        DOM0, XS.GET_DOMAIN_PATH, z(0), z("/local/domain/0"),
    ),
    Row(
        "GET_DOMAIN_PATH of a domain that does not exist",
        DOM0, XS.GET_DOMAIN_PATH, z(ABSENT_DOMID), z("/local/domain/99"),
    ),
    Row(
        "GET_DOMAIN_PATH is answered to a domain",
        GUEST, XS.GET_DOMAIN_PATH, z(6), z("/local/domain/6"),
    ),
)  # fmt: skip

NO_HANDLER: Final = tuple(
    Row(f"message {type_} from {who.value} is not known", who, type_, b"x", "ENOSYS")
    for who in (DOM0, GUEST)
    for type_ in (
        XS.WATCH_EVENT, XS.ERROR, XS.RESTRICT, 27, 0xFFFF, 0x10000, 0xFFFFFFFF
    )
)  # fmt: skip

PRIVILEGED: Final = (
    XS.CONTROL, XS.INTRODUCE, XS.RELEASE, XS.IS_DOMAIN_INTRODUCED, XS.RESUME,
    XS.SET_TARGET, XS.SET_FEATURE, XS.GET_QUOTA, XS.SET_QUOTA,
)  # fmt: skip
NEW: Final = (XS.SET_FEATURE, XS.GET_QUOTA, XS.SET_QUOTA)

ONLY_PRIVILEGED: Final = tuple(
    Row(
        f"{type_.name} is refused to a domain",
        GUEST, type_, z(5), "EACCES",
        c_417=Differs("ENOSYS", Reason.NEW_MESSAGES) if type_ in NEW else None,
    )
    for type_ in PRIVILEGED
)  # fmt: skip

ONE_STRING: Final = (
    XS.DIRECTORY, XS.READ, XS.GET_PERMS, XS.MKDIR, XS.RM,
)  # fmt: skip

MALFORMED: Final = (
    *(
        Row(
            f"{type_.name} with {what}",
            DOM0, type_, payload, "EINVAL", before=(write("/a"),),
            c_417=NotAsked(Reason.STALE_ERRNO),
        )
        for type_ in ONE_STRING
        for what, payload in (
            ("an empty payload", b""),
            ("a path without NUL", b"/a"),
            ("bytes after the NUL", b"/a\0b"),
            ("two strings", z("/a", "/a")),
        )
    ),
    *(
        Row(f"{type_.name} with {what}", DOM0, type_, payload, "EINVAL")
        for type_ in (XS.GET_DOMAIN_PATH, XS.IS_DOMAIN_INTRODUCED, XS.RELEASE,
                      XS.RESUME)
        for what, payload in (
            ("an empty payload", b""),
            ("a number without NUL", b"5"),
            ("bytes after the NUL", b"5\0x"),
            ("two strings", z(5, 6)),
        )
    ),
    *(
        Row(
            f"{type_.name} with {len(strings)} strings and an unended one",
            DOM0, type_, z(*strings) + b"x", "EINVAL",
        )
        for type_, complete in (
            (XS.WATCH, ("/a", "t")),
            (XS.UNWATCH, ("/a", "t")),
            (XS.SET_PERMS, ("/a", "n0")),
            (XS.DIRECTORY_PART, ("/a", 0)),
            (XS.INTRODUCE, (5, 1, 1)),
            (XS.SET_TARGET, (5, 6)),
            (XS.WRITE, ("/a",)),
            (XS.CONTROL, ("help",)),
        )
        for strings in (complete[:count] for count in range(len(complete)))
    ),
    Row("UNWATCH with three strings", DOM0, XS.UNWATCH, z("/a", "t", 1), "EINVAL"),
    Row("WATCH with four strings", DOM0, XS.WATCH, z("/a", "t", 1, 1), "EINVAL"),
    Row(
        "DIRECTORY_PART with three strings",
        DOM0, XS.DIRECTORY_PART, z("/", 0, 0), "EINVAL",
    ),
    *(
        Row(
            f"TRANSACTION_END with {payload!r}",
            DOM0, XS.TRANSACTION_END, payload, "EINVAL", tx="t", before=(Start("t"),),
            then=(Step(DOM0, XS.TRANSACTION_END, z("T"), OK, "t"),),
        )
        for payload in (b"", z(""), b"T", z("T", ""), z("X"), b"T\0x", z("t"), z("TT"))
    ),
)  # fmt: skip

MESSAGES: Final = rows(
    DIRECTORY, READ, PERMISSIONS, WATCHES, TRANSACTIONS, WRITES, PARTS, DOMAIN_PATHS,
    NO_HANDLER, ONLY_PRIVILEGED, MALFORMED,
    (
        Row(
            "MKDIR in a domain's own place",
            GUEST, XS.MKDIR, z("a/b"), OK, before=HOME,
            then=(mkdir("a/b", who=GUEST), read("/local/domain/5/a/b", b"")),
        ),
    ),
)  # fmt: skip
