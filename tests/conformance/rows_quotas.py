"""protocol.md 5.4: what a domain may use up, at the exact edge of each default.

Path lengths are in rows_paths.py; outstanding requests, which get no answer, are in
test_connections.py.
"""

from typing import Final

from tests.conformance.differences import Reason
from tests.conformance.table import (
    ANYTHING,
    DOM0,
    DOM0_B,
    GUEST,
    HOME,
    NEW_OTHER,
    OK,
    OTHER,
    Differs,
    Event,
    NotAsked,
    Preparation,
    Row,
    Start,
    Step,
    commit,
    control,
    directory,
    get_perms,
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


def set_quota(domid: int, name: str, value: int) -> Step:
    return Step(DOM0, XS.SET_QUOTA, z(domid, name, value), OK)


NEAR_NODES: Final = (
    *HOME,
    # 8 directories with 123 nodes each, and the domain's own node: 993.
    *(
        write(f"{directory_}/{name:03d}", b"", who=GUEST)
        for directory_ in "abcdefgh"
        for name in range(123)
    ),
)
"""Domain 5 owns 993 nodes, in directories whose names fit into a node's size."""

NODES: Final = (
    Row(
        "a domain has 999 nodes",
        GUEST, XS.WRITE, z("n5") + b"v", OK,
        before=(*NEAR_NODES, *(write(f"n{i}", b"", who=GUEST) for i in range(5))),
    ),
    Row(
        "a domain has no 1000 nodes (nodes)",
        GUEST, XS.WRITE, z("n6") + b"v", "ENOSPC",
        before=(*NEAR_NODES, *(write(f"n{i}", b"", who=GUEST) for i in range(6))),
        then=(read("n6", "ENOENT", who=GUEST), write("n5", b"still", who=GUEST)),
        c_417=Differs(OK, Reason.QUOTA_EDGE),
    ),
    Row(
        "a domain with all of its nodes makes one when it has removed one",
        GUEST, XS.MKDIR, z("n6"), OK,
        before=(*NEAR_NODES, *(write(f"n{i}", b"", who=GUEST) for i in range(6)),
                rm("n0", who=GUEST)),
    ),
    Row(
        "a deep node over the quota leaves nothing behind (XSA-414)",
        GUEST, XS.WRITE, z("x/y/z") + b"v", "ENOSPC",
        before=(*NEAR_NODES, *(write(f"n{i}", b"", who=GUEST) for i in range(6))),
        then=(read("x", "ENOENT", who=GUEST), read("x/y", "ENOENT", who=GUEST)),
    ),
    Row(
        "domain 0 makes nodes for a domain that has all of its own",
        DOM0, XS.WRITE, z("/local/domain/5/n6") + b"v", OK,
        before=(*NEAR_NODES, *(write(f"n{i}", b"", who=GUEST) for i in range(6))),
        then=(get_perms("/local/domain/5/n6", "n5"),),
    ),
    Row(
        "nodes made in a transaction count in it",
        GUEST, XS.WRITE, z("y") + b"v", "ENOSPC", tx="t",
        before=(*NEAR_NODES, *(write(f"n{i}", b"", who=GUEST) for i in range(5)),
                Start("t", GUEST), write("x", who=GUEST, tx="t")),
        c_417=Differs(OK, Reason.QUOTA_AT_END),
    ),
    Row(
        "a transaction over the quota of nodes fails",
        GUEST, XS.TRANSACTION_END, z("T"), "ENOSPC", tx="t",
        before=(*NEAR_NODES, *(write(f"n{i}", b"", who=GUEST) for i in range(5)),
                Start("t", GUEST), write("a/x", who=GUEST, tx="t"),
                write("b/y", who=GUEST)),
        then=(read("a/x", "ENOENT", who=GUEST),
              Step(GUEST, XS.TRANSACTION_END, z("F"), "ENOENT", "t")),
    ),
)  # fmt: skip

WATCHES: Final = (
    Row(
        "a domain has 127 watches",
        GUEST, XS.WATCH, z("a", 127), OK,
        before=tuple(watch("a", str(i), who=GUEST) for i in range(1, 127)),
        events_after=(Event(GUEST, "a", "127"),),
    ),
    Row(
        "a domain has no 128 watches (watches)",
        GUEST, XS.WATCH, z("a", 128), "ENOSPC",
        before=tuple(watch("a", str(i), who=GUEST) for i in range(1, 128)),
        c_417=Differs(OK, Reason.QUOTA_EDGE, (), (Event(GUEST, "a", "128"),)),
    ),
    Row(
        "too many watches are ENOSPC, however many",
        GUEST, XS.WATCH, z("a", 130), "ENOSPC",
        before=tuple(
            Step(GUEST, XS.WATCH, z("a", i), ANYTHING) for i in range(1, 130)
        ),
        c_417=Differs("E2BIG", Reason.QUOTA_ERROR),
    ),
    Row(
        "a watch taken back makes room for another",
        GUEST, XS.WATCH, z("a", 128), OK,
        before=(
            *(watch("a", str(i), who=GUEST) for i in range(1, 128)),
            Step(GUEST, XS.UNWATCH, z("a", 1), OK),
        ),
        events_after=(Event(GUEST, "a", "128"),),
    ),
    Row(
        "a double comes before the quota",
        GUEST, XS.WATCH, z("a", 1), "EEXIST",
        before=tuple(watch("a", str(i), who=GUEST) for i in range(1, 128)),
    ),
)  # fmt: skip

TRANSACTIONS: Final = (
    Row(
        "a domain has 9 transactions",
        GUEST, XS.TRANSACTION_START, z(""), text("[0-9]+"),
        before=tuple(Start(f"t{i}", GUEST) for i in range(8)),
    ),
    Row(
        "a domain has no 10 transactions (transactions)",
        GUEST, XS.TRANSACTION_START, z(""), "ENOSPC",
        before=tuple(Start(f"t{i}", GUEST) for i in range(9)),
        c_417=Differs(text("[0-9]+"), Reason.QUOTA_EDGE),
    ),
    Row(
        "a transaction that ended makes room for another",
        GUEST, XS.TRANSACTION_START, z(""), text("[0-9]+"),
        before=(*(Start(f"t{i}", GUEST) for i in range(9)),
                commit("t3", who=GUEST)),
    ),
    Row(
        "domain 0 has as many transactions as it likes",
        DOM0, XS.TRANSACTION_START, z(""), text("[0-9]+"),
        before=tuple(Start(f"t{i}") for i in range(100)),
    ),
)  # fmt: skip

TOUCHED: Final[tuple[Preparation, ...]] = (
    *HOME,
    Start("t", GUEST),
    # The directory of the missing nodes counts as well.
    *(read(f"x{i}", "ENOENT", who=GUEST, tx="t") for i in range(1021)),
)
"""A transaction that has touched 1,022 nodes."""

TRANSACTION_NODES: Final = (
    Row(
        "a transaction touches 1023 nodes",
        GUEST, XS.READ, z("y0"), "ENOENT", tx="t", before=TOUCHED,
        then=(commit("t", who=GUEST),),
    ),
    Row(
        "a transaction touches no 1024 nodes (transaction-nodes)",
        GUEST, XS.READ, z("y1"), "ENOSPC", tx="t",
        before=(*TOUCHED, read("y0", "ENOENT", who=GUEST, tx="t")),
        c_417=Differs("ENOENT", Reason.QUOTA_EDGE),
    ),
    Row(
        "a transaction with all of its nodes goes on with them",
        GUEST, XS.READ, z("x7"), "ENOENT", tx="t",
        before=(*TOUCHED, read("y0", "ENOENT", who=GUEST, tx="t")),
    ),
)  # fmt: skip


def _list_of(count: int) -> bytes:
    return z("a", *("n5" for _ in range(count)))


NODE_PERMISSIONS: Final = (
    Row(
        "a domain gives a node 4 permissions",
        GUEST, XS.SET_PERMS, _list_of(4), OK,
        before=(*HOME, write("a", who=GUEST)),
    ),
    Row(
        "a domain gives a node no 5 permissions (node-permissions)",
        GUEST, XS.SET_PERMS, _list_of(5), "ENOSPC",
        before=(*HOME, write("a", who=GUEST)),
        then=(get_perms("/local/domain/5/a", "n5"),),
        c_417=Differs(OK, Reason.QUOTA_EDGE),
    ),
    Row(
        "the quota of permissions comes before their syntax",
        GUEST, XS.SET_PERMS, z("a", *"xxxxxx"), "ENOSPC",
        before=(*HOME, write("a", who=GUEST)),
    ),
    Row(
        "domain 0 gives a node as many permissions as it likes",
        DOM0, XS.SET_PERMS, z("/a", *("n5" for _ in range(100))), OK,
        before=(write("/a"),),
    ),
)  # fmt: skip


def _sized(size: int, entries: int = 1) -> bytes:
    """A value that makes a node so big: 16 bytes, 8 for a permission, the value."""
    return bytes(size - 16 - 8 * entries)


HEADER_417: Final = Differs("ENOSPC", Reason.NODE_HEADER)

NODE_SIZE: Final = (
    Row(
        "a domain's node has 2039 bytes, by all accounts",
        GUEST, XS.WRITE, z("a") + _sized(2039), OK, before=HOME,
    ),
    Row(
        "a domain's node has 2047 bytes",
        GUEST, XS.WRITE, z("a") + _sized(2047), OK, before=HOME, c_417=HEADER_417,
    ),
    Row(
        "a domain's node has no 2048 bytes (node-size, XSA-272)",
        GUEST, XS.WRITE, z("a") + _sized(2048), "ENOSPC", before=HOME,
        then=(read("a", "ENOENT", who=GUEST),),
    ),
    Row(
        "a node that cannot grow keeps its value",
        GUEST, XS.WRITE, z("a") + _sized(2048), "ENOSPC",
        before=(*HOME, write("a", b"old", who=GUEST)),
        then=(read("a", b"old", who=GUEST),),
    ),
    Row(
        "each permission of a domain's node counts 8 bytes",
        GUEST, XS.WRITE, z("a") + _sized(2048, 3), "ENOSPC",
        before=(*HOME, write("a", who=GUEST),
                perms("a", "n5", "r0", "r6", who=GUEST)),
    ),
    Row(
        "each permission of a domain's node counts 8 bytes and no more",
        GUEST, XS.WRITE, z("a") + _sized(2039, 3), OK,
        before=(*HOME, write("a", who=GUEST),
                perms("a", "n5", "r0", "r6", who=GUEST)),
    ),
    Row(
        "permissions do not fit into a full node",
        GUEST, XS.SET_PERMS, z("a", "n5", "r0", "r6"), "ENOSPC",
        before=(*HOME, write("a", _sized(2034), who=GUEST)),
    ),
    Row(
        "the names of children count, with a NUL each",
        GUEST, XS.MKDIR, z("d/" + "x" * 59), "ENOSPC",
        before=(*HOME, *(write(f"d/{i:063d}", who=GUEST) for i in range(30)),
                write("d", bytes(2048 - 24 - 30 * 64 - 60), who=GUEST)),
    ),
    Row(
        "the names of children count no more than that",
        GUEST, XS.MKDIR, z("d/" + "x" * 50), OK,
        before=(*HOME, *(write(f"d/{i:063d}", who=GUEST) for i in range(30)),
                write("d", bytes(2048 - 24 - 30 * 64 - 60), who=GUEST)),
    ),
    Row(
        "domain 0 writes more into a domain's node than it could",
        DOM0, XS.WRITE, z("/local/domain/5/a") + bytes(4000), OK,
        before=(*HOME, write("a", who=GUEST)),
        then=(read("a", bytes(4000), who=GUEST),),
    ),
    Row(
        "a domain takes a name out of a directory that is too big for it",
        GUEST, XS.RM, z("a"), OK,
        before=(*HOME, write("a", who=GUEST),
                write("/local/domain/5", bytes(4000))),
        then=(directory("/local/domain/5", b""),),
    ),
)  # fmt: skip

SET: Final = (
    Row(
        "CONTROL quota set moves the edge for domains that come later",
        OTHER, XS.WRITE, z("b") + b"v", "ENOSPC", hypervisor=True,
        before=(control("quota", "set", "nodes", "3"), *NEW_OTHER,
                *owned("/local/domain/6", "n6"), write("a", who=OTHER)),
        c_417=Differs(OK, Reason.QUOTA_EDGE),
    ),
    Row(
        "CONTROL quota set leaves room below the edge",
        OTHER, XS.WRITE, z("b") + b"v", OK, hypervisor=True,
        before=(control("quota", "set", "nodes", "4"), *NEW_OTHER,
                *owned("/local/domain/6", "n6"), write("a", who=OTHER)),
    ),
    Row(
        "CONTROL quota set moves the edge for domains that are there",
        GUEST, XS.WRITE, z("b") + b"v", "ENOSPC",
        before=(*HOME, write("a", who=GUEST), control("quota", "set", "nodes", "2")),
    ),
    Row(
        "SET_QUOTA moves the edge for one domain",
        GUEST, XS.WRITE, z("b") + b"v", "ENOSPC",
        before=(*HOME, write("a", who=GUEST), set_quota(5, "nodes", 3)),
        c_417=NotAsked(Reason.NEW_MESSAGES),
    ),
    Row(
        "SET_QUOTA of one domain leaves the others alone",
        GUEST, XS.WRITE, z("b") + b"v", OK,
        before=(*HOME, write("a", who=GUEST), set_quota(6, "nodes", 1)),
        c_417=NotAsked(Reason.NEW_MESSAGES),
    ),
    Row(
        "a quota that was lowered takes nothing away",
        GUEST, XS.WRITE, z("b") + b"new", OK,
        before=(*HOME, write("a", who=GUEST), write("b", who=GUEST),
                set_quota(5, "nodes", 1)),
        then=(read("a", b"v", who=GUEST),),
        c_417=NotAsked(Reason.NEW_MESSAGES),
    ),
    *(
        Row(
            f"SET_QUOTA switches {quota} off with 0",
            GUEST, type_, payload, expect,
            before=(*HOME, write("a", who=GUEST), set_quota(5, quota, 0), *before),
            events_after=after, c_417=NotAsked(Reason.NEW_MESSAGES),
        )
        for quota, type_, payload, expect, before, after in (
            ("node-size", XS.WRITE, z("a") + bytes(4000), OK, (), ()),
            ("node-permissions", XS.SET_PERMS, z("a", *["n5"] * 9), OK, (), ()),
            ("path-max", XS.READ, z("a" * 2048), "ENOENT", (), ()),
            ("transactions", XS.TRANSACTION_START, z(""), text("[0-9]+"),
             tuple(Start(f"t{i}", GUEST) for i in range(30)), ()),
            ("watches", XS.WATCH, z("a", 200), OK,
             tuple(watch("a", str(i), who=GUEST) for i in range(200)),
             (Event(GUEST, "a", "200"),)),
        )
    ),
    Row(
        "domain 0 has no quota",
        DOM0_B, XS.WATCH, z("/a", 201), OK,
        before=tuple(watch("/a", str(i), who=DOM0_B) for i in range(200)),
        events_after=(Event(DOM0_B, "/a", "201"),),
    ),
    Row(
        "a domain's quota is its own",
        OTHER, XS.WRITE, z("/local/domain/6/a") + b"v", OK,
        before=(*owned("/local/domain/6", "n6"), *NEAR_NODES,
                *(write(f"n{i}", b"", who=GUEST) for i in range(6))),
    ),
)  # fmt: skip

QUOTAS: Final = rows(
    NODES, WATCHES, TRANSACTIONS, TRANSACTION_NODES, NODE_PERMISSIONS, NODE_SIZE, SET
)
