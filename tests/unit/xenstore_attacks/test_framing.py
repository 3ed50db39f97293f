"""Every cut of a stream and every length, on the socket and on the ring."""

from collections.abc import Iterator

import pytest

from tests.raw_ring import SIZE, RawRing
from tests.raw_store import RawClient
from tests.store_process import StoreProcess
from xenvirt.abi.xs_wire import HEADER, XENSTORE_PAYLOAD_MAX, RingError
from xenvirt.abi.xs_wire import XsWire as X
from xenvirt.xenstore.framing import Message, encode

STREAM = b"".join(
    [
        encode(X.GET_DOMAIN_PATH, 1, 0, b"1\0"),
        encode(X.READ, 2, 0, b""),
        encode(0xFFFFFFFF, 3, 9, b"x" * 20),
        encode(X.WRITE, 4, 0, b"a\0" + bytes(range(30))),
        encode(X.READ, 5, 0, b"a\0"),
    ]
)
REPLIES = [
    Message(X.GET_DOMAIN_PATH, 1, 0, b"/local/domain/1\0"),
    Message(X.ERROR, 2, 0, b"EINVAL\0"),
    Message(X.ERROR, 3, 9, b"ENOSYS\0"),
    Message(X.WRITE, 4, 0, b"OK\0"),
    Message(X.READ, 5, 0, bytes(range(30))),
]
LENGTHS = range(XENSTORE_PAYLOAD_MAX + 1)
TOO_LONG = (*range(4097, 5001), 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


@pytest.fixture
def guest(store: StoreProcess) -> RawClient:
    store.at_home(1)
    return store.client(1)


@pytest.fixture
def ring(store: StoreProcess) -> RawRing:
    store.at_home(1)
    return store.ring(1, start=0xFFFFFE00)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def padded(length: int) -> bytes:
    """A request for a node that is not there, of exactly that payload length."""
    path = b"a/" * ((length - 1) // 2)
    return (path + b"aa")[: length - 1] + b"\0" if length else b""


def test_pieces_of_any_size(guest: RawClient, ring: RawRing) -> None:
    for size in range(1, len(STREAM) + 1):
        for client in (guest, ring):
            for piece in pieces(STREAM, size):
                client.send(piece)
            assert [client.reply() for _ in REPLIES] == REPLIES, size


def test_two_pieces_with_a_cut_at_any_byte(guest: RawClient, ring: RawRing) -> None:
    for cut in range(len(STREAM)):
        for client in (guest, ring):
            client.send(STREAM[:cut])
            client.send(STREAM[cut:])
            assert [client.reply() for _ in REPLIES] == REPLIES, cut


def test_a_ring_that_is_read_a_byte_at_a_time(ring: RawRing) -> None:
    ring.put(STREAM)
    got = b""
    for reply in REPLIES:
        whole = encode(*reply)
        while len(got) < len(whole):
            assert ring.wait_until(ring.has_reply, 10)
            got += ring.get(limit=1)
        assert got == whole
        got = b""


@pytest.mark.parametrize("transport", ["guest", "ring"])
def test_every_length_up_to_4096(
    transport: str, request: pytest.FixtureRequest
) -> None:
    client: RawClient | RawRing = request.getfixturevalue(transport)
    for length in LENGTHS:
        client.send(encode(X.READ, length, 0, padded(length)))
        reply = client.reply()
        assert (reply.type, reply.req_id) == (X.ERROR, length)
        assert reply.payload in (b"ENOENT\0", b"EINVAL\0", b"EACCES\0")


def test_every_length_beyond_4096_ends_the_connection(store: StoreProcess) -> None:
    for length in TOO_LONG:
        with store.client(1) as guest:
            guest.send(STREAM[:18] + HEADER.pack(X.READ, 1, 0, length) + STREAM)
            assert guest.reply() == REPLIES[0]
            assert guest.is_closed()


def test_every_length_beyond_4096_ends_the_ring(
    store: StoreProcess, ring: RawRing
) -> None:
    assert [ring.result(X.GET_DOMAIN_PATH, b"1\0")] == [REPLIES[0].payload]
    for length in TOO_LONG:
        ring.put(HEADER.pack(X.READ, 1, 0, length) + STREAM)
        assert ring.fails_with(RingError.PROTO)
        assert not ring.has_reply()
        store.tell("reset_ring", 1)
        ring.start_anew()
        assert ring.word(2072) == RingError.NONE
        assert ring.result(X.GET_DOMAIN_PATH, b"1\0") == REPLIES[0].payload


def test_a_ring_carries_messages_longer_than_itself(ring: RawRing) -> None:
    value = bytes(range(256)) * 7
    assert len(value) > SIZE
    for number in range(100):
        ring.do(X.WRITE, b"big\0" + value[number:])
        assert ring.result(X.READ, b"big\0") == value[number:]
