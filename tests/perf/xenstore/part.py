"""A part of the benchmark, and its rounds."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.perf.xenstore.placement import Placement, move, running_on
from tests.perf.xenstore.processes import Programs
from tests.perf.xenstore.results import Figures, Results, record
from tests.perf.xenstore.stores import STORES, Store


@dataclass(frozen=True, slots=True)
class Bench:
    """What a part measures with."""

    programs: Programs
    store_cpus: set[int]

    @contextmanager
    def store(self, name: str) -> Iterator[Store]:
        """A new store, where it belongs."""
        with STORES[name]() as store:
            self.place(store.pid)
            yield store

    def place(self, pid: int) -> None:
        """Move a store's process to where it belongs."""
        move(pid, self.store_cpus)


@dataclass(frozen=True, slots=True)
class Part:
    """Something that is measured of every store."""

    title: str
    measure: Callable[[Bench, str], Figures]
    """Starts a new store of that name, measures it once, and stops it."""
    placement: Placement
    rounds: int = 5
    """Fewer for one that takes long."""

    @property
    def heading(self) -> str:
        """What it is, and how."""
        return f"{self.title}, {self.placement.value}"

    def run(
        self, programs: Programs, stores: Sequence[str], rounds: int | None = None
    ) -> Results:
        """Measure in its own number of rounds or another one.

        Within each round the stores take turns.
        """
        rounds = rounds or self.rounds
        store_cpus, client_cpus = self.placement.cpus(os.sched_getaffinity(0))
        bench = Bench(programs, store_cpus)
        results: Results = {}
        with running_on(client_cpus):
            for number in range(rounds):
                for store in stores:
                    start = time.monotonic()
                    record(results, store, self.measure(bench, store))
                    took_s = time.monotonic() - start
                    turn = f"round {number + 1} of {rounds}, {store}"
                    print(f"{self.heading}, {turn}: {took_s:.1f} s", file=sys.stderr)
        return results
