"""Hop 4, frontend: RX ring to TAP (protocol.md 1.6), for frames that are good."""

from contextlib import ExitStack

import pytest

from tests.native.frames import big_tcp, blank, plain, tcp, udp
from tests.native.helpers import NO_OFFLOAD, Received
from tests.native.scripted import ScriptedBack
from xenvirt.testing.slots import Extra, RxRequest, RxResponse, gso

MORE_DATA = 4


@pytest.fixture
def back(stack: ExitStack) -> ScriptedBack:
    return ScriptedBack(stack)


def slots_of(back: ScriptedBack, frame: bytes, sizes: list[int]) -> list[RxResponse]:
    """Write a frame into the next buffers, in pieces; the responses to it."""
    slots, at = [], 0
    for number, size in enumerate(sizes):
        back.write_page(back.rx_prod + number, frame[at : at + size])
        more = MORE_DATA if number < len(sizes) - 1 else 0
        slots.append(RxResponse(number, 0, more, size))
        at += size
    return slots


def slots_with_gap(back: ScriptedBack, frame: bytes, extras: int) -> list[RxResponse]:
    """A frame of two slots with room for extras between them, all flags set."""
    back.write_page(back.rx_prod, frame[:4000])
    back.write_page(back.rx_prod + 1 + extras, frame[4000:])
    flags = MORE_DATA | 8 | 2 | 1
    return [RxResponse(0, 0, flags, 4000), RxResponse(2, 0, 0, len(frame) - 4000)]


def test_every_buffer_is_posted_at_first(back: ScriptedBack) -> None:
    assert back.rx.req_prod == 256
    assert [back.request(n) for n in range(256)] == [
        RxRequest(n, back.end.buffers.rx_grefs[n]) for n in range(256)
    ]
    assert (back.rx.rsp_prod, back.rx.rsp_event) == (0, 1)
    assert (back.tx.req_prod, back.tx.req_event) == (0, 1)


CUTS = {
    "one slot": [60],
    "the smallest": [14],
    "a page": [4096],
    "two slots": [66, 1448],
    "65,535 bytes": [4096] * 15 + [4095],
    "an empty slot first": [0, 60],
    "empty slots in the middle": [60, 0, 0, 40],
    "18 slots": [257] + [100] * 17,
    "19 slots, the first one small": [256] + [100] * 18,
}


@pytest.mark.parametrize("sizes", CUTS.values(), ids=CUTS)
def test_a_frame_is_put_together(back: ScriptedBack, sizes: list[int]) -> None:
    frame = plain(sum(sizes))
    back.respond(*slots_of(back, frame, sizes))
    assert back.end.tap.received() == [Received(NO_OFFLOAD, frame)]
    assert back.end.all_counted() == {
        "rx_packets": 1,
        "rx_bytes": len(frame),
        "rx_slots": len(sizes),
    }


def test_data_begins_at_the_slots_offset(back: ScriptedBack) -> None:
    back.write_page(0, plain(), offset=4036)
    back.respond(RxResponse(0, offset=4036, status=60))
    assert back.end.tap.frames() == [plain()]


@pytest.mark.parametrize("build", [tcp, udp])
@pytest.mark.parametrize("version", [4, 6])
def test_a_blank_checksum_is_bit_1(
    back: ScriptedBack, build: type, version: int
) -> None:
    frame, vnet = blank(build(version))
    back.deliver(frame, flags=2)
    back.deliver(frame, flags=2 | 1)
    back.deliver(build(version), flags=1)
    assert back.end.tap.received() == [
        Received(vnet, frame),
        Received(vnet, frame),
        Received(NO_OFFLOAD, build(version)),
    ]


@pytest.mark.parametrize(("version", "kind"), [(4, 1), (6, 2)])
def test_a_gso_extra_lies_in_the_second_slot(
    back: ScriptedBack, version: int, kind: int
) -> None:
    frame, vnet = big_tcp(version, 6000)
    first, second = slots_with_gap(back, frame, extras=1)
    back.respond(first, gso(1448, kind), second)
    assert back.end.tap.received() == [Received(vnet, frame)]
    assert back.end.all_counted() == {
        "rx_packets": 1,
        "rx_bytes": 6000,
        "rx_slots": 2,
        "rx_gso_packets": 1,
    }


def test_other_extras_are_passed_over(back: ScriptedBack) -> None:
    frame, vnet = big_tcp(4, 6000)
    first, second = slots_with_gap(back, frame, extras=3)
    hash_extra = Extra(4, 1, b"\x02\x01abcd")
    back.respond(
        first, hash_extra, gso(1448, flags=1), hash_extra._replace(flags=0), second
    )
    assert back.end.tap.received() == [Received(vnet, frame)]


def test_a_gso_frame_with_a_full_checksum_gets_a_blank_one(back: ScriptedBack) -> None:
    blanked, vnet = big_tcp(4, 6000)
    first, second = slots_with_gap(back, tcp(4, 6000 - vnet.hdr_len), extras=1)
    back.respond(first._replace(flags=MORE_DATA | 8), gso(1448), second)
    assert back.end.tap.received() == [Received(vnet, blanked)]
    assert back.end.counted("rx_gso_checksum_fixup")["rx_gso_checksum_fixup"] == 1


def test_a_buffer_is_posted_again_with_its_own_grant(back: ScriptedBack) -> None:
    """An extra overwrites the id, so only the place says whose buffer it was."""
    frame, _ = big_tcp(4, 6000)
    first, second = slots_with_gap(back, frame, extras=1)
    back.respond(first._replace(id=999), gso(1448), second._replace(id=65535))
    back.deliver(plain())
    assert back.rx.req_prod == 256 + 4
    # The last that was used comes first; those of a frame keep their order.
    assert [back.request(256 + n) for n in range(4)] == [
        RxRequest(n, back.end.buffers.rx_grefs[n]) for n in (3, 0, 1, 2)
    ]


def test_big_frames_have_fewer_buffers_posted(back: ScriptedBack) -> None:
    """What they fill is to stay in the cache until it is read."""
    frame, _ = big_tcp(4, 6000)
    for used in range(3, 3 * 70, 3):
        first, second = slots_with_gap(back, frame, extras=1)
        back.respond(first, gso(1448), second)
        assert len(back.end.tap.frames()) == 1
        assert back.rx.req_prod - used == max(256 - used, 96)
    back.deliver(plain())
    assert back.rx.req_prod - (used + 1) == 256


def test_buffers_come_back_during_a_long_run(back: ScriptedBack) -> None:
    frames = [plain(seed=seed) for seed in range(40)]
    for number, frame in enumerate(frames):
        back.write_page(number, frame)
        back.rx.write(number, RxResponse(number, status=60))
    back.rx.req_event = 256 + 16
    back.channel.back_notified()
    back.rx.rsp_prod = 40
    assert back.end.queue.front_rx(16) == 16
    assert back.rx.req_prod == 256 + 16
    assert back.channel.back_notified()
    assert back.end.queue.front_rx(64) == 24
    assert back.end.tap.frames() == frames


def test_frames_go_round_the_ring(back: ScriptedBack) -> None:
    frames = [plain(60 + 7 * n % 4000, n) for n in range(600)]
    seen = []
    for frame in frames:
        back.deliver(frame)
        seen += back.end.tap.frames()
    assert seen == frames
    assert back.rx.req_prod == 256 + 600


def test_a_tap_that_cannot_take_a_frame_loses_none(back: ScriptedBack) -> None:
    back.end.tap.fill()
    for seed in range(3):
        back.deliver(plain(seed=seed))
    assert back.rx.req_prod == 256
    assert back.end.queue.front_rx(64) == 0
    back.end.tap.received()
    assert back.run_rx() == 3
    assert back.end.tap.frames() == [plain(seed=seed) for seed in range(3)]
    assert back.rx.req_prod == 256 + 3
    assert "rx_dropped" not in back.end.all_counted()


@pytest.mark.parametrize(("ahead", "told"), [(1, True), (2, False)])
def test_the_backend_is_told_of_new_buffers_when_it_asked(
    back: ScriptedBack, ahead: int, told: bool
) -> None:
    back.rx.req_event = 256 + ahead
    back.channel.back_notified()
    back.deliver(plain())
    assert back.channel.back_notified() is told
