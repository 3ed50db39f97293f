"""Frames that go round and round between workers: none is lost, none overtakes."""

import signal
from contextlib import ExitStack
from typing import Final

import pytest

from tests.native.circuit import Circuit
from tests.native.processes import forked
from tests.native.waiting import wait_for
from xenvirt.native.worker import Worker

pytestmark = pytest.mark.usefixtures("payload")

ENTRIES: Final = 1_000_000


def assert_all_there(circuit: Circuit) -> None:
    assert [len(way) for way in circuit.collected] == [len(w) for w in circuit.sent]
    assert circuit.in_the_order_of(0)
    assert circuit.in_the_order_of(1)
    for pair in circuit.pairs:
        for end in (pair.front, pair.back):
            assert end.stats.broken() is None
            assert end.counted("tx_dropped", "rx_dropped") == {
                "tx_dropped": 0,
                "rx_dropped": 0,
            }


def test_a_million_ring_entries_between_two_processes(stack: ExitStack) -> None:
    circuit = Circuit(stack)

    def run_the_backs() -> None:
        worker = Worker("backs")
        for pair in circuit.pairs:
            worker.add(pair.back.queue)
        while True:
            signal.pause()

    with forked(run_the_backs):
        worker = Worker("fronts")
        stack.callback(worker.close)
        for pair in circuit.pairs:
            worker.add(pair.front.queue)
        wait_for(lambda: circuit.entries() >= ENTRIES, worker.changed_fd)
        for pair in circuit.pairs:
            worker.remove(pair.front.queue)
        wait_for(circuit.collect, worker.changed_fd)
    assert_all_there(circuit)


@pytest.mark.parametrize("nr_workers", [1, 2])
def test_queues_come_and_go_while_frames_go_round(
    stack: ExitStack, nr_workers: int
) -> None:
    circuit = Circuit(stack)
    workers = [Worker(f"worker-{number}") for number in range(nr_workers)]
    for worker in workers:
        stack.callback(worker.close)
    home = {n: workers[n % nr_workers] for n in range(len(circuit.queues))}
    for number, queue in enumerate(circuit.queues):
        home[number].add(queue)
    for round_ in range(2000):
        number = round_ % len(circuit.queues)
        home[number].remove(circuit.queues[number])
        home[number] = workers[round_ % nr_workers]
        home[number].add(circuit.queues[number])
    before = circuit.entries()
    wait_for(lambda: circuit.entries() > before + 10_000, workers[0].changed_fd)
    for number, queue in enumerate(circuit.queues):
        home[number].remove(queue)

    def drained() -> bool:
        circuit.run_backs()
        return circuit.collect()

    wait_for(drained, workers[0].changed_fd)
    assert_all_there(circuit)
