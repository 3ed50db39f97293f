"""Peers that notify, or send what is no frame, without end.

XSA-332, XSA-391, XSA-43: it costs little, and the event loop, which alone writes the
log, is told nothing of it.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import pytest

from tests.native.frames import plain
from tests.native.helpers import End, Pair
from tests.native.scripted import ScriptedBack, ScriptedFront
from tests.native.test_worker import PATIENCE_S, cpu_ns, readable, run_by
from tests.native.waiting import wait_for
from xenvirt.native.worker import Worker
from xenvirt.testing.peer import RxResponse, TxRequest

pytestmark = pytest.mark.usefixtures("payload")

STORM_S: Final = 1.0
CPU_NS_MAX: Final = int(STORM_S * 1e9 / 20)
STORM_MIN: Final = 10_000
"""Notifications of a storm; a busy machine and the GIL allow no million."""


BAD_FRAMES: Final = 100_000


@pytest.fixture
def worker(stack: ExitStack) -> Worker:
    made = Worker("test-storm", poll_us=50)
    stack.callback(made.close)
    return made


class Storm:
    """Writes to an eventfd; `written` is how often, once it is over."""

    written = 0

    @contextmanager
    def upon(self, eventfd: int) -> Iterator[None]:
        stop = threading.Event()

        def notify() -> None:
            while not stop.is_set():
                os.eventfd_write(eventfd, 1)
                self.written += 1

        thread = threading.Thread(target=notify)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def ends(pair: Pair, victim: str) -> tuple[End, int, End]:
    """The victim, the eventfd by which it is notified, and its peer."""
    if victim == "backend":
        return pair.back, pair.channel.back, pair.front
    return pair.front, pair.channel.front, pair.back


@pytest.mark.parametrize("victim", ["backend", "frontend"])
def test_a_storm_costs_its_victim_little(
    stack: ExitStack, worker: Worker, victim: str
) -> None:
    end, eventfd, _ = ends(Pair(stack), victim)
    run_by(stack, worker, end.queue)
    storm = Storm()
    with storm.upon(eventfd):
        before = cpu_ns("test-storm")
        assert not readable(worker.changed_fd, STORM_S)  # the storm itself
        used = cpu_ns("test-storm") - before
    assert storm.written > STORM_MIN
    assert used < CPU_NS_MAX
    assert 0 < end.counted("eoi_delayed")["eoi_delayed"] < 1000


@pytest.mark.parametrize("victim", ["backend", "frontend"])
def test_frames_pass_in_a_storm_and_after_it(
    stack: ExitStack, worker: Worker, victim: str
) -> None:
    end, eventfd, peer = ends(Pair(stack), victim)
    run_by(stack, worker, end.queue, peer.queue)

    def pass_frames() -> None:
        for seed in range(50):
            for near, far in ((end, peer), (peer, end)):
                near.tap.send(plain(seed=seed))
                received = far.tap.receive(PATIENCE_S)
                assert received is not None
                assert received.frame == plain(seed=seed)

    with Storm().upon(eventfd):
        wait_for(lambda: end.all_counted() != {}, worker.changed_fd)
        pass_frames()
    pass_frames()


def test_a_storm_that_is_over_costs_nothing(stack: ExitStack, worker: Worker) -> None:
    end, eventfd, _ = ends(Pair(stack), "backend")
    run_by(stack, worker, end.queue)
    with Storm().upon(eventfd):
        wait_for(lambda: end.all_counted() != {}, worker.changed_fd)
    before = -1
    for _ in range(PATIENCE_S):
        if cpu_ns("test-storm") == before:
            return
        before = cpu_ns("test-storm")
        assert not readable(worker.changed_fd, STORM_S / 2)  # the calm itself
    raise AssertionError("the worker goes on waking up")


def test_a_storm_starves_no_other_queue(stack: ExitStack, worker: Worker) -> None:
    loud, quiet = Pair(stack), Pair(stack)
    run_by(stack, worker, loud.back.queue, quiet.front.queue, quiet.back.queue)
    with Storm().upon(loud.channel.back):
        for seed in range(200):
            quiet.front.tap.send(plain(seed=seed))
            received = quiet.back.tap.receive(PATIENCE_S)
            assert received is not None
            assert received.frame == plain(seed=seed)
    assert quiet.back.counted("eoi_delayed") == {"eoi_delayed": 0}


def test_a_storm_upon_a_broken_queue_costs_nothing(
    stack: ExitStack, worker: Worker
) -> None:
    front = ScriptedFront(stack)
    run_by(stack, worker, front.end.queue)
    front.put(TxRequest(front.page_with(plain()), offset=65535, size=60))
    front.push()
    os.eventfd_write(front.channel.back, 1)
    assert readable(worker.changed_fd)
    os.eventfd_read(worker.changed_fd)
    storm = Storm()
    with storm.upon(front.channel.back):
        before = cpu_ns("test-storm")
        assert not readable(worker.changed_fd, STORM_S / 2)  # the storm itself
        assert cpu_ns("test-storm") - before < CPU_NS_MAX / 10
    assert storm.written > STORM_MIN / 2


def test_bad_frames_without_end_are_counted_and_nothing_else(
    stack: ExitStack, worker: Worker
) -> None:
    """XSA-43, towards the frontend: responses that are no frame."""
    back = ScriptedBack(stack)
    run_by(stack, worker, back.end.queue)
    while back.rx_prod < BAD_FRAMES:
        end = back.rx.req_prod
        for index in range(back.rx_prod, end):
            back.rx.write(index, RxResponse(0, status=-1))
        back.rx_prod = back.rx.rsp_prod = end
        os.eventfd_write(back.channel.front, 1)
        while back.rx.req_prod == end:
            assert not readable(worker.changed_fd, 0)
    counted = dict.fromkeys(("rx_bad_response", "rx_dropped"), back.rx_prod)
    # The last of them are still being counted when their buffers are back.
    wait_for(lambda: back.end.all_counted() == counted, worker.changed_fd)
