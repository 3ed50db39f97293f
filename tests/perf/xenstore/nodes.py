"""100,000 nodes: what they weigh, how long they take to list and to come back."""

import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.perf.xenstore.part import Bench
from tests.perf.xenstore.pipeline import Pipeline
from tests.perf.xenstore.processes import TIMEOUT_S, memory_bytes
from tests.perf.xenstore.results import Figures, Measure
from tests.perf.xenstore.stores import (
    DURABLE,
    XENVIRT,
    Store,
    scratch,
    serve,
    state_file,
)
from xenvirt.abi.xs_wire import XsWire
from xenvirt.xenstore import payloads

LEAVES: Final = 100_000
PER_DIRECTORY: Final = 100
VALUE: Final = "sixteen bytes ok"


def paths() -> Iterator[str]:
    """The leaves: a hundred in a directory, a hundred directories in a group."""
    for i in range(LEAVES):
        directory, key = divmod(i, PER_DIRECTORY)
        group, number = divmod(directory, PER_DIRECTORY)
        yield f"/bench/group-{group}/domain-{number}/key-{key}"


def count() -> int:
    """All nodes that there are below the root of what `paths` makes."""
    leaves = list(paths())
    return len(leaves) + len({p for leaf in leaves for p in _parents(leaf)})


def _parents(path: str) -> Iterator[str]:
    while (path := path.rpartition("/")[0]) != "":
        yield path


def measure(bench: Bench, name: str) -> Figures:
    """Fill a store, list it, and start it again if it comes back with its nodes."""
    if name != DURABLE:
        with bench.store(name) as store:
            return _look(store)
    with scratch() as directory, state_file() as state:
        with serve(directory, "--state", state) as store:
            bench.place(store.pid)
            found = _look(store)
        # It was killed, and has to find all that it had answered for.
        found[Measure("journal for a node", "bytes")] = _used(state) / count()
        found[Measure("start with them", "ms")] = _start_ms(directory, state)
        return found


def _look(store: Store) -> Figures:
    before = memory_bytes(store.pid, "Rss")
    found: Figures = {Measure("write them, many at a time", "s"): _fill(store)}
    grown = memory_bytes(store.pid, "Rss") - before
    found[Measure("RSS for a node", "bytes")] = grown / count()
    found[Measure("xenstore-ls", "s")] = _list(store, ["xenstore-ls"])
    found[Measure("xenvirt xenstore ls", "s")] = _list(
        store, [XENVIRT, "xenstore", "ls"]
    )
    return found


def _fill(store: Store) -> float:
    requests = [(XsWire.WRITE, payloads.write(path, VALUE)) for path in paths()]
    with Pipeline(store.socket) as pipeline:
        start = time.monotonic()
        pipeline.ask(requests)
        return time.monotonic() - start


def _list(store: Store, command: Sequence[str | Path]) -> float:
    start = time.monotonic()
    subprocess.run(
        command,
        env=store.environment(),
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=TIMEOUT_S,
    )
    return time.monotonic() - start


def _used(file: Path) -> int:
    """What a file takes on its disk: less than its length where it has holes."""
    return 512 * file.stat().st_blocks


def _start_ms(directory: Path, state: Path) -> float:
    """From the start of the command until the last of the nodes is read."""
    start = time.monotonic()
    with (
        serve(directory, "--state", state) as store,
        Pipeline(store.socket) as pipeline,
    ):
        *_, last = paths()
        assert pipeline.ask([(XsWire.READ, payloads.strings(last))]) == [VALUE.encode()]
        return 1e3 * (time.monotonic() - start)
