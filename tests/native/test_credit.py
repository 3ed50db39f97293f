"""The rate limit of what a frontend sends, beside netback's; time is the test's."""

import random
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.native.credit_model import NetbackCredit
from tests.native.frames import plain
from tests.native.scripted import ScriptedFront
from xenvirt.native.queue import UNLIMITED
from xenvirt.testing.slots import TxRequest

pytestmark = pytest.mark.usefixtures("payload")

WINDOW_MS = 50
START_MS = 1_000_000


@pytest.fixture
def front(stack: ExitStack) -> ScriptedFront:
    return ScriptedFront(stack)


def put(front: ScriptedFront, *sizes: int) -> None:
    for size in sizes:
        pages, rest = divmod(size - 1, 4096)
        front.put(*front.chain(plain(size), [*[4096] * pages, rest + 1]))
    front.push()


def run(front: ScriptedFront, now_ms: int) -> int:
    """The frames that were moved at a time."""
    front.end.queue.set_now(now_ms)
    total = 0
    while moved := front.run_tx():  # the TAP may have been full
        front.end.tap.received()
        total += moved
    return total


def test_without_a_limit_there_is_no_timer(front: ScriptedFront) -> None:
    put(front, *[1514] * 50)
    assert run(front, START_MS) == 50
    assert front.end.queue.deadline() is None


def test_a_frame_over_budget_stays_in_the_ring_until_the_next_window(
    front: ScriptedFront,
) -> None:
    front.end.queue.set_credit(1000, WINDOW_MS * 1000)
    put(front, 600, 600, 600, 600)
    assert run(front, START_MS) == 3  # what was there before, and this window's
    assert len(front.responses()) == 3
    assert run(front, START_MS + WINDOW_MS - 1) == 0
    assert front.end.queue.deadline() == START_MS + WINDOW_MS
    assert run(front, START_MS + WINDOW_MS) == 1
    assert front.end.queue.deadline() is None
    assert front.end.counted("tx_credit_exceeded", "tx_packets", "tx_dropped") == {
        "tx_credit_exceeded": 1,
        "tx_packets": 4,
        "tx_dropped": 0,
    }


def test_who_waits_for_a_window_asks_for_no_notification(front: ScriptedFront) -> None:
    front.end.queue.set_credit(100, WINDOW_MS * 1000)
    put(front, 100, 100, 100)
    run(front, START_MS)
    run(front, START_MS)
    asked = front.tx.req_event
    assert front.end.queue.arm() is False
    assert front.tx.req_event == asked <= front.tx_prod
    front.end.queue.set_now(START_MS + WINDOW_MS)
    assert front.end.queue.arm() is True


def test_the_longest_frame_fits_through_the_smallest_credit(
    front: ScriptedFront,
) -> None:
    front.end.queue.set_credit(1000, WINDOW_MS * 1000)
    put(front, 65535)
    at, windows = START_MS, 0
    while not run(front, at):
        deadline = front.end.queue.deadline()
        assert deadline is not None
        assert deadline > at
        at = deadline
        windows += 1
    assert windows == 64  # what was there before, and this window's


def test_windows_in_which_nothing_was_sent_are_no_credit(front: ScriptedFront) -> None:
    front.end.queue.set_credit(1000, WINDOW_MS * 1000)
    put(front, 1000, 1000, 1000)
    assert run(front, START_MS) == 2
    assert run(front, START_MS + WINDOW_MS) == 1
    put(front, *[500] * 6)
    assert run(front, START_MS + 10 * WINDOW_MS) == 2


def test_what_was_too_little_for_a_frame_that_waits_is_not_lost(
    front: ScriptedFront,
) -> None:
    front.end.queue.set_credit(125_000, WINDOW_MS * 1000)
    put(front, 65_000, 65_000, 65_000)
    sent = 0
    for n in range(40):
        moved = run(front, START_MS + n * WINDOW_MS)
        front.responses()
        put(front, *[65_000] * moved)
        sent += 65_000 * moved
    assert 0.95 < sent / (40 * 125_000) < 1.1


@pytest.mark.parametrize(
    ("nr_bytes", "usec", "moved"),
    [(UNLIMITED, 0, 3), (2000, 1000, 3), (600, 10_000_000, 1), (599, 0, 3)],
)
def test_another_limit_lets_a_frame_that_waits_look_again(
    front: ScriptedFront, nr_bytes: int, usec: int, moved: int
) -> None:
    front.end.queue.set_credit(0, 10_000_000)
    put(front, 600, 600, 600)
    assert run(front, START_MS) == 0
    front.end.queue.set_credit(nr_bytes, usec)
    assert run(front, START_MS + 1) == moved


@pytest.mark.parametrize(
    ("nr_bytes", "usec"),
    [(1250, 1000), (625, 500), (1875, 1500), (2375, 1900), (125_000, 50_000)],
)
@pytest.mark.parametrize("late_ms", [0, 1, 30])
def test_windows_of_all_lengths_are_of_the_rate_that_was_asked_for(
    front: ScriptedFront, nr_bytes: int, usec: int, late_ms: int
) -> None:
    front.end.queue.set_credit(nr_bytes, usec)
    seconds, at, sent, size = 3, START_MS, 0, 4000
    chance = random.Random(late_ms)
    put(front, *[size] * 100)
    run(front, at)  # what was there before
    while (at := front.end.queue.deadline() or at) < START_MS + seconds * 1000:
        at += chance.randint(0, late_ms)
        moved = run(front, at)
        front.responses()
        put(front, *[size] * moved)
        sent += size * moved
    assert sent / seconds == pytest.approx(nr_bytes * 1e6 / usec, rel=0.02)


def test_after_a_long_window_a_short_one_begins_at_once(front: ScriptedFront) -> None:
    front.end.queue.set_credit(1000, 60_000_000)
    put(front, *[1000] * 4)
    assert run(front, START_MS) == 2
    front.end.queue.set_credit(1000, WINDOW_MS * 1000)
    assert run(front, START_MS + 1) == 1
    assert front.end.queue.deadline() == START_MS + 1 + WINDOW_MS
    assert run(front, START_MS + 1 + WINDOW_MS) == 1


def test_who_stood_still_does_not_make_up_for_it(front: ScriptedFront) -> None:
    front.end.queue.set_credit(1000, WINDOW_MS * 1000)
    put(front, *[1000] * 50)
    assert run(front, START_MS) == 2
    assert run(front, START_MS + 60_000) == 2


def test_no_credit_at_all_stops_a_frontend(front: ScriptedFront) -> None:
    front.end.queue.set_credit(0, WINDOW_MS * 1000)
    put(front, 60)
    for n in range(100):
        assert run(front, START_MS + n * WINDOW_MS) == 0
    assert front.responses() == []


def test_a_frame_that_the_tap_does_not_take_costs_nothing(front: ScriptedFront) -> None:
    front.end.queue.set_credit(1000, 10_000_000)
    front.end.queue.set_now(0)
    front.end.tap.fill()
    put(front, 1000)
    for _ in range(3):
        assert front.run_tx() == 0
        assert front.end.queue.deadline() is None
    front.end.tap.received()
    assert run(front, 0) == 1


def test_a_bad_packet_costs_credit_too(front: ScriptedFront) -> None:
    front.end.queue.set_credit(1000, 10_000_000)
    front.end.queue.set_now(0)
    assert front.send(TxRequest(30_000, size=900))[0].status == -1
    put(front, 101)
    assert run(front, 0) == 0


@dataclass(frozen=True)
class Change:
    """Another limit."""

    nr_bytes: int
    usec: int


@dataclass(frozen=True)
class Wait:
    """Time passes; `to_deadline`: to when the queue says that it must run."""

    ms: int
    to_deadline: bool


CREDITS = st.sampled_from(
    [0, 1, 20_000, 65_535, 65_537, 131_072, 200_000, UNLIMITED - 65_535, UNLIMITED]
)
USECS = st.sampled_from([0, 1, 999, 1000, 1999, 50_000, 4_294_967_295])
SIZES = st.lists(st.sampled_from([60, 1514, 20_000, 65_535]), max_size=3)
STEPS = st.lists(
    st.one_of(
        SIZES,
        st.builds(Change, CREDITS, USECS),
        st.builds(Wait, st.integers(0, 200), st.booleans()),
    ),
    max_size=25,
)


@settings(max_examples=100)
@given(CREDITS, USECS, STEPS)
def test_what_is_sent_when_is_as_by_netback(
    nr_bytes: int, usec: int, steps: list[list[int] | Change | Wait]
) -> None:
    with ExitStack() as stack:
        front, now = ScriptedFront(stack), 0
        netback = NetbackCredit(nr_bytes, usec)
        front.end.queue.set_credit(nr_bytes, usec)
        waiting: list[int] = []
        for step in steps:
            if isinstance(step, Change):
                front.end.queue.set_credit(step.nr_bytes, step.usec)
                netback.rate_changed(step.nr_bytes, step.usec, now)
            elif isinstance(step, Wait):
                deadline = front.end.queue.deadline()
                now = deadline if step.to_deadline and deadline else now + step.ms
            elif front.tx_prod - front.tx_cons + 17 * len(step) <= 256:
                put(front, *step)
                waiting += step
            netback.tick(now)
            expected = 0
            while waiting and netback.send(waiting[0], now):
                waiting.pop(0)
                expected += 1
            moved = run(front, now)
            assert (moved, front.end.queue.deadline()) == (expected, netback.timer)
            front.responses()
