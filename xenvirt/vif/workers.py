"""The worker threads of an end's process, and which queues each of them runs."""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from xenvirt.native.queue import Queue
from xenvirt.native.worker import Worker
from xenvirt.vif.placement import Placement
from xenvirt.vif.queues import default_limit

SETTLE_TIMEOUT_S: Final = 0.5
"""How long the other end has to take what the rings hold, before a link is closed."""


class Workers:
    """Up to `limit` workers, one for each CPU and at most 8; made when first needed.

    All calls are from the loop. `on_changed` is called in it when some queue is not
    as it was.
    """

    def __init__(
        self,
        name: str,
        on_changed: Callable[[], None],
        placement: Placement,
        *,
        limit: int | None = None,
    ) -> None:
        self._name = name
        self._on_changed = on_changed
        self._placement = placement
        self._limit = len(placement.cpus) or limit or default_limit()
        self._workers: dict[int, Worker] = {}
        self._queues: Final[dict[Worker, set[Queue]]] = {}
        self._change = asyncio.Event()

    def add(self, queues: Sequence[Queue], vif: int) -> None:
        """Hand a vif's queues over, each to another worker as long as there are some.

        `vif` is a number by which both ends know it, and so choose the same CPU for a
        queue; else those with the fewest queues come first. A queue is its worker's
        until `remove` returns. OSError, and then all are still the caller's.
        """
        count = len(queues)
        chosen = self._paired(vif, count) if self._placement.cpus else self._free(count)
        try:
            for queue, worker in zip(queues, chosen, strict=True):
                worker.add(queue)
                self._queues[worker].add(queue)
        except OSError:
            self.remove(queues)
            raise

    def remove(self, queues: Sequence[Queue]) -> None:
        """Take queues back; no worker touches them any more."""
        for worker, its in self._queues.items():
            for queue in its.intersection(queues):
                worker.remove(queue)
                its.remove(queue)

    def set_credit(self, queues: Sequence[Queue], nr_bytes: int, usec: int) -> None:
        """`Queue.set_credit` for queues that workers have."""
        for worker, its in self._queues.items():
            for queue in its.intersection(queues):
                worker.set_credit(queue, nr_bytes, usec)

    async def settle(self, queues: Sequence[Queue], *, held: bool = False) -> bool:
        """Have queues read nothing more from their TAPs, for good; see `Worker.settle`.

        Returns whether all that their rings hold now was moved in time.
        """
        for worker, its in self._queues.items():
            for queue in its.intersection(queues):
                worker.settle(queue, held=held)
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                while not all(queue.stats.settled() for queue in queues):
                    self._change.clear()
                    await self._change.wait()
                return True
        return False

    def close(self) -> None:
        """End the threads; every queue must have been removed."""
        loop = asyncio.get_running_loop()
        for worker in self._workers.values():
            loop.remove_reader(worker.changed_fd)
            worker.close()
        self._workers.clear()
        self._queues.clear()

    def _paired(self, vif: int, count: int) -> list[Worker]:
        return [self._worker((vif + number) % self._limit) for number in range(count)]

    def _free(self, count: int) -> list[Worker]:
        while len(self._workers) < self._limit and self._idle() < count:
            self._worker(len(self._workers))
        order = sorted(
            self._workers.values(), key=lambda worker: len(self._queues[worker])
        )
        return [order[number % len(order)] for number in range(count)]

    def _idle(self) -> int:
        return sum(not its for its in self._queues.values())

    def _worker(self, number: int) -> Worker:
        if number not in self._workers:
            cpus = self._placement.cpus
            worker = Worker(
                self._name,
                cpu=cpus[number] if cpus else None,
                poll_us=self._placement.poll_us,
            )
            self._workers[number] = worker
            self._queues[worker] = set()
            loop = asyncio.get_running_loop()
            loop.add_reader(worker.changed_fd, self._changed, worker)
        return self._workers[number]

    def _changed(self, worker: Worker) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(worker.changed_fd)
        self._change.set()
        self._on_changed()
