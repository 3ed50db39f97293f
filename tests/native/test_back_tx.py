"""Hop 2, backend: TX ring to TAP (protocol.md 1.5, 1.7), for frames that are good."""

import os
from contextlib import ExitStack

import pytest

from tests.native.frames import big_tcp, blank, plain, tcp, udp
from tests.native.helpers import NEEDS_CSUM, NO_OFFLOAD, VNET, Received, Vnet
from tests.native.scripted import ScriptedFront
from xenvirt.native.evtchn import Evtchn
from xenvirt.native.queue import QueueIO, back_queue
from xenvirt.testing.slots import Extra, TxRequest, TxResponse, gso

pytestmark = pytest.mark.usefixtures("payload")

LAST_INDICES = 0xFFFFFFF0

OKAY, NULL, ERROR, DROPPED = 0, 1, -1, -2


@pytest.fixture(params=[0, LAST_INDICES], ids=["from 0", "across 2^32"])
def front(stack: ExitStack, request: pytest.FixtureRequest) -> ScriptedFront:
    return ScriptedFront(stack, start=request.param)


def only_rings_in_use(front: ScriptedFront) -> bool:
    return front.link.in_use() == [front.tx_page.gref, front.rx_page.gref]


CUTS = {
    "one slot": [60],
    "a page": [4096],
    "two slots": [66, 1448],
    "16 slots, 65,535 bytes": [4096] * 15 + [4095],
    "18 slots": [100] * 18,
    "19 slots, as netback still takes": [100] * 19,
}


def is_put_together_and_each_slot_answered(
    front: ScriptedFront, sizes: list[int]
) -> None:
    frame = plain(sum(sizes))
    answers = front.send(*front.chain(frame, sizes, first_id=7))
    assert answers == [TxResponse(7 + n, OKAY) for n in range(len(sizes))]
    assert front.end.tap.received() == [Received(NO_OFFLOAD, frame)]
    assert only_rings_in_use(front)
    assert front.end.all_counted() == {
        "tx_packets": 1,
        "tx_bytes": len(frame),
        "tx_slots": len(sizes),
    }


@pytest.mark.parametrize("sizes", CUTS.values(), ids=CUTS)
def test_a_frame_is_put_together_and_each_slot_answered(
    front: ScriptedFront, sizes: list[int]
) -> None:
    is_put_together_and_each_slot_answered(front, sizes)


def test_xsa_423_a_first_slot_of_one_byte(front: ScriptedFront) -> None:
    is_put_together_and_each_slot_answered(front, [1, 10, 3, 40, 6])


def test_xsa_423_headers_in_three_slots_are_parsed(front: ScriptedFront) -> None:
    frame, vnet = blank(tcp(4))
    sizes = [1, 20, 30, len(frame) - 51]
    front.send(*front.chain(frame, sizes, flags=1))
    assert front.end.tap.received() == [Received(vnet, frame)]


def test_xsa_432_eighteen_slots_after_the_first_of_128_bytes_in_all(
    front: ScriptedFront,
) -> None:
    is_put_together_and_each_slot_answered(front, [20] + [6] * 18)


@pytest.mark.parametrize(
    "sizes",
    [[60, 0], [60, 0, 0, 40], [0, 60]],
    ids=["after the first", "in the middle", "all data in the second"],
)
def test_xsa_448_empty_slots_beside_data(
    front: ScriptedFront, sizes: list[int]
) -> None:
    is_put_together_and_each_slot_answered(front, sizes)


def test_data_begins_at_the_slots_offset(front: ScriptedFront) -> None:
    frame = plain(200)
    first = TxRequest(front.page_with(frame[:150], 3946), 3946, 4, 1, 200)
    second = TxRequest(front.page_with(frame[150:], 4046), 4046, 0, 2, 50)
    front.send(first, second)
    assert front.end.tap.frames() == [frame]


@pytest.mark.parametrize("number", [0, 255, 256, 65535])
def test_an_id_is_echoed_whatever_it_is(front: ScriptedFront, number: int) -> None:
    request = TxRequest(front.page_with(plain()), id=number, size=60)
    assert front.send(request) == [TxResponse(number, OKAY)]


def test_unknown_flags_are_ignored(front: ScriptedFront) -> None:
    request = TxRequest(front.page_with(plain()), flags=0xFFF0, id=1, size=60)
    assert front.send(request) == [TxResponse(1, OKAY)]
    assert front.end.tap.received() == [Received(NO_OFFLOAD, plain())]


@pytest.mark.parametrize("build", [tcp, udp])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("validated", [0, 2])
def test_a_blank_checksum_is_found_again(
    front: ScriptedFront, build: type, version: int, validated: int
) -> None:
    frame, vnet = blank(build(version, 5000))
    front.send(*front.chain(frame, [54, 4096, len(frame) - 4150], 1 | validated))
    assert front.end.tap.received() == [Received(vnet, frame)]


def test_validated_data_needs_nothing_of_the_tap(front: ScriptedFront) -> None:
    front.send(*front.chain(tcp(4), [len(tcp(4))], flags=2))
    assert front.end.tap.received() == [Received(NO_OFFLOAD, tcp(4))]


@pytest.mark.parametrize(("version", "kind"), [(4, 1), (6, 2)])
@pytest.mark.parametrize("length", [2962, 65535])
def test_a_gso_frame_is_said_to_the_tap(
    front: ScriptedFront, version: int, kind: int, length: int
) -> None:
    frame, vnet = big_tcp(version, length)
    pages, rest = divmod(length - 86, 4096)
    first, *others = front.chain(frame, [86, *[4096] * pages, rest], 8 | 2 | 1)
    answers = front.send(first, gso(1448, kind), *others)
    assert answers[:2] == [TxResponse(0, OKAY), TxResponse(0, NULL)]
    assert answers[2:] == [TxResponse(1 + n, OKAY) for n in range(len(others))]
    assert front.end.tap.received() == [Received(vnet, frame)]
    assert front.end.counted("tx_gso_packets")["tx_gso_packets"] == 1


def test_a_gso_frame_with_a_full_checksum_gets_a_blank_one(
    front: ScriptedFront,
) -> None:
    blanked, vnet = big_tcp(4, 3000)
    frame = tcp(4, 3000 - vnet.hdr_len)
    first, second = front.chain(frame, [1500, 1500], flags=8)
    front.send(first, gso(1448), second)
    assert front.end.tap.received() == [Received(vnet, blanked)]
    fixups = front.end.counted("tx_gso_checksum_fixup")
    assert fixups == {"tx_gso_checksum_fixup": 1}


@pytest.mark.parametrize(
    ("size", "said"), [(1, 48), (47, 48), (48, 48), (65535, 65535)]
)
def test_r7_a_segment_size_is_never_tiny(
    front: ScriptedFront, size: int, said: int
) -> None:
    frame, _ = big_tcp(4, 3000)
    first, second = front.chain(frame, [1500, 1500], flags=8 | 1)
    front.send(first, gso(size), second)
    (received,) = front.end.tap.received()
    assert received.vnet.gso_size == said


def test_r6_the_last_of_two_gso_extras_counts(front: ScriptedFront) -> None:
    frame, vnet = big_tcp(4, 3000, mss=500)
    first, second = front.chain(frame, [1500, 1500], flags=8 | 1)
    answers = front.send(first, gso(1448, flags=1), gso(500), second)
    assert [answer.status for answer in answers] == [OKAY, NULL, NULL, OKAY]
    assert front.end.tap.received() == [Received(vnet, frame)]


def test_a_hash_extra_is_taken_and_ignored(front: ScriptedFront) -> None:
    (request,) = front.chain(plain(), [60], flags=8)
    answers = front.send(request, Extra(4, 0, b"\x02\x01abcd"))
    assert [answer.status for answer in answers] == [OKAY, NULL]
    assert front.end.tap.received() == [Received(NO_OFFLOAD, plain())]


def test_frames_keep_their_order_across_runs(front: ScriptedFront) -> None:
    frames = [plain(seed=seed) for seed in range(150)]
    for number, frame in enumerate(frames):
        front.put(TxRequest(front.page_with(frame), id=number, size=60))
    front.push()
    assert [front.run_tx() for _ in range(4)] == [64, 64, 22, 0]
    assert front.end.tap.frames() == frames
    assert front.responses() == [TxResponse(n, OKAY) for n in range(150)]


def test_a_tap_that_cannot_take_a_frame_loses_none(front: ScriptedFront) -> None:
    front.end.tap.fill()
    frames = [plain(seed=seed) for seed in range(3)]
    for number, frame in enumerate(frames):
        front.put(*front.chain(frame, [40, 20], first_id=2 * number))
    front.push()
    assert front.run_tx() == 0
    assert front.responses() == []
    assert only_rings_in_use(front)
    assert front.end.queue.back_tx(64) == 0  # until the TAP says that it can
    front.end.tap.received()
    assert front.end.queue.back_tx(64) == 0
    assert front.run_tx() == 3
    assert front.end.tap.frames() == frames
    assert front.responses() == [TxResponse(n, OKAY) for n in range(6)]
    assert front.end.counted("tx_packets", "tx_dropped") == {
        "tx_packets": 3,
        "tx_dropped": 0,
    }


def test_xsa_424_a_bad_packet_among_good_ones_under_a_full_tap(
    front: ScriptedFront,
) -> None:
    front.end.tap.fill()
    good = [front.page_with(plain(seed=seed)) for seed in range(2)]
    front.put(
        TxRequest(good[0], id=0, size=60),
        TxRequest(0, id=1, size=60),
        TxRequest(good[1], id=2, size=60),
    )
    front.push()
    assert front.run_tx() == 0
    assert front.responses() == []
    front.end.tap.received()
    front.run_tx()
    assert front.responses() == [
        TxResponse(0, OKAY), TxResponse(1, ERROR), TxResponse(2, OKAY),
    ]  # fmt: skip
    assert front.end.tap.frames() == [plain(seed=seed) for seed in range(2)]
    assert only_rings_in_use(front)


@pytest.mark.parametrize(("ahead", "told"), [(1, True), (2, True), (3, False)])
def test_the_frontend_is_told_when_it_asked_to_be(
    front: ScriptedFront, ahead: int, told: bool
) -> None:
    front.tx.rsp_event = front.tx.rsp_prod + ahead
    front.send(*front.chain(plain(), [40, 20]))
    assert front.channel.front_notified() is told


@pytest.mark.parametrize(
    ("word", "value"),
    [("rsp_prod", 100), ("rsp_prod", -1), ("req_event", 77), ("rsp_event", 1 << 31)],
)
def test_r3_the_backend_goes_by_its_own_indices(
    front: ScriptedFront, word: str, value: int
) -> None:
    """What the frontend writes into the backend's words changes nothing."""
    setattr(front.tx, word, value)
    assert front.send_frame(plain()) == [TxResponse(0, OKAY)]
    assert front.send_frame(plain(seed=1)) == [TxResponse(0, OKAY)]
    assert front.end.tap.frames() == [plain(), plain(seed=1)]


def test_a_frame_that_the_tap_refuses_is_answered_dropped(stack: ExitStack) -> None:
    front = ScriptedFront(stack)
    with open(os.devnull, "rb") as unwritable:
        evtchn = Evtchn(front.channel.back, front.channel.front)
        io = QueueIO(unwritable.fileno(), evtchn, evtchn)
        refs = (front.tx_page.gref, front.rx_page.gref)
        queue = back_queue(
            io, front.link.peer_table, *refs, front.takes, front.end.stats
        )
        stack.callback(queue.close)
        front.put(TxRequest(front.page_with(plain()), id=9, size=60))
        front.push()
        queue.back_tx(64)
    assert front.responses() == [TxResponse(9, DROPPED)]
    assert front.end.all_counted() == {
        "tx_slots": 1,
        "tx_dropped": 1,
        "tx_tap_error": 1,
    }


def test_a_vnet_header_is_ten_bytes() -> None:
    assert VNET.size == 10
    assert VNET.pack(*Vnet(NEEDS_CSUM, 1, 54, 1448, 34, 16)) == bytes.fromhex(
        "01 01 3600 a805 2200 1000"
    )
