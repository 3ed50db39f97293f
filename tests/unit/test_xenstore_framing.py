"""A stream gives the same messages however it is cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenvirt.xenstore.errors import StoreProtocolError
from xenvirt.xenstore.framing import Message, MessageDecoder, encode

U32 = st.integers(0, 0xFFFFFFFF)
MESSAGES = st.lists(st.builds(Message, U32, U32, U32, st.binary(max_size=64)))


def feed_in_pieces(stream: bytes, cuts: list[int]) -> list[Message]:
    decoder = MessageDecoder()
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [
        m for start, end in pairwise(edges) for m in decoder.feed(stream[start:end])
    ]


@given(MESSAGES, st.lists(st.integers(0, 1 << 20)))
def test_random_cuts_give_the_same_messages(
    messages: list[Message], cuts: list[int]
) -> None:
    stream = b"".join(encode(*message) for message in messages)
    assert feed_in_pieces(stream, cuts) == messages


def test_byte_by_byte_gives_the_same_messages() -> None:
    messages = [Message(2, 1, 0, b"/a\0"), Message(11, 2, 9, bytes(4096))]
    stream = b"".join(encode(*message) for message in messages)
    assert feed_in_pieces(stream, list(range(len(stream)))) == messages


def test_a_message_is_the_bytes_of_xs_wire() -> None:
    assert encode(2, 0x01020304, 5, b"/a\0") == bytes.fromhex(
        "02000000 04030201 05000000 03000000 2f6100"
    )


@pytest.mark.parametrize("cut", [15, 16, 4111])
def test_an_incomplete_message_is_kept(cut: int) -> None:
    stream = encode(11, 1, 0, bytes(4096))
    decoder = MessageDecoder()
    assert decoder.feed(stream[:cut]) == []
    assert decoder.feed(stream[cut:]) == [Message(11, 1, 0, bytes(4096))]


@pytest.mark.parametrize("length", [4097, 0x80000000, 0xFFFFFFFF])
def test_a_longer_payload_is_an_error(length: int) -> None:
    good = encode(2, 1, 0, b"/a\0")
    bad = bytes(12) + length.to_bytes(4, "little")
    decoder = MessageDecoder()
    assert decoder.feed(good) == [Message(2, 1, 0, b"/a\0")]
    with pytest.raises(StoreProtocolError, match=str(length)):
        decoder.feed(bad)
