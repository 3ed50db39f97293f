"""Hop 1, frontend: TAP to TX ring (netif.h, "Guest transmit"; protocol.md 1.5)."""

import os
from contextlib import ExitStack
from dataclasses import replace

import pytest

from tests.native.frames import big_tcp, blank, payload, plain, tcp, udp
from tests.native.helpers import (
    DATA_VALID,
    EVERYTHING,
    NO_OFFLOAD,
    Channel,
    FrontEnd,
    Link,
    Vnet,
)
from tests.native.scripted import ScriptedBack
from xenvirt.native.evtchn import Evtchn
from xenvirt.native.queue import PeerFeatures, QueueIO, front_queue
from xenvirt.testing.slots import Extra, TxRequest, TxResponse, gso

NO_SG = replace(EVERYTHING, sg=False, gso_tcpv4=False, gso_tcpv6=False)
MORE_DATA = 4


@pytest.fixture
def back(stack: ExitStack) -> ScriptedBack:
    return ScriptedBack(stack)


def sent(
    back: ScriptedBack, frame: bytes, vnet: Vnet = NO_OFFLOAD
) -> list[TxRequest | Extra]:
    """The slots that one frame became."""
    back.end.tap.send(frame, vnet)
    assert back.run_tx() == 1
    (packet,) = back.tx_packets()
    assert back.data(packet) == frame
    return packet


def requests(packet: list[TxRequest | Extra]) -> list[TxRequest]:
    return [slot for slot in packet if isinstance(slot, TxRequest)]


@pytest.mark.parametrize("length", [14, 60, 1514, 4095, 4096])
def test_a_frame_of_up_to_a_page_takes_one_slot(
    back: ScriptedBack, length: int
) -> None:
    packet = sent(back, plain(length))
    (request,) = requests(packet)
    assert request == TxRequest(request.gref, 0, 0, request.id, length)
    assert request.gref == back.end.buffers.tx_grefs[request.id]


@pytest.mark.parametrize("length", [4097, 8192, 8193, 10000, 65534, 65535])
def test_only_the_first_slot_says_the_whole_size(
    back: ScriptedBack, length: int
) -> None:
    slots = requests(sent(back, plain(length)))
    pages, rest = divmod(length - 1, 4096)
    assert [slot.size for slot in slots] == [length, *[4096] * (pages - 1), rest + 1]
    assert [slot.flags for slot in slots] == [MORE_DATA] * pages + [0]
    assert [slot.offset for slot in slots] == [0] * (pages + 1)
    grefs = back.end.buffers.tx_grefs
    assert [slot.gref for slot in slots] == [grefs[slot.id] for slot in slots]
    assert len({slot.id for slot in slots}) == pages + 1


@pytest.mark.parametrize(("version", "kind"), [(4, 1), (6, 2)])
@pytest.mark.parametrize("length", [1600, 4096, 4097, 65535])
def test_the_gso_extra_is_the_second_slot(
    back: ScriptedBack, version: int, kind: int, length: int
) -> None:
    packet = sent(back, *big_tcp(version, length, mss=1448))
    more = MORE_DATA if length > 4096 else 0
    assert requests(packet)[0].flags == 8 | 2 | 1 | more
    assert packet[1] == gso(1448, kind)
    assert all(isinstance(slot, TxRequest) for slot in packet[2:])
    assert back.end.counted("tx_packets", "tx_gso_packets", "tx_bytes") == {
        "tx_packets": 1,
        "tx_gso_packets": 1,
        "tx_bytes": length,
    }


@pytest.mark.parametrize("build", [tcp, udp])
@pytest.mark.parametrize("version", [4, 6])
def test_a_blank_checksum_is_said_in_the_first_slot_only(
    back: ScriptedBack, build: type, version: int
) -> None:
    packet = requests(sent(back, *blank(build(version, 5000))))
    assert [slot.flags for slot in packet] == [MORE_DATA | 2 | 1, 0]


def test_validated_data_is_said_without_a_blank_checksum(back: ScriptedBack) -> None:
    (request,) = requests(sent(back, tcp(4), Vnet(flags=DATA_VALID)))
    assert request.flags == 2


NOT_SAYABLE = {
    "UDP fragmentation": Vnet(flags=1, gso_type=3, gso_size=1448),
    "UDP segmentation": Vnet(flags=1, gso_type=5, gso_size=1448),
    "ECN": Vnet(flags=1, gso_type=0x81, gso_size=1448),
    "no segment size": Vnet(flags=1, gso_type=1, gso_size=0),
    "a complete checksum": Vnet(flags=0, gso_type=1, gso_size=1448),
}


@pytest.mark.parametrize("vnet", NOT_SAYABLE.values(), ids=NOT_SAYABLE)
def test_gso_that_netif_has_no_word_for_is_dropped(
    back: ScriptedBack, vnet: Vnet
) -> None:
    frame, good = blank(tcp(4, 3000))
    back.end.tap.send(
        frame, vnet._replace(csum_start=good.csum_start, csum_offset=good.csum_offset)
    )
    back.run_tx()
    assert back.tx_packets() == []
    assert back.end.all_counted() == {"tx_dropped": 1, "tx_no_offload": 1}
    sent(back, plain())


@pytest.mark.parametrize(
    ("version", "off"),
    [
        (4, {"gso_tcpv4": False}),
        (6, {"gso_tcpv6": False}),
        (4, {"csum_v4": False}),
        (6, {"csum_v6": False}),
        (4, {"sg": False}),
    ],
)
def test_gso_that_the_backend_does_not_take_is_dropped(
    stack: ExitStack, version: int, off: dict[str, bool]
) -> None:
    back = ScriptedBack(stack, replace(EVERYTHING, **off))
    back.end.tap.send(*big_tcp(version, 3000))
    back.run_tx()
    assert back.tx_packets() == []
    assert back.end.all_counted() == {"tx_dropped": 1, "tx_no_offload": 1}
    sent(back, plain())


@pytest.mark.parametrize(
    ("takes", "length"), [(EVERYTHING, 65536), (EVERYTHING, 80000), (NO_SG, 4097)]
)
def test_a_frame_too_long_for_netif_is_dropped(
    stack: ExitStack, takes: PeerFeatures, length: int
) -> None:
    back = ScriptedBack(stack, takes)
    back.end.tap.send(plain(length))
    back.run_tx()
    assert back.tx_packets() == []
    assert back.end.all_counted() == {"tx_dropped": 1, "tx_too_big": 1}
    sent(back, plain(4096 if takes is NO_SG else 65535))


def test_a_full_ring_stops_the_reading_and_loses_nothing(back: ScriptedBack) -> None:
    frames = [plain(seed=seed) for seed in range(250)]
    for frame in frames:
        back.end.tap.send(frame)
    while back.run_tx():
        pass
    assert back.end.tap.waiting()
    room = 256 - (back.tx.req_prod - back.tx.rsp_prod)
    assert room == 17  # one less than the largest frame and its extra take
    first = back.tx_packets()
    seen = [back.data(packet) for packet in first]
    back.answer(*(TxResponse(requests(packet)[0].id, 0) for packet in first))
    while back.run_tx():
        pass
    seen += [back.data(packet) for packet in back.tx_packets()]
    assert seen == frames


def test_a_full_ring_asks_to_be_woken_when_half_is_answered(back: ScriptedBack) -> None:
    for seed in range(240):
        back.end.tap.send(plain(seed=seed))
    while back.run_tx():
        pass
    assert back.end.queue.arm() is False
    assert back.tx.rsp_event == 120  # of 239
    ids = [requests(packet)[0].id for packet in back.tx_packets()]
    back.answer(*(TxResponse(each, 0) for each in ids[:119]))
    assert back.end.queue.arm() is False
    back.answer(TxResponse(ids[119], 0))
    assert back.end.queue.arm() is True
    assert back.run_tx() == 1


def test_the_ring_always_has_room_for_the_largest_frame(back: ScriptedBack) -> None:
    accepted = 0
    while not back.end.tap.waiting():
        back.end.tap.send(plain())
        accepted += back.run_tx()
    assert accepted == 256 - 18 + 1
    assert back.tx.req_prod == accepted


def test_fewer_slots_are_in_flight_with_big_frames(back: ScriptedBack) -> None:
    """What is in flight is to be in the cache still when the backend reads it."""
    frame, vnet = big_tcp(4, 65535)
    accepted = 0
    while not back.end.tap.waiting():
        back.end.tap.send(frame, vnet)
        accepted += back.run_tx()
    assert back.tx.req_prod == accepted * 17 == 85


@pytest.mark.parametrize(
    ("status", "counter"), [(-1, "tx_rsp_error"), (-2, "tx_rsp_dropped"), (-77, "")]
)
def test_a_refused_frame_is_counted_and_its_page_used_again(
    back: ScriptedBack, status: int, counter: str
) -> None:
    for _ in range(600):
        packet = sent(back, plain())
        back.answer(TxResponse(requests(packet)[0].id, status))
    assert back.end.stats.broken() is None
    counted = back.end.all_counted()
    assert counted["tx_packets"] == 600
    if counter:
        assert counted[counter] > 300


def test_lone_frames_use_one_page_again_and_again(back: ScriptedBack) -> None:
    """It is in the cache, and the 255 others need not be there at all."""
    grefs = set()
    for _ in range(20):
        (request,) = requests(sent(back, plain()))
        grefs.add(request.gref)
        back.answer(TxResponse(request.id, 0))
    assert len(grefs) == 1


def test_pages_come_back_in_whatever_order_they_are_answered(
    back: ScriptedBack,
) -> None:
    for round_ in range(12):
        frames = [payload(5000, seed=round_ * 20 + n) for n in range(20)]
        packets = [requests(sent(back, frame)) for frame in frames]
        ids = [request.id for packet in packets for request in packet]
        back.answer(*(TxResponse(each, 0) for each in reversed(ids)))
    assert back.end.stats.broken() is None
    assert back.tx.req_prod == 12 * 40


@pytest.mark.parametrize(("event", "told"), [(1, True), (2, False), (0, False)])
def test_the_backend_is_told_when_it_asked_to_be(
    back: ScriptedBack, event: int, told: bool
) -> None:
    back.channel.back_notified()  # of the RX buffers
    back.tx.req_event = event
    sent(back, plain())
    assert back.channel.back_notified() is told


def test_a_tap_that_is_gone_breaks_the_queue(stack: ExitStack) -> None:
    link, channel = Link(stack), Channel(stack)
    end = FrontEnd(stack, link, channel)
    with open(os.devnull, "wb") as unreadable:
        evtchn = Evtchn(channel.front, channel.back)
        io = QueueIO(unreadable.fileno(), evtchn, evtchn)
        queue = front_queue(io, link.table, end.buffers, EVERYTHING, end.stats)
        stack.callback(queue.close)
        assert queue.front_tx(64) == 0
    said = "the interface is gone (errno 9); detach the vif and attach it again"
    assert end.stats.broken() == said
