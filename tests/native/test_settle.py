"""A queue that is to end in order: it reads no more, and moves what the rings hold."""

import os
import time
from contextlib import ExitStack

import pytest

from tests.native.frames import plain
from tests.native.helpers import Pair
from tests.native.scripted import ScriptedFront
from tests.native.test_worker import (
    IDLE_S,
    PATIENCE_S,
    cpu_ns,
    put_frames,
    readable,
    run_by,
)
from tests.native.waiting import wait_for
from xenvirt.native.queue_stats import QueueStats
from xenvirt.native.worker import Worker
from xenvirt.testing.peer import TxRequest

pytestmark = pytest.mark.usefixtures("payload")


@pytest.fixture
def worker(stack: ExitStack) -> Worker:
    made = Worker("test-worker")
    stack.callback(made.close)
    return made


def settled(worker: Worker, stats: QueueStats) -> bool:
    """Wait until the worker says so, which it does each time."""
    while readable(worker.changed_fd):
        os.eventfd_read(worker.changed_fd)
        if stats.settled():
            return True
    return False


def test_a_frontend_waits_for_the_answers_and_reads_no_more(
    stack: ExitStack, worker: Worker
) -> None:
    pair = Pair(stack)
    run_by(stack, worker, pair.front.queue)
    for seed in range(20):
        pair.front.tap.send(plain(60, seed))
    wait_for(lambda: not pair.front.tap.waiting(), worker.changed_fd)
    worker.settle(pair.front.queue, held=False)
    pair.front.tap.send(plain(60, 20))
    assert not readable(worker.changed_fd, IDLE_S)
    assert not pair.front.stats.settled()
    pair.back.queue.back_tx(64)
    assert settled(worker, pair.front.stats)
    assert pair.back.tap.frames() == [plain(60, seed) for seed in range(20)]
    assert pair.front.counted("tx_packets") == {"tx_packets": 20}
    assert pair.front.tap.waiting()


def test_a_frontend_takes_what_the_backend_has_put(
    stack: ExitStack, worker: Worker
) -> None:
    pair = Pair(stack)
    pair.front.tap.fill()
    run_by(stack, worker, pair.front.queue)
    for seed in range(20):
        pair.back.tap.send(plain(60, seed))
    pair.back.queue.tap_ready(readable=True)
    assert pair.back.queue.back_rx(64) == 20
    worker.settle(pair.front.queue, held=False)
    assert not readable(worker.changed_fd, IDLE_S)
    assert not pair.front.stats.settled()
    got = pair.front.tap.frames()
    assert settled(worker, pair.front.stats)
    got += pair.front.tap.frames()
    # What had filled it is zeroes.
    assert list(filter(any, got)) == [plain(60, seed) for seed in range(20)]


def test_a_backend_forwards_what_was_there_and_not_what_comes(
    stack: ExitStack, worker: Worker
) -> None:
    front = ScriptedFront(stack)
    front.end.tap.fill()
    run_by(stack, worker, front.end.queue)
    put_frames(front, 5)
    worker.settle(front.end.queue, held=False)
    front.end.tap.send(plain())
    assert not readable(worker.changed_fd, IDLE_S)
    assert not front.end.stats.settled()
    front.end.tap.received()
    assert settled(worker, front.end.stats)
    assert front.end.counted("tx_packets", "rx_packets") == {
        "tx_packets": 5,
        "rx_packets": 0,
    }


def test_a_broken_queue_is_settled(stack: ExitStack, worker: Worker) -> None:
    front = ScriptedFront(stack)
    run_by(stack, worker, front.end.queue)
    front.put(TxRequest(front.page_with(plain()), offset=65535, size=60))
    front.push()
    os.eventfd_write(front.channel.back, 1)
    assert readable(worker.changed_fd)
    worker.settle(front.end.queue, held=True)
    assert settled(worker, front.end.stats)


def test_a_settled_queue_uses_no_cpu_though_its_tap_has_frames(
    stack: ExitStack, worker: Worker
) -> None:
    pair = Pair(stack)
    run_by(stack, worker, pair.front.queue, pair.back.queue)
    for end in (pair.front, pair.back):
        worker.settle(end.queue, held=True)
        assert settled(worker, end.stats)
        end.tap.send(plain())
    before, deadline = -1, time.monotonic() + PATIENCE_S
    while (used := cpu_ns("test-worker")) != before:
        assert time.monotonic() < deadline
        before = used
        assert not readable(worker.changed_fd, IDLE_S)
    assert pair.front.tap.waiting()
    assert pair.back.tap.waiting()


def test_a_backend_waits_for_the_slots_of_a_frame_that_it_holds(
    stack: ExitStack, worker: Worker
) -> None:
    front = ScriptedFront(stack)
    front.post(1)
    run_by(stack, worker, front.end.queue)
    front.end.tap.send(plain(9000))
    wait_for(lambda: not front.end.tap.waiting(), worker.changed_fd)
    worker.settle(front.end.queue, held=False)
    assert settled(worker, front.end.stats)
    worker.settle(front.end.queue, held=True)
    assert not readable(worker.changed_fd, IDLE_S)
    front.post(18)
    os.eventfd_write(front.channel.back, 1)
    assert settled(worker, front.end.stats)
    assert front.end.counted("rx_packets") == {"rx_packets": 1}
