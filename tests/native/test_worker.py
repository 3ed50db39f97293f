"""The thread that runs queues: it wakes for work, and for nothing else."""

import os
import random
import select
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import pytest

from tests.native.frames import plain
from tests.native.helpers import Pair
from tests.native.scripted import ScriptedFront
from tests.native.waiting import wait_for
from xenvirt.native.queue import UNLIMITED, Queue
from xenvirt.native.worker import Worker
from xenvirt.testing.slots import TxRequest

pytestmark = pytest.mark.usefixtures("payload")

PATIENCE_S: Final = 20
IDLE_S: Final = 0.5
NO_CPU: Final = 1023
"""The last number that a CPU can have; no machine of ours has it."""


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


def task_of(thread: str) -> Path:
    """The directory in /proc of a thread of ours, by its name."""
    for task in Path("/proc/self/task").iterdir():
        # Some other one may be about to end.
        with suppress(FileNotFoundError, ProcessLookupError):
            if (task / "comm").read_text() == f"{thread}\n":
                return task
    raise LookupError(thread)


def cpu_ns(thread: str) -> int:
    """The CPU time that a thread of ours has used, by its name."""
    return int((task_of(thread) / "schedstat").read_text().split()[0])


def has_thread(name: str) -> bool:
    """Whether one of our threads is called so."""
    try:
        return task_of(name).exists()
    except LookupError:
        return False


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
        assert not readable(worker.changed_fd, IDLE_S)  # the idle interval itself
        if cpu_ns("test-worker") == before:
            return
    raise AssertionError("the worker never slept through an idle interval")


def pass_frames(pair: Pair) -> None:
    for seed in range(10):
        for near, far in ((pair.front, pair.back), (pair.back, pair.front)):
            near.tap.send(plain(9000, seed))
            received = far.tap.receive(PATIENCE_S)
            assert received is not None
            assert received.frame == plain(9000, seed)


def written(pair: Pair, frames: Sequence[int]) -> int:
    """How many of these pages are not as if they had been given back."""
    return sum(any(pair.link.page(frame)) for frame in frames)


def test_an_idle_queue_gives_its_pages_back(stack: ExitStack, worker: Worker) -> None:
    pair = Pair(stack)
    run_by(stack, worker, pair.front.queue, pair.back.queue)
    buffers = pair.front.buffers
    pass_frames(pair)
    assert written(pair, buffers.tx_frames)
    assert written(pair, buffers.rx_frames)
    wait_for(lambda: not written(pair, buffers.tx_frames), worker.changed_fd)
    # Where payload is copied, as on Xen, the frontend's pages are not had.
    if not pair.link.copying:
        wait_for(lambda: not written(pair, buffers.rx_frames), worker.changed_fd)
    pass_frames(pair)


def test_a_queue_that_moves_next_to_nothing_gives_its_pages_back(
    stack: ExitStack, worker: Worker
) -> None:
    pair = Pair(stack)
    run_by(stack, worker, pair.front.queue, pair.back.queue)
    pass_frames(pair)
    deadline = time.monotonic() + PATIENCE_S
    while written(pair, pair.front.buffers.tx_frames) > 1:
        assert time.monotonic() < deadline
        pair.front.tap.send(plain())
        assert pair.back.tap.receive(PATIENCE_S) is not None
        assert not readable(worker.changed_fd, 0.2)


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
    # Nor is either taken for one that notifies for nothing.
    for end in (pair.front, pair.back):
        assert end.counted("eoi_delayed") == {"eoi_delayed": 0}


def test_a_broken_queue_is_reported_and_others_go_on(
    stack: ExitStack, worker: Worker
) -> None:
    front, good = ScriptedFront(stack), Pair(stack)
    run_by(stack, worker, front.end.queue, good.front.queue, good.back.queue)
    assert not readable(worker.changed_fd, 0)
    front.put(TxRequest(front.page_with(plain()), offset=65535, size=60))
    front.push()
    os.eventfd_write(front.channel.back, 1)
    assert readable(worker.changed_fd)
    assert os.eventfd_read(worker.changed_fd) == 1
    reason = "Cross page boundary, txreq.offset: 65535, size: 60"
    assert front.end.stats.broken() == reason
    os.eventfd_write(front.channel.back, 1)
    good.front.tap.send(plain())
    assert good.back.tap.receive(PATIENCE_S) is not None
    assert not readable(worker.changed_fd, 0)  # it is said once


def test_a_stalled_queue_is_reported_and_so_is_its_end(
    stack: ExitStack, worker: Worker
) -> None:
    front = ScriptedFront(stack)
    front.end.queue.set_rx_timeouts(20, 60)
    run_by(stack, worker, front.end.queue)
    deadline = time.monotonic() + PATIENCE_S
    while not readable(worker.changed_fd, 0):
        assert time.monotonic() < deadline
        front.end.tap.send(plain())
        readable(worker.changed_fd, 0.01)
    assert os.eventfd_read(worker.changed_fd) == 1
    assert front.end.stats.rx_stalled()
    assert front.end.counted("rx_drained")["rx_drained"] > 0
    front.post(1)
    os.eventfd_write(front.channel.back, 1)
    assert readable(worker.changed_fd)
    assert not front.end.stats.rx_stalled()


def put_frames(front: ScriptedFront, count: int) -> None:
    front.put(*(TxRequest(front.page_with(plain()), size=60) for _ in range(count)))
    front.push()
    os.eventfd_write(front.channel.back, 1)


def test_a_frame_without_credit_is_sent_in_its_window_by_itself(
    stack: ExitStack, worker: Worker
) -> None:
    front = ScriptedFront(stack)
    front.end.queue.set_credit(60, 100_000)
    run_by(stack, worker, front.end.queue)
    begin = time.monotonic()
    put_frames(front, 6)
    for _ in range(6):
        assert front.end.tap.receive(PATIENCE_S) is not None
    # The first two are paid for; each of the others waits for a window of its own.
    assert time.monotonic() - begin > 0.3


def test_a_frame_without_credit_costs_no_cpu_until_there_is_more(
    stack: ExitStack, worker: Worker
) -> None:
    front = ScriptedFront(stack)
    front.end.queue.set_credit(0, 3_600_000_000)
    run_by(stack, worker, front.end.queue)
    put_frames(front, 3)
    deadline = time.monotonic() + PATIENCE_S
    before = -1
    while cpu_ns("test-worker") != before:
        assert time.monotonic() < deadline
        before = cpu_ns("test-worker")
        assert front.end.tap.receive(IDLE_S) is None
    worker.set_credit(front.end.queue, UNLIMITED, 0)
    for _ in range(3):
        assert front.end.tap.receive(PATIENCE_S) is not None


def test_many_queues_wait_for_windows_of_one_worker(
    stack: ExitStack, worker: Worker
) -> None:
    fronts = [ScriptedFront(stack) for _ in range(5)]
    for number, front in enumerate(fronts):
        front.end.queue.set_credit(60, (20 + 7 * number) * 1000)
        run_by(stack, worker, front.end.queue)
    leaver = ScriptedFront(stack)
    leaver.end.queue.set_credit(0, 10_000)
    worker.add(leaver.end.queue)
    for front in (*fronts, leaver):
        put_frames(front, 8)
    for nr_received in range(8):
        for front in fronts:
            assert front.end.tap.receive(PATIENCE_S) is not None
        if nr_received == 1:
            worker.remove(leaver.end.queue)
    assert leaver.end.tap.receive() is None


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
    assert has_thread("a-name-of-more-")
    worker.close()
    # Linux shows it for a moment after it was waited for.
    deadline = time.monotonic() + PATIENCE_S
    while has_thread("a-name-of-more-"):
        assert time.monotonic() < deadline


@pytest.mark.parametrize("where", ["shares", "anywhere", "nowhere"])
def test_a_worker_that_shares_a_cpu_lets_its_peer_finish_while_there_is_much_to_do(
    stack: ExitStack, where: str
) -> None:
    """Which is SCHED_BATCH: who is woken does not push aside who runs (sched(7))."""
    cpus = os.sched_getaffinity(0)
    shares = where == "shares"
    cpu = {"shares": min(cpus), "anywhere": None, "nowhere": NO_CPU}[where]
    worker = Worker("placed", cpu=cpu)
    stack.callback(worker.close)
    pair = Pair(stack)
    for seed in range(64):
        pair.front.tap.send(plain(seed=seed))
    run_by(stack, worker, pair.front.queue)
    tid = int(task_of("placed").name)

    def sent(frames: int) -> None:
        wait_for(
            lambda: pair.front.counted("tx_packets") == {"tx_packets": frames},
            worker.changed_fd,
        )

    def has(policy: int) -> None:
        wait_for(lambda: os.sched_getscheduler(tid) == policy, worker.changed_fd)

    sent(64)
    has(os.SCHED_BATCH if shares else os.SCHED_OTHER)
    assert os.sched_getaffinity(tid) == ({cpu} if shares else cpus)
    for lone in range(16):
        pair.front.tap.send(plain())
        sent(64 + lone + 1)
    has(os.SCHED_OTHER)
