"""A peer that changes shared memory while we look at it (XSA-155, R27).

The peer is a process of its own, so that it really runs at the same time. What is
checked must be what is used: a field that was read twice shows sooner or later.
"""

import itertools
from contextlib import ExitStack
from typing import Final

import pytest

from tests.native.frames import blank, plain, tcp
from tests.native.helpers import Received
from tests.native.processes import forked, until
from tests.native.scripted import ScriptedBack, ScriptedFront
from xenvirt.testing.slots import RxResponse, TxRequest, TxResponse, pack

pytestmark = pytest.mark.usefixtures("payload")

ROUNDS: Final = 20_000
IHL_AT: Final = 14

# IPv4 with 20 or 24 bytes of header, by the first byte alone: where the TCP header
# begins, and with it csum_start, differs.
SHORT, LONG = 0x45, 0x46
FRAME: Final = blank(tcp(4, 100))[0]


def both_read_as_tcp() -> bytes:
    """A frame that has a good TCP header at either place."""
    data_offset = bytes([0x50])
    at = IHL_AT + 24 + 12
    return FRAME[:at] + data_offset + FRAME[at + 1 :]


def csum_start_fits(received: Received) -> bool:
    return received.vnet.csum_start == IHL_AT + 4 * (received.frame[IHL_AT] & 15)


def test_xsa_155_a_request_is_read_once(stack: ExitStack) -> None:
    front = ScriptedFront(stack)
    good, bad = front.page_with(plain(100)), 0
    variants = [
        pack(TxRequest(gref, 0, flags, 7, size))
        for gref in (good, bad)
        for flags in (0, 1)
        for size in (60, 100)
    ]

    def scribble() -> None:
        for slots in itertools.cycle(variant * 256 for variant in variants):
            front.tx.page[64 : 64 + len(slots)] = slots

    sizes: set[int] = set()
    total = 0
    with forked(scribble):
        for rounds in until(lambda: len(sizes) == 2, at_least=ROUNDS):
            front.tx.req_prod = rounds + 1
            front.run_tx()
            for frame in front.end.tap.frames():
                sizes.add(len(frame))
                total += len(frame)
    counted = front.end.counted(
        "tx_packets", "tx_bad_gref", "tx_csum_unparsable", "tx_bad_size"
    )
    assert front.end.stats.broken() is None
    assert sum(counted.values()) == rounds + 1
    assert sizes == {60, 100}
    assert front.end.counted("tx_bytes") == {"tx_bytes": total}
    assert front.link.in_use() == [front.tx_page.gref, front.rx_page.gref]


def test_xsa_155_the_backend_parses_the_headers_it_forwards(
    stack: ExitStack,
) -> None:
    front = ScriptedFront(stack)
    frame = both_read_as_tcp()
    page = front.link.share(readonly=True)
    page.data[: len(frame)] = frame

    def toggle() -> None:
        for value in itertools.cycle((SHORT, LONG)):
            page.data[IHL_AT] = value

    seen: set[int] = set()
    with forked(toggle):
        for _ in until(lambda: len(seen) == 2, at_least=ROUNDS):
            front.send(TxRequest(page.gref, flags=1, size=len(frame)))
            for received in front.end.tap.received():
                assert csum_start_fits(received)
                seen.add(received.frame[IHL_AT])
    assert seen == {SHORT, LONG}


def test_r27_the_frontend_parses_the_headers_it_forwards(stack: ExitStack) -> None:
    back = ScriptedBack(stack)
    frame = both_read_as_tcp()
    pages = [back.link.page(number) for number in back.end.buffers.rx_frames]
    for page in pages:
        page[: len(frame)] = frame

    def toggle() -> None:
        for value in itertools.cycle((SHORT, LONG)):
            for page in pages:
                page[IHL_AT] = value

    seen: set[int] = set()
    with forked(toggle):
        for _ in until(lambda: len(seen) == 2, at_least=ROUNDS):
            back.respond(RxResponse(0, flags=2, status=len(frame)))
            for received in back.end.tap.received():
                assert csum_start_fits(received)
                seen.add(received.frame[IHL_AT])
    assert seen == {SHORT, LONG}


@pytest.mark.parametrize("word", ["rsp_event", "req_event"])
def test_r2_events_that_are_something_else_each_time(
    stack: ExitStack, word: str
) -> None:
    """Notifications may be lost or too many, which is the frontend's own loss."""
    front = ScriptedFront(stack)
    gref = front.page_with(plain())

    def scribble() -> None:
        for value in itertools.count(step=0x10000001):
            setattr(front.tx, word, value)
            setattr(front.rx, word, value)

    with forked(scribble):
        for number in range(2000):
            answers = front.send(TxRequest(gref, id=number, size=60))
            assert answers == [TxResponse(number, 0)]
            assert front.end.tap.frames() == [plain()]
            front.post(1)
            front.end.tap.send(plain(seed=number))
            front.run_rx()
            front.end.queue.arm()
    assert front.end.stats.broken() is None
