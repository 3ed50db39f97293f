"""Hop 3, backend: TAP to RX ring (netif.h, "Guest receive"; protocol.md 1.6)."""

from contextlib import ExitStack
from dataclasses import replace

import pytest

from tests.native.frames import big_tcp, blank, plain, tcp, udp
from tests.native.helpers import DATA_VALID, EVERYTHING, NO_OFFLOAD, Vnet
from tests.native.scripted import ScriptedFront
from xenvirt.native.queue import PeerFeatures
from xenvirt.testing.front_rings import RxFrame
from xenvirt.testing.slots import RxResponse, gso

pytestmark = pytest.mark.usefixtures("payload")

LAST_INDICES = 0xFFFFFFF0
MORE_DATA = 4
SLOTS_FOR_ANY = 18

NO_GSO = replace(EVERYTHING, gso_tcpv4=False, gso_tcpv6=False)
NO_SG = replace(NO_GSO, sg=False)
SG_ONLY_SAID_BY_GSO = replace(EVERYTHING, sg=False)


@pytest.fixture(params=[0, LAST_INDICES], ids=["from 0", "across 2^32"])
def front(stack: ExitStack, request: pytest.FixtureRequest) -> ScriptedFront:
    made = ScriptedFront(stack, start=request.param)
    made.post(40)
    return made


def got(front: ScriptedFront, frame: bytes, vnet: Vnet = NO_OFFLOAD) -> RxFrame:
    """How one frame from the TAP looked in the ring."""
    front.end.tap.send(frame, vnet)
    front.run_rx()
    (received,) = front.rx_frames()
    assert received.data == frame
    return received


LENGTHS = [14, 60, 4095, 4096, 4097, 8192, 8193, 20000, 65534, 65535]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("takes", [EVERYTHING, NO_GSO], ids=["gso", "no gso"])
def test_each_slot_says_its_own_size(
    stack: ExitStack, takes: PeerFeatures, length: int
) -> None:
    front = ScriptedFront(stack, takes)
    front.post(40)
    pages, rest = divmod(length - 1, 4096)
    assert got(front, plain(length)).slots == [
        *(RxResponse(n, 0, MORE_DATA, 4096) for n in range(pages)),
        RxResponse(pages, 0, 0, rest + 1),
    ]


def test_responses_lie_where_their_requests_were(front: ScriptedFront) -> None:
    first = front.rx_cons
    for seed in range(3):
        received = got(front, plain(5000, seed))
        ids = [(first + 2 * seed + n) % 65536 for n in range(2)]
        assert [slot.id for slot in received.slots] == ids  # type: ignore[union-attr]


@pytest.mark.parametrize(("version", "kind"), [(4, 1), (6, 2)])
@pytest.mark.parametrize("length", [3000, 4096, 4097, 8193, 65535])
def test_the_gso_extra_takes_the_second_slot_and_its_buffer(
    front: ScriptedFront, version: int, kind: int, length: int
) -> None:
    slots = got(front, *big_tcp(version, length)).slots
    pages, rest = divmod(length - 1, 4096)
    more = MORE_DATA if pages else 0
    first = slots[0]
    assert isinstance(first, RxResponse)
    assert (first.flags, first.status) == (8 | 2 | 1 | more, min(length, 4096))
    assert slots[1] == gso(1448, kind)
    sizes = [slot.status for slot in slots[2:] if isinstance(slot, RxResponse)]
    assert sizes == ([4096] * (pages - 1) + [rest + 1] if pages else [])


def test_a_blank_checksum_is_bit_1_and_validated_data_bit_0(
    front: ScriptedFront,
) -> None:
    assert got(front, *blank(tcp(4))).slots[0].flags == 2 | 1
    assert got(front, *blank(udp(6))).slots[0].flags == 2 | 1
    assert got(front, tcp(4), Vnet(flags=DATA_VALID)).slots[0].flags == 1
    assert got(front, tcp(4)).slots[0].flags == 0


def test_flags_are_in_the_first_slot_only(front: ScriptedFront) -> None:
    slots = got(front, *blank(tcp(4, 9000))).slots
    assert [slot.flags for slot in slots] == [MORE_DATA | 2 | 1, MORE_DATA, 0]


@pytest.mark.parametrize(
    ("takes", "version"),
    [
        (replace(EVERYTHING, gso_tcpv4=False), 4),
        (replace(EVERYTHING, gso_tcpv6=False), 6),
        (replace(EVERYTHING, csum_v4=False), 4),
        (replace(EVERYTHING, csum_v6=False), 6),
        (SG_ONLY_SAID_BY_GSO, 4),
    ],
)
def test_gso_that_the_frontend_does_not_take_costs_no_buffer(
    stack: ExitStack, takes: PeerFeatures, version: int
) -> None:
    front = ScriptedFront(stack, takes)
    front.post(40)
    front.end.tap.send(*big_tcp(version, 3000))
    assert front.run_rx() == 1
    assert front.rx_frames() == []
    assert front.end.all_counted() == {"rx_dropped": 1, "rx_no_offload": 1}
    assert got(front, plain()).slots == [RxResponse(0, 0, 0, 60)]


@pytest.mark.parametrize(
    ("takes", "length"),
    [(EVERYTHING, 65536), (NO_GSO, 75000), (NO_SG, 4097), (NO_SG, 65535)],
)
@pytest.mark.parametrize("posted", [1, 40])
def test_a_frame_too_long_for_netif_is_dropped(
    stack: ExitStack, takes: PeerFeatures, length: int, posted: int
) -> None:
    front = ScriptedFront(stack, takes)
    front.post(posted)
    front.end.tap.send(plain(length))
    front.run_rx()
    assert front.rx_frames() == []
    assert front.end.all_counted() == {"rx_dropped": 1, "rx_too_big": 1}
    assert got(front, plain()).slots == [RxResponse(0, 0, 0, 60)]


@pytest.mark.parametrize("takes", [NO_SG, SG_ONLY_SAID_BY_GSO])
def test_a_frontend_without_sg_needs_one_buffer_a_frame(
    stack: ExitStack, takes: PeerFeatures
) -> None:
    front = ScriptedFront(stack, takes)
    front.post(3)
    for seed, length in enumerate((60, 4096, 1514)):
        received = got(front, plain(length, seed))
        assert received.slots == [RxResponse(seed, 0, 0, length)]


@pytest.mark.parametrize("length", [60, 8193, 65535])
@pytest.mark.parametrize("gso_frame", [False, True])
def test_a_frame_is_held_until_enough_is_posted(
    stack: ExitStack, length: int, gso_frame: bool
) -> None:
    front = ScriptedFront(stack)
    frame, vnet = big_tcp(4, length) if gso_frame else (plain(length), NO_OFFLOAD)
    slots = -(-length // 4096) + gso_frame
    if slots > 1:
        front.post(slots - 1)
    front.end.tap.send(frame, vnet)
    front.end.tap.send(plain(seed=1))
    front.run_rx()
    assert front.rx_frames() == []
    assert front.end.tap.waiting()  # never more than one is taken (XSA-392)
    front.post(1)
    front.run_rx()
    assert [received.data for received in front.rx_frames()] == [frame]
    front.post(1)
    front.run_rx()
    assert [received.data for received in front.rx_frames()] == [plain(seed=1)]
    assert "rx_dropped" not in front.end.all_counted()


def test_without_requests_a_frame_stays_in_the_tap(stack: ExitStack) -> None:
    front = ScriptedFront(stack)
    front.end.tap.send(plain())
    assert front.run_rx() == 0
    assert front.end.tap.waiting()
    assert front.end.queue.arm() is False
    assert front.rx.req_event == 1
    front.post(1)
    front.run_rx()
    assert [received.data for received in front.rx_frames()] == [plain()]


def test_a_held_frame_asks_to_be_woken_by_its_last_request(stack: ExitStack) -> None:
    front = ScriptedFront(stack)
    front.post(1)
    front.end.tap.send(plain(12000))
    front.run_rx()
    assert front.end.queue.arm() is False
    assert front.rx.req_event == 3
    front.post(2)
    assert front.end.queue.arm() is True


def test_a_used_buffer_is_let_go_before_its_response(front: ScriptedFront) -> None:
    used = [front.posted[front.rx_cons + n].gref for n in range(3)]
    got(front, *big_tcp(4, 5000))
    assert not set(used) & set(front.link.in_use())


@pytest.mark.parametrize(("ahead", "told"), [(1, True), (2, True), (3, False)])
def test_the_frontend_is_told_when_it_asked_to_be(
    front: ScriptedFront, ahead: int, told: bool
) -> None:
    front.rx.rsp_event = front.rx.rsp_prod + ahead
    got(front, plain(5000))
    assert front.channel.front_notified() is told


def test_many_frames_go_round_the_ring(front: ScriptedFront) -> None:
    frames = [plain(60 + 97 * n % 9000, n) for n in range(400)]
    seen = []
    for frame in frames:
        front.end.tap.send(frame)
        front.run_rx()
        taken = front.rx_frames()
        seen += [received.data for received in taken]
        front.post(sum(len(received.slots) for received in taken))
    assert seen == frames
