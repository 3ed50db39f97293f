"""What a played end makes of rings that a driver under test has filled badly.

Here the driver is a played end, too, which publishes what a driver must not.
"""

from contextlib import ExitStack

import pytest

from tests.native.frames import plain
from tests.native.helpers import Link
from xenvirt.abi.netif import RxFlags, TxFlags
from xenvirt.errors import XenvirtError
from xenvirt.testing.back_rings import BackRings
from xenvirt.testing.front_rings import FrontRings
from xenvirt.testing.slots import Extra, RxResponse, TxRequest, gso

HALF = r"the driver published half a packet, in slots {}: .*another {} follows"


@pytest.fixture
def front(stack: ExitStack) -> FrontRings:
    return FrontRings(Link(stack))


@pytest.fixture
def back(front: FrontRings) -> BackRings:
    link = front.pages
    assert isinstance(link, Link)
    return BackRings(link.peer_table, front.tx.page, front.rx.page)


def pushed(front: FrontRings, *slots: TxRequest | Extra) -> None:
    front.put(*slots)
    front.push()


def test_whole_packets_are_taken_and_half_a_one_is_refused_when_it_is_next(
    front: FrontRings, back: BackRings
) -> None:
    first, second = front.chain(plain(90), [30, 60]), front.chain(plain(90), [30, 60])
    pushed(front, *first, second[0])
    (packet,) = back.tx_packets()
    assert back.data(packet) == plain(90)
    for _ in range(2):
        with pytest.raises(XenvirtError, match=HALF.format("2 to 2", "slot")):
            back.tx_packets()
    pushed(front, second[1])
    (packet,) = back.tx_packets()
    assert back.data(packet) == plain(90)


def test_more_data_in_every_slot_of_the_ring_ends_with_the_ring(
    front: FrontRings, back: BackRings
) -> None:
    pushed(front, *[TxRequest(8, flags=TxFlags.MORE_DATA, size=60)] * 256)
    with pytest.raises(XenvirtError, match=HALF.format("0 to 255", "slot")):
        back.tx_packets()


@pytest.mark.parametrize("extras", [[], [gso(1000, flags=1)]])
def test_extra_info_that_does_not_come_is_missed(
    front: FrontRings, back: BackRings, extras: list[Extra]
) -> None:
    pushed(front, TxRequest(8, flags=TxFlags.EXTRA_INFO, size=60), *extras)
    expected = HALF.format(f"0 to {len(extras)}", "extra info")
    with pytest.raises(XenvirtError, match=expected):
        back.tx_packets()


@pytest.mark.parametrize(
    ("sizes", "offset", "expected"),
    [
        ([60], 4090, "offset 4090 and 60 bytes: cross page"),
        ([4097], 0, "offset 0 and 4097 bytes: cross page"),
        ([30, 4000], 97, "offset 97 and 4000 bytes: cross page"),
    ],
)
def test_data_that_crosses_its_page_is_no_short_frame(
    front: FrontRings, back: BackRings, sizes: list[int], offset: int, expected: str
) -> None:
    requests = front.chain(b"", sizes)
    pushed(front, *requests[:-1], requests[-1]._replace(offset=offset))
    (packet,) = back.tx_packets()
    with pytest.raises(XenvirtError, match=expected):
        back.data(packet)


def test_data_up_to_the_end_of_its_page_is_a_frame(
    front: FrontRings, back: BackRings
) -> None:
    pushed(front, TxRequest(front.page_with(plain(60), 4036), 4036, size=60))
    (packet,) = back.tx_packets()
    assert back.data(packet) == plain(60)


def test_slots_that_exceed_their_frame_are_refused(
    front: FrontRings, back: BackRings
) -> None:
    first, second = front.chain(plain(90), [30, 60])
    pushed(front, first._replace(size=50), second)
    (packet,) = back.tx_packets()
    with pytest.raises(XenvirtError, match=r"frame of 50 bytes: .* slots have 60"):
        back.data(packet)


def test_half_a_received_frame_is_refused_when_it_is_next(
    front: FrontRings, back: BackRings
) -> None:
    front.post(8)
    back.deliver(plain(70))
    back.respond(RxResponse(1, flags=RxFlags.MORE_DATA, status=30))
    assert [frame.data for frame in front.rx_frames()] == [plain(70)]
    with pytest.raises(XenvirtError, match=HALF.format("1 to 1", "slot")):
        front.rx_frames()
    back.respond(RxResponse(2, status=30))
    assert [len(frame.slots) for frame in front.rx_frames()] == [2]


@pytest.mark.parametrize(
    ("slot", "expected"),
    [
        (RxResponse(0, offset=4090, status=60), "offset 4090 and 60 bytes: cross page"),
        (RxResponse(0, flags=RxFlags.EXTRA_INFO), HALF.format("0 to 0", "extra info")),
    ],
)
def test_a_received_frame_that_cannot_be_is_refused(
    front: FrontRings, back: BackRings, slot: RxResponse, expected: str
) -> None:
    front.post(8)
    back.respond(slot)
    with pytest.raises(XenvirtError, match=expected):
        front.rx_frames()


def test_an_answer_where_no_buffer_was_posted_is_refused(
    front: FrontRings, back: BackRings
) -> None:
    front.post(1)
    back.respond(RxResponse(0, status=60), RxResponse(1, status=60))
    assert len(front.rx_frames()) == 1
    expected = "answered in RX slot 1: no buffer was posted there"
    with pytest.raises(XenvirtError, match=expected):
        front.rx_frames()
