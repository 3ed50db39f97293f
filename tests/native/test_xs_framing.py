"""The engine's two byte queues, with every cut and every length."""

import random
from collections.abc import Iterator

import pytest

from tests.xs_engine import Conn, Engine
from xenvirt.abi.xs_wire import HEADER, XENSTORE_PAYLOAD_MAX
from xenvirt.abi.xs_wire import XsWire as X
from xenvirt.xenstore.framing import Message, MessageDecoder, encode

REQUESTS = [
    encode(X.GET_DOMAIN_PATH, 1, 0, b"1\0"),
    encode(X.READ, 2, 0, b""),
    encode(0xFFFFFFFF, 3, 9, b"x" * 20),
    encode(X.WRITE, 4, 0, b"/a\0" + bytes(range(30))),
    encode(X.WATCH, 5, 0, b"/a\0t\0"),
    encode(X.READ, 6, 0, b"/a\0"),
    encode(X.RESET_WATCHES, 7, 0, b"\0"),
]
STREAM = b"".join(REQUESTS)
REPLIES = [
    Message(X.GET_DOMAIN_PATH, 1, 0, b"/local/domain/1\0"),
    Message(X.ERROR, 2, 0, b"EINVAL\0"),
    Message(X.ERROR, 3, 9, b"ENOSYS\0"),
    Message(X.WRITE, 4, 0, b"OK\0"),
    Message(X.WATCH, 5, 0, b"OK\0"),
    Message(X.WATCH_EVENT, 0, 0, b"/a\0t\0"),
    Message(X.READ, 6, 0, bytes(range(30))),
    Message(X.RESET_WATCHES, 7, 0, b"OK\0"),
]
TOO_LONG = (*range(4097, 5001), 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine()
    yield made
    made.close()


@pytest.fixture
def conn(engine: Engine) -> Conn:
    return engine.connect(0)


def test_a_stream_in_pieces_of_any_size(conn: Conn) -> None:
    for size in range(1, len(STREAM) + 1):
        for at in range(0, len(STREAM), size):
            assert conn.feed(STREAM[at : at + size]) == b""
        assert conn.messages() == REPLIES, size


def test_a_stream_with_two_cuts_at_any_bytes(conn: Conn) -> None:
    for first in range(0, len(STREAM), 3):
        for second in range(first, len(STREAM)):
            cut = (STREAM[:first], STREAM[first:second], STREAM[second:])
            assert [conn.feed(piece) for piece in cut] == [b""] * 3
            assert conn.messages() == REPLIES, (first, second)


def test_streams_of_many_clients_in_turns_of_one_byte(engine: Engine) -> None:
    conns = [engine.connect(0) for _ in range(10)]
    for at in range(len(STREAM)):
        for conn in conns:
            assert conn.feed(STREAM[at : at + 1]) == b""
    for conn in conns:
        assert conn.messages() == REPLIES


def test_streams_of_many_clients_in_random_pieces(engine: Engine) -> None:
    dice = random.Random(1)
    conns = [engine.connect(0) for _ in range(10)]
    waiting = dict.fromkeys(conns, STREAM * 20)
    while any(waiting.values()):
        conn = dice.choice(conns)
        size = dice.choice([1, 2, 15, 16, 17, 100, 5000])
        piece, waiting[conn] = waiting[conn][:size], waiting[conn][size:]
        assert conn.feed(piece) == b""
    replies = [message for message in REPLIES if message.type != X.WATCH_EVENT]
    for conn in conns:
        found = [m for m in conn.messages() if m.type != X.WATCH_EVENT]
        assert found == replies * 20


def test_output_is_taken_in_pieces_of_any_size(conn: Conn) -> None:
    for size in range(1, 100):
        conn.feed(STREAM)
        got = b""
        while output := conn.output():
            got += output[:size]
            conn.sent(min(size, len(output)))
        assert MessageDecoder().feed(got) == REPLIES, size


def test_every_length_up_to_4096(conn: Conn) -> None:
    for length in range(XENSTORE_PAYLOAD_MAX + 1):
        for payload in (b"\0" * length, b"x" * length, (b"/" + b"x" * length)[:length]):
            conn.feed(encode(X.READ, length, 0, payload))
            (reply,) = conn.messages()
            assert (reply.type, reply.req_id) == (X.ERROR, length)


def test_every_length_beyond_4096_breaks_the_connection(engine: Engine) -> None:
    for length in TOO_LONG:
        conn = engine.connect(0)
        bad = HEADER.pack(X.READ, 9, 0, length)
        for byte in bad[:-1]:
            conn.feed(bytes([byte]))
        assert not conn.is_broken()
        conn.feed(bad[-1:])
        assert conn.is_broken()
        assert conn.receive(STREAM) == 0
        assert not conn.is_ready()
        engine.disconnect(conn)


def test_what_came_before_a_length_beyond_4096_is_answered(conn: Conn) -> None:
    conn.feed(STREAM + HEADER.pack(X.READ, 9, 0, 4097) + STREAM)
    assert conn.is_broken()
    assert conn.messages() == REPLIES


def test_a_broken_connection_is_whole_again_after_a_reset(
    engine: Engine, conn: Conn
) -> None:
    for cut in range(1, len(STREAM)):
        conn.feed(STREAM[:cut] + b"\xff" * 20)
        conn.reset()
        assert conn.take() == b""
        conn.feed(STREAM)
        assert conn.messages() == REPLIES, cut
    assert engine.is_consistent()


def test_nothing_is_received_while_requests_wait(engine: Engine) -> None:
    conn = engine.connect(1)
    home = encode(X.GET_DOMAIN_PATH, 1, 0, b"1\0")
    unserved = conn.feed(home * 5000)
    assert unserved != b""
    assert conn.receive(home) == 0
    replies = len(conn.messages())
    assert 1 <= replies <= 20
    while unserved:
        unserved = conn.feed(unserved)
        replies += len(conn.messages())
    conn.run()
    while more := conn.messages():
        replies += len(more)
        conn.run()
    assert replies == 5000


def test_a_client_that_leaves_amid_a_message_leaves_nothing(engine: Engine) -> None:
    other = engine.connect(0)
    for cut in range(len(STREAM)):
        conn = engine.connect(0)
        conn.feed(STREAM[:cut])
        other.feed(STREAM[:17])
        engine.disconnect(conn)
        other.feed(STREAM[17:])
        assert other.messages() == REPLIES
    assert engine.is_consistent()
