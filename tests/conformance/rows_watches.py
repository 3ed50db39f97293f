"""protocol.md 5.6: which events come, to whom, and in which order."""

from typing import Final

from tests.conformance.differences import Reason
from tests.conformance.table import (
    DOM0,
    DOM0_B,
    GUEST,
    HOME,
    OK,
    OTHER,
    Differs,
    Domain,
    Event,
    NotAsked,
    Row,
    Settle,
    Step,
    introduce,
    owned,
    perms,
    read,
    rows,
    watch,
    write,
    z,
)
from tests.conformance.wire import XS

W: Final = XS.WRITE


def a(path: str, token: str = "t") -> Event:
    """An event for domain 0."""
    return Event(DOM0, path, token)


def g(path: str, token: str = "t") -> Event:
    """An event for domain 5."""
    return Event(GUEST, path, token)


FIRST: Final = (
    *(
        Row(
            f"the first event comes for {what}",
            who, XS.WATCH, z(path, token), OK,
            events_after=(Event(who, path, token),),
        )
        for what, who, path, token in (
            ("a node", DOM0, "/tool", "t"),
            ("a missing node", DOM0, "/none/none", "t"),
            ("the root", DOM0, "/", "t"),
            ("a relative path, as it was sent", DOM0, "a/b", "t"),
            ("an empty token", DOM0, "/a", ""),
            ("a token with slashes and blanks", DOM0, "/a", "/b c//"),
            ("a token of bytes that are no text", DOM0, "/a", "\x80\x01é"),
            ("the longest event", DOM0, "/a", "t" * 4092),
            ("a special name", DOM0, "@releaseDomain", "t"),
            ("a special name that is none", DOM0, "@nothing", "t"),
            ("an @", DOM0, "@", "t"),
            ("a special name, watched by a domain", GUEST, "@introduceDomain", "t"),
            ("a node that a domain may not read", GUEST, "/tool", "t"),
            ("a domain's relative path", GUEST, "a/b", "t"),
        )
    ),
)  # fmt: skip

FIRES: Final = (
    Row("a write of a new node", DOM0, W, z("/a") + b"v", OK,
        before=(watch("/a"),), events=(a("/a"),)),
    Row("a write of an existing node", DOM0, W, z("/a") + b"new", OK,
        before=(write("/a"), watch("/a")), events=(a("/a"),)),
    Row("a write of the same value", DOM0, W, z("/a") + b"v", OK,
        before=(write("/a", b"v"), watch("/a")), events=(a("/a"),)),
    Row("MKDIR of a new node", DOM0, XS.MKDIR, z("/a"), OK,
        before=(watch("/a"),), events=(a("/a"),)),
    Row("MKDIR of an existing node is no change", DOM0, XS.MKDIR, z("/a"), OK,
        before=(write("/a"), watch("/a"))),
    Row("RM", DOM0, XS.RM, z("/a"), OK,
        before=(write("/a"), watch("/a")), events=(a("/a"),)),
    Row("RM of a missing node is no change", DOM0, XS.RM, z("/a"), OK,
        before=(watch("/a"),)),
    Row("SET_PERMS", DOM0, XS.SET_PERMS, z("/a", "n5"), OK,
        before=(write("/a"), watch("/a")), events=(a("/a"),)),
    Row("SET_PERMS of the same list", DOM0, XS.SET_PERMS, z("/a", "n0"), OK,
        before=(write("/a"), watch("/a")), events=(a("/a"),)),
    Row("a write of the root", DOM0, W, z("/") + b"v", OK,
        before=(watch("/"), watch("/tool", "deeper")), events=(a("/"),)),
    Row("a request that fails changes nothing", GUEST, W, z("/a") + b"v", "EACCES",
        before=(write("/a"), watch("/a"))),
    Row("READ and DIRECTORY fire nothing", DOM0, XS.READ, z("/a"), b"v",
        before=(write("/a"), watch("/a"))),
    Row("nodes made above have no event of their own",
        DOM0, W, z("/a/b/c") + b"v", OK,
        before=(watch("/a", "top"), watch("/a/b", "middle"), watch("/a/b/c", "node")),
        events=(a("/a/b/c", "top"), a("/a/b/c", "middle"), a("/a/b/c", "node"))),
)  # fmt: skip

MATCH: Final = (
    Row("a watch above", DOM0, W, z("/a/b/c") + b"v", OK,
        before=(watch("/a"),), events=(a("/a/b/c"),)),
    Row("a watch on the root", DOM0, W, z("/a/b/c") + b"v", OK,
        before=(watch("/"),), events=(a("/a/b/c"),)),
    Row("a watch below gets nothing of a write above", DOM0, W, z("/a") + b"v", OK,
        before=(write("/a/b"), watch("/a/b"))),
    Row("a watch on a neighbour with the same beginning", DOM0, W, z("/ab") + b"v", OK,
        before=(watch("/a"),)),
    Row("a watch on a node with a longer name", DOM0, W, z("/a") + b"v", OK,
        before=(watch("/ab"),)),
    Row("two tokens, two events, in the order of the watches",
        DOM0, W, z("/a") + b"v", OK,
        before=(watch("/a", "2"), watch("/a", "1")),
        events=(a("/a", "2"), a("/a", "1"))),
    Row("several watches that match, in the order in which they were set",
        DOM0, W, z("/a/b") + b"v", OK,
        before=(watch("/a/b", "3"), watch("/", "1"), watch("/a", "2")),
        events=(a("/a/b", "3"), a("/a/b", "1"), a("/a/b", "2"))),
    Row("every connection gets its own", DOM0, W, z("/a") + b"v", OK,
        before=(watch("/a"), watch("/a", who=DOM0_B)),
        events=(a("/a"), Event(DOM0_B, "/a", "t"))),
    Row("no event when the watch is gone", DOM0, W, z("/a") + b"v", OK,
        before=(watch("/a", "1"), watch("/a", "2"),
                Step(DOM0, XS.UNWATCH, z("/a", "1"), OK)),
        events=(a("/a", "2"),)),
    Row("a relative watch gets relative paths", DOM0, W,
        z("/local/domain/0/a/b") + b"v", OK,
        before=(watch("a"),), events=(a("a/b"),)),
    Row("an absolute watch gets absolute paths of a relative write",
        DOM0, W, z("a/b") + b"v", OK,
        before=(watch("/local/domain/0"),), events=(a("/local/domain/0/a/b"),)),
    Row("a domain's relative watch gets relative paths", DOM0, W,
        z("/local/domain/5/a/b") + b"v", OK,
        before=(*HOME, watch("a", who=GUEST)), events=(g("a/b"),)),
    Row("UNWATCH of a relative watch by its absolute path",
        DOM0, XS.UNWATCH, z("/local/domain/0/a", "t"), OK,
        before=(watch("a"),), then=(write("/local/domain/0/a"),)),
    Row("WATCH of a string without a slash is relative, even for the root's child",
        DOM0, W, z("/tool/a") + b"v", OK, before=(watch("tool"),)),
)  # fmt: skip

TREE: Final = (write("/a/1/2/3"), write("/a/1/4"), write("/a/1/2/5"))

REMOVALS: Final = (
    Row("RM of a tree tells watchers at and above the top once",
        DOM0, XS.RM, z("/a/1"), OK,
        before=(*TREE, watch("/a/1", "at"), watch("/a", "above"), watch("/", "root")),
        events=(a("/a/1", "at"), a("/a/1", "above"), a("/a/1", "root"))),
    Row("RM of a tree tells watchers within by their own path",
        DOM0, XS.RM, z("/a/1"), OK,
        before=(*TREE, watch("/a/1/2"),), events=(a("/a/1/2"),)),
    Row("RM of a tree tells of children first, the top last",
        DOM0, XS.RM, z("/a/1"), OK,
        before=(*TREE, *(watch(p) for p in (
            "/a/1", "/a/1/2", "/a/1/2/3", "/a/1/4", "/a/1/2/5"))),
        events=tuple(a(p) for p in (
            "/a/1/2/3", "/a/1/2/5", "/a/1/2", "/a/1/4", "/a/1"))),
    Row("RM of a tree does not tell watchers of what was not there",
        DOM0, XS.RM, z("/a/1"), OK, before=(*TREE, watch("/a/1/9"))),
    Row("RM of a tree tells a domain within of what it could read",
        DOM0, XS.RM, z("/a"), OK,
        before=(*owned("/a", "n0"), *owned("/a/b", "n0", "r5"), *owned("/a/c", "n0"),
                watch("/a/b", who=GUEST), watch("/a/c", who=GUEST),
                watch("/a", "top", who=GUEST)),
        events=(g("/a/b"),)),
)  # fmt: skip

RIGHTS: Final = (
    Row("a domain gets no event of what it may not read (XSA-115)",
        DOM0, W, z("/a") + b"v", OK,
        before=(*owned("/a", "n0"), watch("/", who=GUEST), watch("/a", who=GUEST))),
    Row("a domain gets events of what it may read",
        DOM0, W, z("/a") + b"v", OK,
        before=(*owned("/a", "n0", "r5"), watch("/", who=GUEST)), events=(g("/a"),)),
    Row("a domain that may only write gets none",
        DOM0, W, z("/a") + b"v", OK,
        before=(*owned("/a", "n0", "w5"), watch("/a", who=GUEST))),
    Row("a domain gets events of all in a directory that it may read",
        DOM0, W, z("/a/b") + b"v", OK,
        before=(*owned("/a", "n0", "r5"), *owned("/a/b", "n0"),
                watch("/a/b", who=GUEST)),
        events=(g("/a/b"),)),
    Row("but not of what is deeper",
        DOM0, W, z("/a/b/c") + b"v", OK,
        before=(*owned("/a", "n0", "r5"), *owned("/a/b", "n0"), *owned("/a/b/c", "n0"),
                watch("/a", who=GUEST))),
    Row("a domain is told that a node went which it could read",
        DOM0, XS.RM, z("/a/b"), OK,
        before=(*owned("/a", "n0"), *owned("/a/b", "n0", "r5"),
                watch("/a/b", who=GUEST)),
        events=(g("/a/b"),)),
    Row("a domain is not told that a node went which it could not read",
        DOM0, XS.RM, z("/a/b"), OK,
        before=(*owned("/a", "n0"), *owned("/a/b", "n0"), watch("/a/b", who=GUEST))),
    Row("a domain that loses its rights is told so",
        DOM0, XS.SET_PERMS, z("/a", "n0"), OK,
        before=(*owned("/a", "n0", "r5"), watch("/a", who=GUEST)), events=(g("/a"),)),
    Row("and hears no more",
        DOM0, W, z("/a") + b"v", OK,
        before=(*owned("/a", "n0", "r5"), watch("/a", who=GUEST), perms("/a", "n0"),
                Settle())),
    Row("a domain that gains rights is told so",
        DOM0, XS.SET_PERMS, z("/a", "n0", "r5"), OK,
        before=(*owned("/a", "n0"), watch("/a", who=GUEST)), events=(g("/a"),)),
    Row("a domain's own write tells it before the reply",
        GUEST, W, z("a") + b"v", OK,
        before=(*HOME, watch("a", who=GUEST)), events=(g("a"),)),
    Row("one domain's write tells another one that may read",
        GUEST, W, z("a") + b"v", OK,
        before=(*HOME, perms("/local/domain/5", "n5", "r6"),
                watch("/local/domain/5", who=OTHER)),
        events=(Event(OTHER, "/local/domain/5/a", "t"),)),
)  # fmt: skip

LONG: Final = "t" * 4000

LENGTH: Final = (
    Row("an event of 4096 bytes comes", DOM0, W, z("/a/" + "b" * 91) + b"v", OK,
        before=(watch("/a", LONG),), events=(a("/a/" + "b" * 91, LONG),)),
    Row("an event of 4097 bytes is dropped (XSA-324)",
        DOM0, W, z("/a/" + "b" * 92) + b"v", OK,
        before=(watch("/a", LONG), watch("/a", "short")),
        events=(a("/a/" + "b" * 92, "short"),)),
)  # fmt: skip

NEW_DEPTH: Final = NotAsked(Reason.WATCH_DEPTH)

DEPTH: Final = (
    Row("WATCH with a depth", DOM0, XS.WATCH, z("/a", "t", 1), OK,
        events_after=(a("/a"),), c_417=Differs("EINVAL", Reason.WATCH_DEPTH, (), ())),
    *(
        Row(f"depth {depth}, {path} written", DOM0, W, z(path) + b"v", OK,
            before=(write("/a/b/c"), watch("/a", "t", str(depth))),
            events=(a(path),) if comes else (), c_417=NEW_DEPTH)
        for depth, path, comes in (
            (0, "/a", True), (0, "/a/b", False), (1, "/a", True), (1, "/a/b", True),
            (1, "/a/b/c", False), (2, "/a/b/c", True), (99, "/a/b/c", True),
        )
    ),
    *(
        Row(f"depth {depth} from the root, {path} written", DOM0, W, z(path) + b"v", OK,
            before=(write("/a/b"), watch("/", "t", str(depth))),
            events=(a(path),) if comes else (), c_417=NEW_DEPTH)
        for depth, path, comes in (
            (0, "/", True), (0, "/a", False), (1, "/a", True), (1, "/a/b", False),
            (2, "/a/b", True),
        )
    ),
    Row("depth 0 and the removal of the tree around", DOM0, XS.RM, z("/a"), OK,
        before=(write("/a/b"), watch("/a/b", "t", "0")), events=(a("/a/b"),),
        c_417=NEW_DEPTH),
    Row("depth -1", DOM0, XS.WATCH, z("/a", "t", -1), "EINVAL"),
    Row("the same watch with another depth is the same", DOM0, XS.WATCH,
        z("/a", "t", 2), "EEXIST", before=(watch("/a", "t", "1"),), c_417=NEW_DEPTH),
    Row("UNWATCH knows no depth", DOM0, XS.UNWATCH, z("/a", "t"), OK,
        before=(watch("/a", "t", "1"),), then=(write("/a"),), c_417=NEW_DEPTH),
    Row("a domain watches with a depth", DOM0, W, z("/local/domain/5/a/b") + b"v", OK,
        before=(*HOME, watch("a", "1", "1", who=GUEST),
                watch("a", "0", "0", who=GUEST)),
        events=(g("a/b", "1"),), c_417=NEW_DEPTH),
)  # fmt: skip

NEW_RELEASED: Final = (read("/"), read("/", who=DOM0_B), introduce(7))
"""Domain 7 is introduced. C xenstored drops the connection that is next to the
asker's in its list only after its reply, so there is another one between."""

SPECIALS: Final = (
    Row("@introduceDomain", DOM0, XS.INTRODUCE, z(7, 1, 1), OK, hypervisor=True,
        before=(watch("@introduceDomain"), watch("@releaseDomain", "no")),
        events=(a("@introduceDomain"),)),
    Row("@releaseDomain at RELEASE", DOM0, XS.RELEASE, z(7), OK, hypervisor=True,
        before=(*NEW_RELEASED, watch("@releaseDomain"),
                watch("@introduceDomain", "no")),
        events=(a("@releaseDomain"),)),
    Row("a watch on the root sees no special event",
        DOM0, XS.INTRODUCE, z(7, 1, 1), OK, hypervisor=True, before=(watch("/"),)),
    Row("a domain sees none without a right (XSA-115)",
        DOM0, XS.INTRODUCE, z(7, 1, 1), OK, hypervisor=True,
        before=(watch("@introduceDomain", who=GUEST),)),
    Row("a domain sees them that SET_PERMS granted",
        DOM0, XS.INTRODUCE, z(7, 1, 1), OK, hypervisor=True,
        before=(perms("@introduceDomain", "n0", "r5"),
                watch("@introduceDomain", who=GUEST),
                watch("@introduceDomain", who=OTHER)),
        events=(g("@introduceDomain"),)),
    Row("every domain may see @releaseDomain",
        DOM0, XS.RELEASE, z(7), OK, hypervisor=True,
        before=(*NEW_RELEASED, watch("@releaseDomain", who=GUEST)),
        events=(g("@releaseDomain"),),
        c_417=Differs(OK, Reason.DOMID_ANY, ())),
    Row("@releaseDomain at a domain's death, after the events of its nodes",
        DOM0, XS.GET_DOMAIN_PATH, z(5), z("/local/domain/5"), hypervisor=True,
        before=(*owned("/a", "n7"), watch("/a"), watch("@releaseDomain"), introduce(7),
                Domain("destroy", 7)),
        events=(a("/a"), a("@releaseDomain"))),
    Row("depth 1 tells which domain was introduced",
        DOM0, XS.INTRODUCE, z(7, 1, 1), OK, hypervisor=True,
        before=(watch("@introduceDomain", "1", "1"), watch("@introduceDomain")),
        events=(a("@introduceDomain"), a("@introduceDomain/7", "1")), c_417=NEW_DEPTH),
    Row("depth 1 tells which domain was released",
        DOM0, XS.RELEASE, z(7), OK, hypervisor=True,
        before=(*NEW_RELEASED, watch("@releaseDomain", "1", "1")),
        events=(a("@releaseDomain/7", "1"),), c_417=NEW_DEPTH),
    Row("depth 0 of a special name is never met",
        DOM0, XS.RELEASE, z(7), OK, hypervisor=True,
        before=(*NEW_RELEASED, watch("@releaseDomain", "0", "0")), c_417=NEW_DEPTH),
    Row("@releaseDomain/<domid> is that domain alone",
        DOM0, XS.RELEASE, z(7), OK, hypervisor=True,
        before=(*NEW_RELEASED, watch("@releaseDomain/7", "7"),
                watch("@releaseDomain/6", "6")),
        events=(a("@releaseDomain/7", "7"),),
        c_417=Differs(OK, Reason.WATCH_DEPTH, ())),
    Row("SET_PERMS of a special name is an event of it",
        DOM0, XS.SET_PERMS, z("@releaseDomain", "n0"), OK,
        before=(watch("@releaseDomain"),), events=(a("@releaseDomain"),),
        c_417=Differs(OK, Reason.SPECIAL_NAMES, ())),
)  # fmt: skip

WATCH_ROWS: Final = rows(FIRST, FIRES, MATCH, REMOVALS, RIGHTS, LENGTH, DEPTH, SPECIALS)
