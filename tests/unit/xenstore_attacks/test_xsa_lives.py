"""Connections and domains that end at a bad moment."""

import socket

import pytest

from tests.raw_ring import REQ_PROD
from tests.raw_store import RawClient
from tests.store_process import StoreProcess
from xenvirt.abi.xs_wire import HEADER, RingError
from xenvirt.abi.xs_wire import XsWire as X
from xenvirt.xenstore.framing import encode

READ_ROOT = encode(X.DIRECTORY, 1, 0, b"/\0")


@pytest.fixture
def dom0(store: StoreProcess) -> RawClient:
    return store.client()


def test_xsa_233_a_client_may_close_at_any_byte_of_a_request(
    store: StoreProcess, dom0: RawClient
) -> None:
    request = encode(X.WRITE, 1, 0, b"/a\0value")
    for cut in range(len(request)):
        with store.client() as client:
            client.send(request[:cut])
    assert dom0.result(X.READ, b"/a\0") == "ENOENT"
    with store.client() as client:
        client.send(request)
        client.sock.shutdown(socket.SHUT_WR)
        assert client.answer() == b"OK\0"


def test_xsa_233_a_device_model_and_its_domain_die_in_any_order(
    store: StoreProcess, dom0: RawClient
) -> None:
    for first, second in ((1, 2), (2, 1)):
        for domid in (1, 2):
            dom0.do(X.INTRODUCE, b"%d\x001\x001\0" % domid)
        dom0.do(X.SET_TARGET, b"1\x002\0")
        stub, target = store.client(1), store.client(2)
        for client in (stub, target):
            client.do(X.WATCH, b"@releaseDomain\0t\0")
            client.start()
            client.send(READ_ROOT[:17])
        dom0.do(X.RELEASE, b"%d\0" % first)
        store.tell("domain_dead", first)
        store.tell("domain_dead", second)
        assert stub.is_closed()
        assert target.is_closed()
        store.tell("domain_created", 1)
        store.tell("domain_created", 2)


def test_xsa_233_a_client_that_is_gone_is_told_nothing(
    store: StoreProcess, dom0: RawClient
) -> None:
    for _ in range(100):
        with store.client() as client:
            client.request(X.WATCH, b"/a\0t\0")
            client.send(READ_ROOT * 100)
        dom0.do(X.WRITE, b"/a\0v")


@pytest.mark.parametrize("distance", [1025, 2**31, 2**32 - 1])
def test_xsa_325_a_domain_that_broke_its_ring_is_forgotten_when_it_dies(
    store: StoreProcess, dom0: RawClient, distance: int
) -> None:
    dom0.do(X.WATCH, b"@releaseDomain\0t\0")
    store.at_home(1)
    for _ in range(3):
        dom0.do(X.INTRODUCE, b"1\x001\x001\0")
        ring = store.ring(1)
        ring.do(X.WATCH, b"data\0t\0")
        ring.set_word(REQ_PROD, ring.word(REQ_PROD) + distance)
        ring.notify()
        assert ring.fails_with(RingError.RINGIDX)
        store.tell("domain_dead", 1)
        assert dom0.result(X.IS_DOMAIN_INTRODUCED, b"1\0") == b"F\0"
        assert dom0.result(X.DIRECTORY, b"/local/domain\0") == b""
        store.tell("domain_created", 1)
        store.at_home(1)
    assert dom0.heard() == ["@releaseDomain"] * 4


def test_xsa_420_a_length_beyond_31_bits_ends_the_connection(
    store: StoreProcess,
) -> None:
    for length in (4097, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
        for domid in (0, 1):
            with store.client(domid) as client:
                client.send(READ_ROOT + HEADER.pack(X.READ, 1, 0, length))
                assert isinstance(client.answer(), bytes if domid == 0 else str)
                assert client.is_closed()


@pytest.mark.parametrize("length", [4097, 0x80000000, 0xFFFFFFFF])
def test_xsa_420_a_length_beyond_31_bits_ends_the_ring(
    store: StoreProcess, length: int
) -> None:
    ring = store.ring(1)
    assert ring.result(X.DIRECTORY, b"/\0") == "EACCES"
    ring.put(HEADER.pack(X.READ, 1, 0, length) + READ_ROOT)
    assert ring.fails_with(RingError.PROTO)
    assert not ring.has_reply()
    store.check()


def test_xsa_425_a_ring_begins_anew_while_it_is_served(
    store: StoreProcess, dom0: RawClient
) -> None:
    store.at_home(1)
    dom0.do(X.INTRODUCE, b"1\x001\x001\0")
    ring = store.ring(1)
    flood = encode(X.WRITE, 1, 0, b"data\0" + bytes(1500)) * 2
    for cut in range(0, len(flood), 97):
        ring.put(flood[cut:])
        dom0.do(X.INTRODUCE, b"1\x001\x001\0")
        ring.start_anew()
        assert ring.result(X.GET_DOMAIN_PATH, b"1\0") == b"/local/domain/1\0"


def test_xsa_425_a_ring_is_released_while_it_is_served(
    store: StoreProcess, dom0: RawClient
) -> None:
    for _ in range(20):
        store.at_home(1)
        dom0.do(X.INTRODUCE, b"1\x001\x001\0")
        ring = store.ring(1)
        ring.put(READ_ROOT * 40)
        dom0.do(X.RELEASE, b"1\0")
        store.tell("domain_dead", 1)
        store.tell("domain_created", 1)


def test_xsa_484_reset_watches_within_a_transaction_drops_it(
    store: StoreProcess,
) -> None:
    store.at_home(1)
    for client in (store.client(), store.client(1)):
        client.do(X.WATCH, b"a\0t\0")
        tx_id = client.start()
        other = client.start()
        client.do(X.WRITE, b"a\0v", tx_id)
        client.do(X.RESET_WATCHES, b"\0", tx_id)
        for gone in (tx_id, other):
            assert client.result(X.TRANSACTION_END, b"T\0", gone) == "ENOENT"
        assert client.result(X.READ, b"a\0") == "ENOENT"
        assert client.result(X.UNWATCH, b"a\0t\0") == "ENOENT"
