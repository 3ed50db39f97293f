import gc
import os
import socket
from collections.abc import Iterator

import pytest

from xenvirt.errors import HypercallError
from xenvirt.hypervisor import wire

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left, right:
        yield left, right


def open_fds() -> int:
    # What earlier tests have left to the collector must not be closed in between.
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def test_a_packet_crosses_with_its_descriptors(pair: Pair) -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    wire.send(pair[0], wire.encode({"op": "x"}, wire.MAX_REQUEST), [fd])
    os.close(fd)
    packet = wire.receive(pair[1], wire.MAX_REQUEST)
    assert packet is not None
    assert packet.body == {"op": "x"}
    (received,) = packet.fds
    assert not os.get_inheritable(received)
    os.close(received)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x00", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 4000, "not JSON"),
        (b"[]", "an array, not an object"),
        (b"3", "a number, not an object"),
        (b"null", "null, not an object"),
        (b'"x"', "a string, not an object"),
        (b" " * 4097, "more than 4096 bytes"),
    ],
)
def test_a_malformed_packet_is_refused_in_words_and_its_descriptors_closed(
    pair: Pair, data: bytes, says: str
) -> None:
    with open("/dev/null") as file:
        socket.send_fds(pair[0], [data], [file.fileno()])
    before = open_fds()
    with pytest.raises(HypercallError, match=says) as caught:
        wire.receive(pair[1], wire.MAX_REQUEST)
    assert caught.value.errno_name == "EINVAL"
    assert open_fds() == before


def test_a_closed_connection_is_none(pair: Pair) -> None:
    pair[0].close()
    assert wire.receive(pair[1], wire.MAX_REQUEST) is None


def test_an_empty_packet_with_descriptors_is_malformed(pair: Pair) -> None:
    before = open_fds()
    with open("/dev/null") as file:
        socket.send_fds(pair[0], [b""], [file.fileno()])
    with pytest.raises(HypercallError, match="not JSON"):
        wire.receive(pair[1], wire.MAX_REQUEST)
    assert open_fds() == before


def test_too_large_a_packet_is_not_sent() -> None:
    with pytest.raises(HypercallError, match="over the limit of 4096") as caught:
        wire.encode({"op": "x" * 5000}, wire.MAX_REQUEST)
    assert caught.value.errno_name == "E2BIG"
