"""Which worker gets which queue; the workers themselves are tests/native's."""

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from xenvirt.native.queue import Queue
from xenvirt.vif import workers
from xenvirt.vif.placement import Placement
from xenvirt.vif.workers import Workers

FREE = Placement(cpus=(), poll_us=7)


class FakeWorker:
    """Remembers what it was given; refuses more than `room` queues."""

    made: "list[FakeWorker]"
    room = 100

    def __init__(self, name: str, *, cpu: int | None, poll_us: int) -> None:
        self.name = name
        self.cpu = cpu
        self.poll_us = poll_us
        self.queues: set[Queue] = set()
        self.changed_fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.closed = False
        self.made.append(self)

    def add(self, queue: Queue) -> None:
        if len(self.queues) == self.room:
            raise OSError(12, "no room")
        self.queues.add(queue)

    def remove(self, queue: Queue) -> None:
        self.queues.remove(queue)

    def close(self) -> None:
        assert not self.queues
        self.closed = True
        os.close(self.changed_fd)


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeWorker]]:
    monkeypatch.setattr(workers, "Worker", FakeWorker)
    monkeypatch.setattr(FakeWorker, "made", [], raising=False)
    yield FakeWorker.made
    assert all(worker.closed for worker in FakeWorker.made)


def vif(count: int) -> list[Queue]:
    return [cast("Queue", object()) for _ in range(count)]


def use(
    work: Callable[[Workers], None], placement: Placement = FREE, *, limit: int = 3
) -> None:
    """Have `work` use workers in a loop, as an end does."""

    async def main() -> None:
        pool = Workers("test", lambda: None, placement, limit=limit)
        try:
            work(pool)
        finally:
            pool.close()

    asyncio.run(main())


def loads(made: list[FakeWorker]) -> list[int]:
    return [len(worker.queues) for worker in made]


def test_a_vif_s_queues_go_to_different_workers(made: list[FakeWorker]) -> None:
    def work(pool: Workers) -> None:
        vifs = [vif(2), vif(2), vif(2)]
        for queues in vifs:
            pool.add(queues, 0)
            assert all(len(w.queues & set(queues)) <= 1 for w in made)
        assert loads(made) == [2, 2, 2]
        # Two of one: each to another worker, though the first now has two places.
        pool.remove([*made[0].queues])
        pool.add(last := vif(2), 0)
        assert all(len(w.queues & set(last)) <= 1 for w in made)
        assert loads(made) == [1, 3, 2]
        for worker in made:
            pool.remove([*worker.queues])

    use(work)


def test_workers_are_made_when_they_are_needed(made: list[FakeWorker]) -> None:
    def work(pool: Workers) -> None:
        assert made == []
        pool.add(first := vif(1), 0)
        assert loads(made) == [1]
        pool.remove(first)
        pool.add(second := vif(1), 0)
        assert loads(made) == [1]
        pool.add(third := vif(5), 0)
        assert loads(made) == [2, 2, 2]
        pool.remove(second + third)
        assert loads(made) == [0, 0, 0]

    use(work)


def test_a_worker_that_takes_no_more_leaves_nothing_behind(
    made: list[FakeWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeWorker, "room", 1)

    def work(pool: Workers) -> None:
        with pytest.raises(OSError, match="no room"):
            pool.add(vif(3), 0)
        assert loads(made) == [0, 0]
        pool.add(queues := vif(2), 0)
        pool.remove(queues)

    use(work, limit=2)


def test_any_worker_s_changed_queue_is_told(made: list[FakeWorker]) -> None:
    async def main() -> None:
        told = asyncio.Event()
        pool = Workers("test", told.set, FREE, limit=2)
        pool.add(queues := vif(2), 0)
        for worker in made:
            os.eventfd_write(worker.changed_fd, 1)
            await asyncio.wait_for(told.wait(), 5)
            told.clear()
            with pytest.raises(BlockingIOError):
                os.eventfd_read(worker.changed_fd)
        pool.remove(queues)
        pool.close()

    asyncio.run(main())


def test_both_ends_of_a_queue_are_on_the_same_cpu(made: list[FakeWorker]) -> None:
    def work(pool: Workers) -> None:
        vifs = {number: vif(2) for number in (4, 7)}
        for number, queues in vifs.items():
            pool.add(queues, number)
        cpu = {queue: worker.cpu for worker in made for queue in worker.queues}
        assert [cpu[queue] for queue in vifs[4]] == [12, 19]
        assert [cpu[queue] for queue in vifs[7]] == [12, 19]
        pool.add(lone := vif(1), 3)
        assert lone[0] in next(w.queues for w in made if w.cpu == 15)
        for queues in (*vifs.values(), lone):
            pool.remove(queues)

    use(work, Placement(cpus=(15, 12, 19), poll_us=0))
