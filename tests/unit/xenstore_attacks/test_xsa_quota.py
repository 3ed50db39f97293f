"""Quotas hold, and what is counted is what is there."""

from collections.abc import Iterator

import pytest

from tests.raw_store import RawClient
from tests.store_process import StoreProcess
from xenvirt.abi.xs_wire import XsWire as X
from xenvirt.xenstore.framing import encode

HOME = b"/local/domain/1\0"
NODES = 20


@pytest.fixture
def dom0(store: StoreProcess) -> RawClient:
    client = store.at_home(1)
    client.do(X.SET_QUOTA, b"nodes\0%d\0" % NODES)
    return client


@pytest.fixture
def guest(store: StoreProcess, dom0: RawClient) -> RawClient:
    return store.client(1)


def names() -> Iterator[bytes]:
    number = 0
    while True:
        yield b"n%d" % number
        number += 1


def room(guest: RawClient) -> int:
    """How many nodes the domain can still make, found by making and removing them."""
    made = []
    for name in names():
        if guest.result(X.MKDIR, name + b"\0") != b"OK\0":
            break
        made.append(name)
    for name in made:
        guest.do(X.RM, name + b"\0")
    return len(made)


def test_one_less_than_the_quota_is_reachable(guest: RawClient) -> None:
    assert room(guest) == NODES - 1 - 1


@pytest.mark.parametrize("left", range(4))
def test_xsa_414_a_creation_that_fails_half_way_leaves_nothing(
    store: StoreProcess, dom0: RawClient, guest: RawClient, left: int
) -> None:
    for number in range(NODES - 2 - left):
        guest.do(X.MKDIR, b"old%d\0" % number)
    for type_ in (X.WRITE, X.MKDIR):
        assert guest.result(type_, b"a/b/c/d\0") == "ENOSPC"
    found = dom0.result(X.DIRECTORY, HOME)
    assert isinstance(found, bytes)
    assert b"a\0" not in found
    assert room(guest) == left
    store.check()


def test_xsa_414_a_node_that_gets_too_big_half_way_leaves_nothing(
    dom0: RawClient, guest: RawClient
) -> None:
    dom0.do(X.SET_QUOTA, b"node-size\x00100\0")
    for path in (b"a/" + b"n" * 80, b"n" * 80, b"a/b/" + b"n" * 80 + b"/c"):
        assert guest.result(X.WRITE, path + b"\0v") == "ENOSPC"
    assert dom0.result(X.DIRECTORY, HOME) == b""
    assert room(guest) == NODES - 2


@pytest.mark.parametrize("end", [b"T\0", b"F\0"])
def test_xsa_415_a_failed_creation_in_a_transaction_leaves_no_orphan(
    store: StoreProcess, dom0: RawClient, guest: RawClient, end: bytes
) -> None:
    deep = b"/".join([b"d"] * NODES)
    tx_id = guest.start()
    guest.do(X.WRITE, b"first\0v", tx_id)
    assert guest.result(X.WRITE, deep + b"\0v", tx_id) == "ENOSPC"
    listed = guest.result(X.DIRECTORY, HOME, tx_id)
    assert listed in (b"first\0", "ENOSPC")
    committed = guest.result(X.TRANSACTION_END, end, tx_id) == b"OK\0"
    assert committed or end == b"T\0"
    kept = b"first\0" if committed and end == b"T\0" else b""
    assert dom0.result(X.DIRECTORY, HOME) == kept
    assert room(guest) == NODES - 2 - len(kept.split(b"\0")[:-1])
    store.check()


def test_xsa_415_too_many_nodes_in_a_transaction_leave_no_orphan(
    store: StoreProcess, dom0: RawClient, guest: RawClient
) -> None:
    dom0.do(X.SET_QUOTA, b"transaction-nodes\x0010\0")
    tx_id = guest.start()
    found = [guest.result(X.WRITE, b"a/%d/x\0v" % n, tx_id) for n in range(9)]
    assert found[0] == b"OK\0"
    assert found[-1] == "ENOSPC"
    assert guest.result(X.TRANSACTION_END, b"T\0", tx_id) != b"OK\0"
    assert dom0.result(X.DIRECTORY, HOME) == b""
    assert room(guest) == NODES - 2
    store.check()


def test_xsa_415_two_transactions_do_not_pass_the_quota_together(
    store: StoreProcess, dom0: RawClient, guest: RawClient
) -> None:
    dom0.do(X.MKDIR, b"/local/domain/1/a\0")
    dom0.do(X.MKDIR, b"/local/domain/1/b\0")
    dom0.do(X.SET_PERMS, b"/local/domain/1/a\0n1\0")
    dom0.do(X.SET_PERMS, b"/local/domain/1/b\0n1\0")
    half = NODES - 3 - 5
    first, second = guest.start(), guest.start()
    for number in range(half):
        guest.do(X.MKDIR, b"a/%d\0" % number, first)
        guest.do(X.MKDIR, b"b/%d\0" % number, second)
    guest.do(X.TRANSACTION_END, b"T\0", first)
    assert guest.result(X.TRANSACTION_END, b"T\0", second) == "ENOSPC"
    assert room(guest) == NODES - 1 - 3 - half


ROUND_TRIPS: dict[str, list[tuple[X, bytes]]] = {
    "made and removed": [(X.MKDIR, b"a\0"), (X.RM, b"a\0")],
    "made deep, removed at the top": [(X.MKDIR, b"a/b/c\0"), (X.RM, b"a\0")],
    "removed and made": [(X.RM, b"old\0"), (X.MKDIR, b"old/x\0"), (X.RM, b"old/x\0")],
    "made, removed, made, removed": [
        (X.MKDIR, b"a/b\0"), (X.RM, b"a/b\0"), (X.MKDIR, b"a/b\0"), (X.RM, b"a\0"),
    ],
    "removed as a child and with its directory": [
        (X.MKDIR, b"a/b\0"), (X.RM, b"a/b\0"), (X.RM, b"a\0"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("steps", ROUND_TRIPS.values(), ids=ROUND_TRIPS)
def test_xsa_421_made_and_removed_in_one_transaction_counts_nothing(
    store: StoreProcess, dom0: RawClient, guest: RawClient, steps: list[tuple[X, bytes]]
) -> None:
    guest.do(X.WRITE, b"old\0v")
    before = room(guest)
    for _ in range(NODES):
        tx_id = guest.start()
        for type_, payload in steps:
            guest.do(type_, payload, tx_id)
        guest.do(X.TRANSACTION_END, b"T\0", tx_id)
    assert dom0.result(X.DIRECTORY, HOME) == b"old\0"
    assert room(guest) == before
    store.check()


def test_xsa_421_a_node_that_changed_hands_in_a_transaction_is_counted_once(
    store: StoreProcess, dom0: RawClient, guest: RawClient
) -> None:
    for _ in range(NODES):
        tx_id = dom0.start()
        dom0.do(X.WRITE, b"/x\0v", tx_id)
        dom0.do(X.SET_PERMS, b"/x\0n1\0", tx_id)
        dom0.do(X.SET_PERMS, b"/x\0n2\0", tx_id)
        dom0.do(X.RM, b"/x\0", tx_id)
        dom0.do(X.WRITE, b"/y\0v", tx_id)
        dom0.do(X.SET_PERMS, b"/y\0n1\0", tx_id)
        dom0.do(X.TRANSACTION_END, b"T\0", tx_id)
    assert room(guest) == NODES - 1 - 2
    store.check()


def test_xsa_483_a_domain_that_gets_a_used_domid_begins_with_nothing(
    store: StoreProcess, dom0: RawClient
) -> None:
    dom0.do(X.SET_QUOTA, b"nodes\x001000\0")
    paths = [
        b"%d%b\0" % (n // 100, b"/%d" % n if n % 100 else b"") for n in range(1000)
    ]
    requests = b"".join(encode(X.MKDIR, 1, 0, path) for path in paths)
    for _ in range(3):
        with store.client(1) as guest:
            replies = [reply.payload for reply in guest.pipeline(requests, 1000)]
            assert replies == [b"OK\0"] * 998 + [b"ENOSPC\0"] * 2
            for token in range(127):
                guest.do(X.WATCH, b"a\0%d\0" % token)
            assert guest.result(X.WATCH, b"a\0last\0") == "ENOSPC"
            for _ in range(9):
                guest.start()
            assert guest.result(X.TRANSACTION_START, b"\0") == "ENOSPC"
        store.tell("domain_dead", 1)
        store.tell("domain_created", 1)
        store.at_home(1)
