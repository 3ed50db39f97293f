"""What a domain can make the store keep is bounded, and does not grow with time.

Measured as the resident memory of the server's process, after a first round that
fills whatever is kept for good.
"""

import os
from collections.abc import Callable

import pytest

from tests.raw_store import RawClient
from tests.store_process import StoreProcess
from xenvirt.abi.xs_wire import XsWire as X
from xenvirt.xenstore.framing import encode

MIB = 1 << 20

pytestmark = pytest.mark.skipif(
    "libasan" in os.environ.get("XENVIRT_PRELOAD", ""),
    reason="the sanitizer keeps what is freed",
)


@pytest.fixture
def dom0(store: StoreProcess) -> RawClient:
    return store.at_home(1)


def growth(store: StoreProcess, round_: Callable[[], None], rounds: int = 3) -> int:
    """Bytes that the process has grown by from the first round to the last."""
    round_()
    before = store.rss()
    for _ in range(rounds):
        round_()
    store.check()
    return store.rss() - before


def test_xsa_326_unread_events_are_bounded(
    store: StoreProcess, dom0: RawClient
) -> None:
    guest = store.client(1)
    guest.pipeline(
        b"".join(
            encode(X.WATCH, 1, 0, b"/local/domain/1\0%b%d\0" % (b"t" * 1900, n))
            for n in range(127)
        ),
        127,
    )
    before = store.rss()
    paths = [b"/local/domain/1/%d" % n for n in range(2000)]
    for path in paths:
        dom0.do(X.WRITE, path + b"\0v")
        dom0.do(X.RM, path + b"\0")
    assert store.rss() - before < 16 * MIB
    assert dom0.result(X.READ, b"/local/domain/1\0") == b""


def test_xsa_326_many_unread_replies_are_bounded_and_come_in_order(
    store: StoreProcess, dom0: RawClient
) -> None:
    dom0.do(X.WRITE, b"/big\0" + bytes(4000))
    dom0.do(X.SET_PERMS, b"/big\0r0\0")
    guest = store.client(1)
    before = store.rss()
    request = encode(X.READ, 1, 0, b"/big\0")
    sent = guest.send_all_it_takes(request * 500)
    assert sent // len(request) > 1000
    assert store.rss() - before < 8 * MIB
    store.check()
    rest = request[sent % len(request) :]
    for reply in guest.pipeline(rest, sent // len(request) + 1):
        assert reply.payload == bytes(4000)


def test_xsa_326_nodes_in_transactions_are_bounded(
    store: StoreProcess, dom0: RawClient
) -> None:
    guest = store.client(1)
    largest = bytes(2000)
    before = store.rss()
    for tx_id in [guest.start() for _ in range(9)]:
        requests = b"".join(
            encode(X.WRITE, 1, tx_id, b"n%d\0" % n + largest) for n in range(1023)
        )
        try:
            guest.pipeline(requests, 1023, patience_s=0.5)
        except TimeoutError:
            break  # it is not served beyond its memory
    assert store.rss() - before < 32 * MIB
    store.check()


def test_xsa_326_transactions_over_a_huge_directory_are_bounded(
    store: StoreProcess, dom0: RawClient
) -> None:
    requests = b"".join(
        encode(X.MKDIR, 1, 0, b"/huge/%0200d\0" % n) for n in range(5000)
    )
    dom0.pipeline(requests, 5000)
    dom0.do(X.SET_PERMS, b"/huge\0r0\0")

    def round_() -> None:
        with store.client(1) as guest:
            guest.sock.settimeout(0.5)
            for _ in range(9):
                try:
                    tx_id = guest.start()
                    found = guest.result(X.DIRECTORY, b"/huge\0", tx_id)
                except TimeoutError:
                    break  # it is not served beyond its memory
                assert found in ("E2BIG", "ENOMEM")

    before = store.rss()
    assert growth(store, round_) < 4 * MIB
    assert store.rss() - before < 16 * MIB


def test_xsa_326_watches_are_bounded(store: StoreProcess, dom0: RawClient) -> None:
    before = store.rss()
    refused = 0
    for _ in range(20):
        guest = store.client(1)
        for number in range(20):
            token = b"%d" % number + b"t" * 4000
            refused += guest.result(X.WATCH, b"a\0" + token + b"\0") == "ENOSPC"
    assert refused == 20 * 20 - 127
    assert store.rss() - before < 16 * MIB


def test_xsa_326_packets_in_flight_are_bounded(
    store: StoreProcess, dom0: RawClient
) -> None:
    half = encode(X.WRITE, 1, 0, b"a\0" + bytes(4094))[:-1]

    def round_() -> None:
        clients = [store.client(1) for _ in range(100)]
        for client in clients:
            client.send(half)
        store.check()
        for client in clients:
            client.close()

    assert growth(store, round_) < 4 * MIB


def test_xsa_326_a_domain_at_the_edge_of_its_memory_fills_no_log(
    store: StoreProcess, dom0: RawClient
) -> None:
    dom0.do(X.CONTROL, b"quota-soft\0set\0memory\x004000\0")
    guest = store.client(1)
    for _ in range(200):
        guest.do(X.WRITE, b"a\0" + bytes(2000))
        guest.do(X.WRITE, b"b\0" + bytes(2000))
        guest.do(X.RM, b"a\0")
        guest.do(X.RM, b"b\0")
    store.check()
    assert 1 <= store.log().count("soft memory quota") < 20


def test_xsa_330_watching_and_resetting_for_ever_takes_no_memory(
    store: StoreProcess, dom0: RawClient
) -> None:
    guest = store.client(1)
    requests = encode(X.WATCH, 1, 0, b"a\0token\0") + encode(
        X.RESET_WATCHES, 1, 0, b"\0"
    )

    def round_() -> None:
        replies = guest.pipeline(requests * 25_000, 50_000)
        assert all(reply.payload == b"OK\0" for reply in replies)
        guest.events.clear()

    assert growth(store, round_) < 2 * MIB


@pytest.mark.parametrize(
    ("payload", "answer"),
    [
        (b"a\0" + bytes(2000), b"OK\0"),
        (b"a\0" + bytes(4094), b"ENOSPC\0"),
        (b"/secret\0" + bytes(4000), b"EACCES\0"),
        (b"x" * 4096, b"EINVAL\0"),
    ],
    ids=["stored", "too big", "forbidden", "without a NUL"],
)
def test_xsa_416_big_requests_leave_no_memory_behind(
    store: StoreProcess, dom0: RawClient, payload: bytes, answer: bytes
) -> None:
    guest = store.client(1)

    def round_() -> None:
        for reply in guest.pipeline(encode(X.WRITE, 1, 0, payload) * 5000, 5000):
            assert reply.payload == answer

    assert growth(store, round_) < 2 * MIB


def test_xsa_416_transactions_that_end_leave_no_memory_behind(
    store: StoreProcess, dom0: RawClient
) -> None:
    guest = store.client(1)

    def round_() -> None:
        for number in range(300):
            tx_id = guest.start()
            for path in (b"a", b"a/b", b"c"):
                guest.do(X.WRITE, path + b"\0" + bytes(1500), tx_id)
            guest.do(X.TRANSACTION_END, b"TF"[number % 2 :][:1] + b"\0", tx_id)

    assert growth(store, round_) < 2 * MIB
