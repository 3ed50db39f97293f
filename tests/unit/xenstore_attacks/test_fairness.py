"""A client's flood does not come before another client's single request.

The server is stopped while the flood piles up in front of it, so what is seen does not
depend on the machine: the small client's answer says how far the flood had come when it
was served.
"""

from collections.abc import Iterator

import pytest

from tests.raw_ring import SIZE
from tests.raw_store import RawClient
from tests.store_process import StoreProcess
from xenvirt.abi.xs_wire import XsWire as X
from xenvirt.xenstore.framing import encode

TURN = 256
"""Requests of one client that may be served before another's; latency, in requests."""


@pytest.fixture
def dom0(store: StoreProcess) -> RawClient:
    dom0 = store.client()
    dom0.do(X.WRITE, b"/count\x000")
    dom0.do(X.SET_PERMS, b"/count\0b0\0")
    return dom0


def counting() -> Iterator[bytes]:
    """Requests that each write a higher number."""
    number = 0
    while True:
        number += 1
        yield encode(X.WRITE, number, 0, b"/count\0%d" % number)


def fill(client: RawClient) -> int:
    """Send counting requests until the kernel takes no more; returns how many."""
    data = b"".join(
        request for request, _ in zip(counting(), range(8192), strict=False)
    )
    client.sock.setblocking(False)
    sent = 0
    try:
        while sent < len(data):
            sent += client.sock.send(memoryview(data)[sent : sent + 4096])
    except BlockingIOError:
        pass
    client.sock.settimeout(30)
    return data[:sent].count(b"/count\0")


@pytest.mark.parametrize("flooding", [0, 1])
def test_a_flood_on_one_socket_lets_another_socket_by(
    store: StoreProcess, dom0: RawClient, flooding: int
) -> None:
    flood, small = store.client(flooding), store.client(2)
    store.stop()
    assert fill(flood) > 4 * TURN
    small.request(X.READ, b"/count\0")
    store.go_on()
    seen = small.answer()
    assert isinstance(seen, bytes)
    assert int(seen) <= TURN


def test_floods_from_many_let_one_by(store: StoreProcess, dom0: RawClient) -> None:
    floods = [store.client(domid) for domid in (0, 1, 1, 3)]
    small = store.client(2)
    store.stop()
    for flood in floods:
        assert fill(flood) > 4 * TURN
    small.request(X.READ, b"/count\0")
    store.go_on()
    seen = small.answer()
    assert isinstance(seen, bytes)
    assert int(seen) <= TURN


def test_a_flood_on_a_ring_lets_a_socket_by(
    store: StoreProcess, dom0: RawClient
) -> None:
    ring, small = store.ring(1), store.client(2)
    store.stop()
    requests = b"".join(r for r, _ in zip(counting(), range(100), strict=False))
    assert ring.put(requests) == SIZE
    small.request(X.READ, b"/count\0")
    store.go_on()
    assert isinstance(small.answer(), bytes)
    ring.send(requests[SIZE:])
    assert ring.reply().payload == b"OK\0"


def test_a_flood_on_a_socket_lets_a_ring_by(
    store: StoreProcess, dom0: RawClient
) -> None:
    flood, ring = store.client(), store.ring(1)
    store.stop()
    assert fill(flood) > 4 * TURN
    ring.put(encode(X.READ, 1, 0, b"/count\0"))
    store.go_on()
    reply = ring.reply()
    assert reply.type == X.READ
    assert int(reply.payload) <= TURN


def test_who_floods_gets_its_answers_too(store: StoreProcess, dom0: RawClient) -> None:
    flood = store.client(1)
    store.stop()
    sent = fill(flood)
    store.go_on()
    replies = flood.pipeline(b"", sent - 1)
    assert [reply.req_id for reply in replies] == [*range(1, sent)]


def test_a_client_that_never_reads_holds_nobody_up(
    store: StoreProcess, dom0: RawClient
) -> None:
    dom0.do(X.WRITE, b"/big\0" + bytes(4000))
    dom0.do(X.SET_PERMS, b"/big\0r0\0")
    for domid in (0, 1):
        store.client(domid).send_all_it_takes(encode(X.READ, 1, 0, b"/big\0"))
    small = store.client(2)
    for _ in range(100):
        assert small.result(X.READ, b"/big\0") == bytes(4000)
