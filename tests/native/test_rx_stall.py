"""A frontend that posts no RX buffers: frames wait, are dropped, and it is stalled."""

from contextlib import ExitStack
from dataclasses import replace

import pytest

from tests.native.frames import plain
from tests.native.helpers import EVERYTHING
from tests.native.scripted import ScriptedFront
from xenvirt.native.queue import PeerFeatures

pytestmark = pytest.mark.usefixtures("payload")

NO_NOTIFY = replace(EVERYTHING, rx_notify=False)
START_MS = 1_000_000
DRAIN_MS = 10_000
STALL_MS = 60_000


@pytest.fixture
def front(stack: ExitStack) -> ScriptedFront:
    return ScriptedFront(stack)


def run(front: ScriptedFront, after_ms: int) -> None:
    """Let hop 3 run at a time, as if some descriptor had woken it."""
    front.end.queue.set_now(START_MS + after_ms)
    front.run_rx()


def got(front: ScriptedFront) -> list[bytes]:
    return [received.data for received in front.rx_frames()]


def drained(front: ScriptedFront) -> int:
    counted = front.end.counted("rx_drained", "rx_dropped")
    assert counted["rx_drained"] == counted["rx_dropped"]
    return counted["rx_drained"]


def deadline(front: ScriptedFront) -> int | None:
    """When the queue says that it has to run, from START_MS on."""
    at = front.end.queue.deadline()
    return None if at is None else at - START_MS


@pytest.mark.parametrize(
    ("takes", "drain_ms"), [(EVERYTHING, DRAIN_MS), (NO_NOTIFY, 30)]
)
@pytest.mark.parametrize("posted", [0, 1])
def test_xsa_392_what_waited_too_long_is_dropped_and_counted(
    stack: ExitStack, takes: PeerFeatures, drain_ms: int, posted: int
) -> None:
    front = ScriptedFront(stack, takes)
    front.post(posted)
    for seed in range(5):
        front.end.tap.send(plain(5000, seed))
    run(front, 0)
    assert deadline(front) == drain_ms
    run(front, drain_ms - 1)
    assert drained(front) == 0
    run(front, drain_ms)
    assert drained(front) == 5
    assert not front.end.tap.waiting()
    assert deadline(front) is None
    front.post(40)
    front.end.tap.send(plain(5000, 9))
    run(front, drain_ms + 1)
    assert got(front) == [plain(5000, 9)]


@pytest.mark.parametrize("takes", [EVERYTHING, NO_NOTIFY])
def test_buffers_in_time_lose_nothing(stack: ExitStack, takes: PeerFeatures) -> None:
    front = ScriptedFront(stack, takes)
    frames = [plain(5000, seed) for seed in range(5)]
    for frame in frames:
        front.end.tap.send(frame)
    run(front, 0)
    run(front, 29)
    front.post(40)
    # Also where the deadline is what has woken it.
    run(front, 30 if takes is NO_NOTIFY else DRAIN_MS)
    assert got(front) == frames
    assert deadline(front) is None
    assert drained(front) == 0


def test_the_time_begins_anew_with_each_frame_that_finds_buffers(
    front: ScriptedFront,
) -> None:
    for seed in range(3):
        front.end.tap.send(plain(seed=seed))
    run(front, 0)
    front.post(1)
    run(front, DRAIN_MS - 1)
    assert got(front) == [plain(seed=0)]
    assert deadline(front) == 2 * DRAIN_MS - 1
    run(front, 2 * DRAIN_MS - 2)
    assert drained(front) == 0


def test_an_idle_frontend_without_buffers_is_looked_at_once(
    front: ScriptedFront,
) -> None:
    run(front, 0)  # the TAP may have a frame: nobody has looked
    assert deadline(front) == DRAIN_MS
    front.end.queue.set_now(START_MS + DRAIN_MS)
    front.end.queue.back_rx(1)
    assert deadline(front) is None
    assert drained(front) == 0


def stall(front: ScriptedFront) -> None:
    """Send a frame every ten seconds until the guest counts as stalled."""
    for after_ms in range(0, STALL_MS, DRAIN_MS):
        front.end.tap.send(plain())
        run(front, after_ms)
        assert not front.end.stats.rx_stalled()
        run(front, after_ms + DRAIN_MS - 1)
    front.end.tap.send(plain())
    run(front, STALL_MS - 1)
    assert not front.end.stats.rx_stalled()
    run(front, STALL_MS)


def test_xsa_392_a_frontend_short_of_buffers_for_a_minute_is_stalled(
    front: ScriptedFront,
) -> None:
    stall(front)
    assert front.end.stats.rx_stalled()
    run(front, 10 * STALL_MS)
    assert front.end.stats.rx_stalled()
    assert deadline(front) is None  # no frame comes while there is no carrier


def test_the_deadline_is_also_that_of_the_stall(front: ScriptedFront) -> None:
    front.end.queue.set_rx_timeouts(DRAIN_MS, 500)
    front.end.tap.send(plain())
    run(front, 0)
    assert deadline(front) == 500
    run(front, 500)
    assert front.end.stats.rx_stalled()
    assert deadline(front) == DRAIN_MS


def test_a_stalled_frontend_is_ready_with_its_first_buffer(
    front: ScriptedFront,
) -> None:
    stall(front)
    run(front, 2 * STALL_MS)
    assert front.end.queue.arm() is False
    assert front.rx.req_event == front.rx_prod + 1
    front.post(1)
    assert front.end.queue.arm() is True
    run(front, 2 * STALL_MS + 1)
    assert not front.end.stats.rx_stalled()
    front.end.tap.send(plain(seed=7))
    run(front, 2 * STALL_MS + 2)
    assert got(front) == [plain(seed=7)]


def test_one_that_is_held_needs_all_its_buffers_to_be_ready(
    front: ScriptedFront,
) -> None:
    front.end.queue.set_rx_timeouts(DRAIN_MS, 500)
    front.end.tap.send(plain(9000))
    run(front, 0)
    run(front, 500)
    front.post(2)
    run(front, 501)
    assert front.end.stats.rx_stalled()
    front.post(1)
    run(front, 502)
    assert not front.end.stats.rx_stalled()
    assert got(front) == [plain(9000)]


def test_xsa_392_one_buffer_is_not_ready_for_the_frame_that_was_dropped(
    front: ScriptedFront,
) -> None:
    front.end.queue.set_rx_timeouts(DRAIN_MS, 500)
    front.post(1)
    front.end.tap.send(plain(9000))
    run(front, 0)
    run(front, 500)
    assert front.end.stats.rx_stalled()
    run(front, DRAIN_MS)
    assert drained(front) == 1
    run(front, DRAIN_MS + 1)
    assert front.end.stats.rx_stalled()
    assert front.end.queue.arm() is False
    front.post(2)
    assert front.end.queue.arm() is True
    run(front, DRAIN_MS + 2)
    assert not front.end.stats.rx_stalled()


def test_nothing_to_send_is_no_stall(front: ScriptedFront) -> None:
    front.end.queue.set_rx_timeouts(STALL_MS, 500)
    for after_ms in range(0, 5000, 100):
        run(front, after_ms)
    assert not front.end.stats.rx_stalled()


@pytest.mark.parametrize(
    ("takes", "timeouts"), [(NO_NOTIFY, (500, 500)), (EVERYTHING, (500, 0))]
)
def test_some_are_never_stalled(
    stack: ExitStack, takes: PeerFeatures, timeouts: tuple[int, int]
) -> None:
    front = ScriptedFront(stack, takes)
    front.end.queue.set_rx_timeouts(*timeouts)
    for after_ms in range(0, 5000, 25):
        front.end.tap.send(plain())
        run(front, after_ms)
    assert not front.end.stats.rx_stalled()
    assert drained(front) > 0
