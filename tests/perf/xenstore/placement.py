"""Which CPUs the store and its clients run on.

Left alone, the scheduler puts a store and its client on one CPU or on two, and on two
each may have to be woken from a halt for every message: several times the time that
either of them works. It decides anew in each run, and the luck of one store would be
taken for its merit. So what is to be compared is told where to run.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path


class Placement(Enum):
    """Where a store is, and where all its clients are."""

    FREE = "as the scheduler likes"
    ONE_CPU = "all on one CPU"
    TWO_CPUS = "the store on a CPU of its own"

    def cpus(self, usable: set[int]) -> tuple[set[int], set[int]]:
        """Those of the store, and those of the clients; `TWO_CPUS` takes two."""
        if self is Placement.FREE:
            return usable, usable
        first = {min(usable)}
        return first, first if self is Placement.ONE_CPU else usable - first


@contextmanager
def running_on(cpus: set[int]) -> Iterator[None]:
    """Let this process, and what it starts meanwhile, run there alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def move(pid: int, cpus: set[int]) -> None:
    """Move every thread of a process."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), cpus)
