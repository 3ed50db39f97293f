"""The thread that runs queues: it wakes for work, and for nothing else."""

import os
import random
import select
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.native.frames import plain
from tests.native.helpers import Pair
from tests.native.scripted import ScriptedFront
from tests.native.wire import TxRequest
from xenvirt.native import Queue, Worker

pytestmark = pytest.mark.usefixtures("payload")

PATIENCE_S: Final = 20
IDLE_S: Final = 0.5


@pytest.fixture
def worker(stack: ExitStack) -> Worker:
    made = Worker("test-worker")
    stack.callback(made.close)
    return made


def run_by(stack: ExitStack, worker: Worker, *queues: Queue) -> None:
    """Hand queues to a worker until the stack closes."""
    for queue in queues:
        worker.add(queue)
        stack.callback(worker.remove, queue)


def readable(fd: int, timeout_s: float = PATIENCE_S) -> bool:
    return bool(select.select([fd], [], [], timeout_s)[0])


def cpu_ns(thread: str) -> int:
    """The CPU time that a thread of ours has used, by its name."""
    for task in Path("/proc/self/task").iterdir():
        if (task / "comm").read_text() == f"{thread}\n":
            return int((task / "schedstat").read_text().split()[0])
    raise LookupError(thread)


def test_frames_pass_both_ways(stack: ExitStack, worker: Worker) -> None:
    pair = Pair(stack)
    run_by(stack, worker, pair.front.queue, pair.back.queue)
    for seed in range(1000):
        pair.front.tap.send(plain(1514, seed))
        pair.back.tap.send(plain(60, seed))
        at_back = pair.back.tap.receive(PATIENCE_S)
        at_front = pair.front.tap.receive(PATIENCE_S)
        assert at_back is not None
        assert at_back.frame == plain(1514, seed)
        assert at_front is not None
        assert at_front.frame == plain(60, seed)


def test_two_queues_on_two_workers_keep_their_frames_apart(stack: ExitStack) -> None:
    pairs = [Pair(stack) for _ in range(2)]
    for number, pair in enumerate(pairs):
        for queue in (pair.front.queue, pair.back.queue):
            worker = Worker(f"worker-{number}")
            stack.callback(worker.close)
            run_by(stack, worker, queue)
    for seed in range(100):
        for number, pair in enumerate(pairs):
            pair.front.tap.send(plain(60, 2 * seed + number))
    for number, pair in enumerate(pairs):
        for seed in range(100):
            received = pair.back.tap.receive(PATIENCE_S)
            assert received is not None
            assert received.frame == plain(60, 2 * seed + number)


def test_two_queues_share_a_worker(stack: ExitStack, worker: Worker) -> None:
    pairs = [Pair(stack) for _ in range(2)]
    for pair in pairs:
        run_by(stack, worker, pair.front.queue, pair.back.queue)
    for seed in range(300):
        for number, pair in enumerate(pairs):
            pair.back.tap.send(plain(5000, 2 * seed + number))
            received = pair.front.tap.receive(PATIENCE_S)
            assert received is not None
            assert received.frame == plain(5000, 2 * seed + number)


def test_an_idle_worker_uses_no_cpu(stack: ExitStack, worker: Worker) -> None:
    pair = Pair(stack)
    run_by(stack, worker, pair.front.queue, pair.back.queue)
    pair.front.tap.send(plain())
    assert pair.back.tap.receive(PATIENCE_S) is not None
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        before = cpu_ns("test-worker")
        assert not readable(worker.broken_fd, IDLE_S)  # the idle interval itself
        if cpu_ns("test-worker") == before:
            return
    raise AssertionError("the worker never slept through an idle interval")


def test_a_frame_that_comes_as_an_end_falls_asleep_is_not_left(
    stack: ExitStack,
) -> None:
    """Each pause ends about when the backend arms, so that both write at once.

    Without the full fences of ring.h a notification is lost here now and then.
    """
    pair, draw = Pair(stack), random.Random(1)
    for queue in (pair.front.queue, pair.back.queue):
        worker = Worker("one-of-two")
        stack.callback(worker.close)
        run_by(stack, worker, queue)
    for seed in range(20_000):
        pair.front.tap.send(plain(60, seed))
        received = pair.back.tap.receive(PATIENCE_S)
        assert received is not None
        assert received.frame == plain(60, seed)
        ready_at = time.perf_counter() + draw.uniform(20e-6, 70e-6)
        while time.perf_counter() < ready_at:
            pass


def test_a_storm_of_notifications_starves_no_other_queue(
    stack: ExitStack, worker: Worker
) -> None:
    """XSA-332: one frontend notifies without end and has nothing to say."""
    loud, quiet = Pair(stack), Pair(stack)
    run_by(stack, worker, loud.back.queue, quiet.front.queue, quiet.back.queue)
    stop = threading.Event()

    def storm() -> None:
        while not stop.is_set():
            os.eventfd_write(loud.channel.back, 1)

    thread = threading.Thread(target=storm)
    thread.start()
    try:
        for seed in range(200):
            quiet.front.tap.send(plain(seed=seed))
            received = quiet.back.tap.receive(PATIENCE_S)
            assert received is not None
            assert received.frame == plain(seed=seed)
    finally:
        stop.set()
        thread.join()


def test_a_broken_queue_is_reported_and_others_go_on(
    stack: ExitStack, worker: Worker
) -> None:
    front, good = ScriptedFront(stack), Pair(stack)
    run_by(stack, worker, front.end.queue, good.front.queue, good.back.queue)
    assert not readable(worker.broken_fd, 0)
    front.put(TxRequest(front.page_with(plain()), offset=65535, size=60))
    front.push()
    os.eventfd_write(front.channel.back, 1)
    assert readable(worker.broken_fd)
    assert os.eventfd_read(worker.broken_fd) == 1
    reason = "Cross page boundary, txreq.offset: 65535, size: 60"
    assert front.end.stats.broken() == reason
    os.eventfd_write(front.channel.back, 1)
    good.front.tap.send(plain())
    assert good.back.tap.receive(PATIENCE_S) is not None
    assert not readable(worker.broken_fd, 0)  # it is said once


def test_a_removed_queue_is_not_touched(stack: ExitStack, worker: Worker) -> None:
    pair = Pair(stack)
    run_by(stack, worker, pair.front.queue)
    worker.add(pair.back.queue)
    worker.remove(pair.back.queue)
    pair.front.tap.send(plain())
    assert readable(pair.channel.back)
    indices = pair.back.stats.indices()
    os.eventfd_write(pair.channel.back, 1)
    pair.back.tap.send(plain())
    assert pair.front.tap.receive(IDLE_S) is None
    assert pair.back.stats.indices() == indices
    worker.add(pair.back.queue)
    stack.callback(worker.remove, pair.back.queue)
    assert pair.back.tap.receive(PATIENCE_S) is not None
    assert pair.front.tap.receive(PATIENCE_S) is not None


def test_a_queue_whose_descriptor_cannot_be_watched_is_refused(
    stack: ExitStack, worker: Worker, tmp_path: Path
) -> None:
    pair = Pair(stack)
    worker.add(pair.front.queue)
    with pytest.raises(OSError, match="File exists"):
        worker.add(pair.front.queue)
    worker.remove(pair.front.queue)
    run_by(stack, worker, pair.front.queue, pair.back.queue)
    pair.front.tap.send(plain())
    assert pair.back.tap.receive(PATIENCE_S) is not None


def test_the_thread_bears_its_name_and_ends() -> None:
    worker = Worker("a-name-of-more-than-15")
    assert cpu_ns("a-name-of-more-") >= 0
    worker.close()
    with pytest.raises(LookupError):
        cpu_ns("a-name-of-more-")
