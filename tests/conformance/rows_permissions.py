"""protocol.md 5.7: who may do what, and whose a new node is."""

from typing import Final

from tests.conformance.differences import Reason
from tests.conformance.table import (
    ABSENT_DOMID,
    DOM0,
    GUEST,
    HOME,
    NEW_OTHER,
    OK,
    OTHER,
    PRESENT_DOMID,
    Differs,
    Domain,
    NotAsked,
    Row,
    Step,
    get_perms,
    introduce,
    owned,
    perms,
    read,
    rows,
    write,
    z,
)
from tests.conformance.wire import XS

LISTS: Final = (
    # perms of /a             reads  writes  sets permissions
    (("n0",), False, False, False),
    (("r0",), True, False, False),
    (("w0",), False, True, False),
    (("b0",), True, True, False),
    (("n5",), True, True, True),
    (("b5",), True, True, True),
    (("n6",), False, False, False),
    (("n0", "n5"), False, False, False),
    (("n0", "r5"), True, False, False),
    (("n0", "w5"), False, True, False),
    (("n0", "b5"), True, True, False),
    (("r0", "n5"), False, False, False),
    (("b0", "r5"), True, False, False),
    (("n0", "r5", "w5"), True, False, False),
    (("n0", "w5", "r5"), False, True, False),
    (("n0", "n5", "b5"), False, False, False),
    (("n0", "r6"), False, False, False),
    (("r0", "r6"), True, False, False),
    (("n0", "r6", "w5"), False, True, False),
    (("n6", "b6", "r5"), True, False, False),
    (("n5", "n5"), True, True, True),
)
"""What domain 5 may do: the owner all; others by the first entry that names them,
and by the owner's letter if there is none."""

RIGHTS: Final = tuple(
    Row(
        f"{' '.join(entries)}: domain 5 {'may' if allowed else 'may not'} {verb}",
        GUEST, type_, z("/a", *tail),
        expect if allowed else "EACCES",
        before=owned("/a", *entries),
    )
    for entries, *may in LISTS
    for (verb, type_, tail, expect), allowed in zip(
        (
            ("read", XS.READ, (), b"v"),
            ("write", XS.WRITE, ("new",), OK),
            ("set permissions", XS.SET_PERMS, ("n5",), OK),
        ),
        may,
        strict=True,
    )
)  # fmt: skip

OWNERS: Final = (
    *(
        Row(
            f"the owner sets permissions of {' '.join(entries)}",
            GUEST, XS.SET_PERMS, z("/a", "r5", "w6"), OK, before=owned("/a", *entries),
            then=(get_perms("/a", "r5", "w6"),),
        )
        for entries, _, _, owns in LISTS
        if owns
    ),
    Row(
        "an entry for its owner does not bind the owner",
        GUEST, XS.WRITE, z("/a") + b"new", OK, before=owned("/a", "n5", "n5"),
    ),
    Row(
        "no permission binds domain 0",
        DOM0, XS.WRITE, z("/a") + b"new", OK, before=owned("/a", "n5", "n0"),
        then=(read("/a", b"new"),),
    ),
    Row(
        "domain 0 changes the owner",
        DOM0, XS.SET_PERMS, z("/a", "n6"), OK, before=owned("/a", "n5"),
        then=(read("/a", "EACCES", who=GUEST), read("/a", b"v", who=OTHER)),
    ),
    Row(
        "the owner takes rights from others",
        GUEST, XS.SET_PERMS, z("/a", "n5"), OK, before=owned("/a", "r5"),
        then=(read("/a", "EACCES", who=OTHER),),
    ),
    Row(
        "the owner grants rights to another domain",
        GUEST, XS.SET_PERMS, z("/a", "n5", "r6"), OK, before=owned("/a", "n5"),
        then=(read("/a", b"v", who=OTHER),
              Step(OTHER, XS.WRITE, z("/a", "w"), "EACCES")),
    ),
)  # fmt: skip

INHERITED: Final = (
    Row(
        "a new node has its directory's list",
        DOM0, XS.WRITE, z("/a/b"), OK, before=owned("/a", "n5", "r6", "w7"),
        then=(get_perms("/a/b", "n5", "r6", "w7"),),
    ),
    Row(
        "so has each of several new nodes",
        DOM0, XS.MKDIR, z("/a/b/c"), OK, before=owned("/a", "n5", "r6"),
        then=(get_perms("/a/b", "n5", "r6"), get_perms("/a/b/c", "n5", "r6")),
    ),
    Row(
        "a new node of a domain is its own, with the rest of the list",
        GUEST, XS.WRITE, z("/a/b"), OK, before=owned("/a", "w6", "b5", "r0"),
        then=(get_perms("/a/b", "w5", "b5", "r0"),),
    ),
    Row(
        "so is each of several new nodes of a domain",
        GUEST, XS.MKDIR, z("/a/b/c"), OK, before=owned("/a", "n0", "b5"),
        then=(get_perms("/a/b", "n5", "b5"), get_perms("/a/b/c", "n5", "b5"),
              get_perms("/a", "n0", "b5")),
    ),
    Row(
        "a write does not change whose a node is",
        GUEST, XS.WRITE, z("/a") + b"new", OK, before=owned("/a", "n0", "b5"),
        then=(get_perms("/a", "n0", "b5"),),
    ),
    Row(
        "the nearest node above is what counts for several new nodes",
        GUEST, XS.WRITE, z("/a/b/c") + b"v", "EACCES", before=owned("/a", "r0"),
    ),
    Row(
        "a domain removes what it may write, with what it may not below",
        GUEST, XS.RM, z("/a"), OK,
        before=(*owned("/a", "n0", "b5"), *owned("/a/b", "n0")),
        then=(read("/a/b", "ENOENT"),),
    ),
    Row(
        "a domain may remove its node from a directory that it may not write",
        GUEST, XS.RM, z("/a/b"), OK,
        before=(*owned("/a", "n0", "r5"), *owned("/a/b", "n5")),
        then=(read("/a/b", "ENOENT"),),
    ),
)  # fmt: skip

ABSENT: Final = f"r{ABSENT_DOMID}"

OTHERS_HOME: Final = owned("/local/domain/6", "n6")
"""C xenstored tells a new domain from the one before by what was written in between,
which the removal of a domain's own nodes is."""

IGNORED: Final = (
    Row(
        "an entry for a domain that does not exist is kept and shown",
        DOM0, XS.SET_PERMS, z("/a", "n0", ABSENT, "r5"), OK, before=(write("/a"),),
        then=(get_perms("/a", "n0", ABSENT, "r5"), read("/a", b"v", who=GUEST)),
    ),
    Row(
        "an entry for a domain that is not introduced is good",
        DOM0, XS.SET_PERMS, z("/a", f"n{PRESENT_DOMID}"), OK, before=(write("/a"),),
        then=(get_perms("/a", f"n{PRESENT_DOMID}"),),
    ),
    Row(
        "an entry for a domain that comes later stays ignored (XSA-417)",
        OTHER, XS.READ, z("/a"), "EACCES", hypervisor=True,
        before=(Domain("destroy", 6), *owned("/a", "n0", "r6"), Domain("create", 6),
                introduce(6)),
    ),
    Row(
        "an entry for a domain that died stays ignored for the next one (XSA-322)",
        OTHER, XS.READ, z("/a"), "EACCES", hypervisor=True,
        before=(*owned("/a", "n0", "r6"), *OTHERS_HOME, *NEW_OTHER),
    ),
    Row(
        "an entry for a domain that died is gone",
        DOM0, XS.GET_PERMS, z("/a"), z("n0"), hypervisor=True,
        before=(*owned("/a", "n0", "r6"), *OTHERS_HOME, Domain("destroy", 6)),
        c_417=Differs(z("n0", "r6"), Reason.DEAD_ENTRIES),
    ),
    Row(
        "and when the node is written in between",
        OTHER, XS.READ, z("/a"), "EACCES", hypervisor=True,
        before=(*owned("/a", "n0", "r6"), *OTHERS_HOME, Domain("destroy", 6),
                write("/a"), Domain("create", 6), introduce(6), write("/a")),
    ),
    Row(
        "permissions set again count for the new domain",
        OTHER, XS.READ, z("/a"), b"v", hypervisor=True,
        before=(*owned("/a", "n0", "r6"), *OTHERS_HOME, *NEW_OTHER,
                perms("/a", "n0", "r6")),
    ),
    Row(
        "an ignored entry does not stand before a later one",
        OTHER, XS.READ, z("/a"), b"v", hypervisor=True,
        before=(*owned("/a", "r0", "n6"), *OTHERS_HOME, *NEW_OTHER),
    ),
    Row(
        "nodes of a domain go with it, and all below (XSA-419)",
        DOM0, XS.READ, z("/a/b"), "ENOENT", hypervisor=True,
        before=(*owned("/a", "n6"), *owned("/a/b", "n5"), *owned("/c", "n5"),
                *owned("/c/d", "n6"), Domain("destroy", 6)),
        then=(read("/a", "ENOENT"), read("/c", b"v"), read("/c/d", "ENOENT")),
    ),
    Row(
        "a domain begins anew with none of its quota used (XSA-483)",
        OTHER, XS.WRITE, z("a"), OK, hypervisor=True,
        before=(*owned("/local/domain/6", "n6"),
                *(write(f"d{i // 100}/{i}", b"", who=OTHER) for i in range(980)),
                *NEW_OTHER,
                *owned("/local/domain/6", "n6"),
                *(write(f"d{i // 100}/{i}", b"", who=OTHER) for i in range(980))),
    ),
)  # fmt: skip

ANY: Final = "r32757"

EVERYBODY: Final = (
    Row(
        "DOMID_ANY grants to every domain",
        GUEST, XS.READ, z("/a"), b"v", before=owned("/a", "n0", ANY),
        c_417=Differs("EACCES", Reason.DOMID_ANY),
    ),
    Row(
        "DOMID_ANY grants no more than it says",
        GUEST, XS.WRITE, z("/a") + b"new", "EACCES", before=owned("/a", "n0", ANY),
    ),
    Row(
        "an entry before DOMID_ANY comes first",
        GUEST, XS.READ, z("/a"), "EACCES", before=owned("/a", "n0", "n5", ANY),
    ),
    Row(
        "an entry behind DOMID_ANY comes too late",
        GUEST, XS.WRITE, z("/a") + b"new", "EACCES",
        before=owned("/a", "n0", ANY, "b5"),
        c_417=Differs(OK, Reason.DOMID_ANY),
    ),
    Row(
        "DOMID_ANY is shown",
        DOM0, XS.GET_PERMS, z("/a"), z("n0", ANY), before=owned("/a", "n0", ANY),
    ),
    Row(
        "a domain grants to all others",
        OTHER, XS.READ, z("/local/domain/5/a"), b"v",
        before=(*HOME, write("a", who=GUEST), perms("a", "n5", ANY, who=GUEST)),
        c_417=Differs("EACCES", Reason.DOMID_ANY),
    ),
    Row(
        "DOMID_ANY of a domain without the feature is ignored",
        GUEST, XS.READ, z("/a"), "EACCES", hypervisor=True,
        before=(Domain("destroy", 6), Domain("create", 6),
                Step(DOM0, XS.SET_FEATURE, z(6, 2), OK), introduce(6),
                *owned("/a", "n6"), perms("/a", "n6", ANY, who=OTHER)),
        then=(get_perms("/a", "n6", ANY),),
        c_417=NotAsked(Reason.NEW_MESSAGES),
    ),
)  # fmt: skip

TARGETS: Final = (
    Row(
        "SET_TARGET gives a domain another one's rights",
        OTHER, XS.READ, z("/a"), b"v", hypervisor=True,
        before=(*owned("/a", "n5"), Step(DOM0, XS.SET_TARGET, z(6, 5), OK)),
    ),
    Row(
        "as owner, too",
        OTHER, XS.SET_PERMS, z("/a", "n5", "r0"), OK, hypervisor=True,
        before=(*owned("/a", "n5"), Step(DOM0, XS.SET_TARGET, z(6, 5), OK)),
    ),
    Row(
        "by an entry in the list",
        OTHER, XS.READ, z("/a"), b"v", hypervisor=True,
        before=(*owned("/a", "n0", "r5"), Step(DOM0, XS.SET_TARGET, z(6, 5), OK)),
    ),
    Row(
        "but a new node is the domain's own",
        OTHER, XS.WRITE, z("/a/b"), OK, hypervisor=True,
        before=(*owned("/a", "n5"), Step(DOM0, XS.SET_TARGET, z(6, 5), OK)),
        then=(get_perms("/a/b", "n6"),),
    ),
    Row(
        "the target gets no rights of the other",
        GUEST, XS.READ, z("/a"), "EACCES", hypervisor=True,
        before=(*owned("/a", "n6"), Step(DOM0, XS.SET_TARGET, z(6, 5), OK)),
    ),
    Row(
        "relative paths stay the domain's own",
        OTHER, XS.READ, z("name"), b"six", hypervisor=True,
        before=(*owned("/local/domain/5/name", "n5"),
                write("/local/domain/6/name", b"six"),
                perms("/local/domain/6/name", "n6"),
                Step(DOM0, XS.SET_TARGET, z(6, 5), OK)),
    ),
)  # fmt: skip

PERMISSION_ROWS: Final = rows(RIGHTS, OWNERS, INHERITED, IGNORED, EVERYBODY, TARGETS)
