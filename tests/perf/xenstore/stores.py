"""The stores that are compared, each in a process of its own.

    xenvirt      xenvirt xenstore serve: nothing outlives it
    journal      the same with --state: what the daemon does
    xenstored    Debian's C xenstored, which keeps all in memory

A store is a context manager that gives a `Store` and takes down what it started.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.peers.xenstored import Xenstored
from tests.perf.xenstore.processes import running
from tests.perf.xenstore.results import REFERENCE

XENVIRT: Final = Path(sys.executable).parent / "xenvirt"
PLAIN: Final = "xenvirt"
DURABLE: Final = "journal"


@dataclass(frozen=True, slots=True)
class Store:
    """A store that answers at `socket`."""

    socket: str
    pid: int

    def environment(self) -> dict[str, str]:
        """Lets Xen's own tools find it."""
        return {**os.environ, "XENSTORED_PATH": self.socket}


StartStore = Callable[[], AbstractContextManager[Store]]


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory that goes with what is in it."""
    with tempfile.TemporaryDirectory(prefix="xenvirt-bench-") as directory:
        yield Path(directory)


@contextmanager
def state_file() -> Iterator[Path]:
    """Where a journal may be, in memory as the daemon's in /run, if there is room."""
    memory = "/dev/shm"
    parent = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="xenvirt-bench-", dir=parent) as directory:
        yield Path(directory) / "state"


@contextmanager
def serve(directory: Path, *options: str | Path) -> Iterator[Store]:
    """`xenvirt xenstore serve`, from when it answers."""
    path = directory / "socket"
    command = [XENVIRT, "xenstore", "serve", "--socket", path, *options]
    with (
        (directory / "log").open("w+") as log,
        running(command, log=log) as process,
    ):
        assert process.stdout is not None
        if "ready\n" not in process.stdout:
            log.seek(0)
            raise RuntimeError(f"{XENVIRT} xenstore serve: {log.read()}")
        yield Store(str(path), process.pid)


@contextmanager
def plain() -> Iterator[Store]:
    """Ours, in memory alone."""
    with scratch() as directory, serve(directory) as store:
        yield store


@contextmanager
def durable() -> Iterator[Store]:
    """Ours, with a journal."""
    with (
        scratch() as directory,
        state_file() as state,
        serve(directory, "--state", state) as store,
    ):
        yield store


@contextmanager
def peer() -> Iterator[Xenstored]:
    """C xenstored, with ways to make domains."""
    with scratch() as directory:
        xenstored = Xenstored(directory)
        try:
            yield xenstored
        finally:
            xenstored.close()


@contextmanager
def reference() -> Iterator[Store]:
    """C xenstored, by its socket."""
    with peer() as xenstored:
        yield Store(xenstored.socket, xenstored.pid)


STORES: Final[dict[str, StartStore]] = {
    PLAIN: plain,
    DURABLE: durable,
    REFERENCE: reference,
}
