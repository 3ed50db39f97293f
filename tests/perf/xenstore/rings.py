"""1,000 domains connected by ring: their start, their weight, one beside the others.

Ours is served by ring_server.py, whose rings are real: pages of a memfd and eventfds.
C xenstored's are tests/peers/xenstored.py's, whose notifications are files that it
opens and closes; so its round trips over a ring are left out, as they would say more
about those. What a client of its socket waits beside 1,000 rings is not.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from tests.perf.xenstore.part import Bench
from tests.perf.xenstore.pipeline import Pipeline
from tests.perf.xenstore.processes import cpu_s, memory_bytes, running
from tests.perf.xenstore.results import REFERENCE, Figures, Measure, latency
from tests.perf.xenstore.stores import DURABLE, peer, scratch, state_file
from xenvirt.abi.xs_wire import XsWire
from xenvirt.xenstore import payloads
from xenvirt.xenstore.server import PAGE_SIZE

DOMAINS: Final = 1000
SAMPLES: Final = 3000
IDLE_S: Final = 1.0
FIRST_PORT: Final = 16


@dataclass(frozen=True, slots=True)
class Host:
    """A store that knows all domains and has introduced none."""

    socket: str
    pid: int
    read_names: Callable[[int], dict[str, float]] | None
    """Lets the first so many domains read over their rings, see rings.c."""


@contextmanager
def _ours(bench: Bench, name: str) -> Iterator[Host]:
    with ExitStack() as stack:
        directory = stack.enter_context(scratch())
        state = stack.enter_context(state_file())
        path = str(directory / "socket")
        pages_fd = os.memfd_create("rings")
        stack.callback(os.close, pages_fd)
        os.ftruncate(pages_fd, DOMAINS * PAGE_SIZE)
        channels = [_channel(stack) for _ in range(DOMAINS)]
        fds = [pages_fd, *(fd for channel in channels for fd in channel)]
        plan = {
            "socket": path,
            "state": str(state) if name == DURABLE else None,
            "pages_fd": pages_fd,
            "channels": channels,
        }
        command = [sys.executable, "-m", f"{__package__}.ring_server", json.dumps(plan)]
        process = stack.enter_context(running(command, pass_fds=fds))

        def read_names(domains: int) -> dict[str, float]:
            rings = [
                f"{index}:{pending_fd}:{notify_fd}"
                for index, (pending_fd, notify_fd) in enumerate(channels[:domains])
            ]
            return bench.programs.figures(
                "rings", pages_fd, SAMPLES, *rings, pass_fds=fds
            )

        assert process.stdout is not None
        if "ready\n" not in process.stdout:
            raise RuntimeError("ring_server.py has ended")
        yield Host(path, process.pid, read_names)


def _channel(stack: ExitStack) -> tuple[int, int]:
    """What the store reads and what it writes."""
    flags = os.EFD_NONBLOCK | os.EFD_CLOEXEC
    channel = os.eventfd(0, flags), os.eventfd(0, flags)
    for fd in channel:
        stack.callback(os.close, fd)
    return channel


@contextmanager
def _reference() -> Iterator[Host]:
    with peer() as xenstored:
        for domid in range(1, DOMAINS + 1):
            xenstored.create_domain(domid)
        yield Host(xenstored.socket, xenstored.pid, None)


def measure(bench: Bench, name: str) -> Figures:
    """One domain alone, then all of them."""
    host_of = _reference() if name == REFERENCE else _ours(bench, name)
    found: Figures = {}
    with host_of as host, Pipeline(host.socket) as pipeline:
        bench.place(host.pid)
        pipeline.ask(_names())
        found |= _socket_reads(bench, host, "socket, no domain")
        weight = memory_bytes(host.pid, "Anonymous")
        took_s = _introduce(pipeline, range(1, 2))
        if host.read_names:
            found |= latency("ring, alone", host.read_names(1), "read")
        took_s += _introduce(pipeline, range(2, DOMAINS + 1))
        found[Measure("INTRODUCE of all", "ms")] = 1e3 * took_s
        if host.read_names:
            beside = host.read_names(DOMAINS)
            found[Measure("first request of each", "ms")] = beside["all"]
            found |= latency("ring, beside 999", beside, "read")
        found |= _socket_reads(bench, host, "socket, beside 1,000")
        grown = memory_bytes(host.pid, "Anonymous") - weight
        found[Measure("private memory of a domain", "bytes")] = grown / DOMAINS
        found[Measure("CPU while all are idle", "%")] = 100 * _idle_share(host)
    return found


def _names() -> Iterator[tuple[XsWire, bytes]]:
    for domid in range(1, DOMAINS + 1):
        path = f"/local/domain/{domid}/name"
        yield XsWire.WRITE, payloads.write(path, f"domain-{domid}")
        yield XsWire.SET_PERMS, payloads.set_perms(path, [f"n{domid}"])


def _introduce(pipeline: Pipeline, domids: range) -> float:
    start = time.monotonic()
    for domid in domids:
        payload = payloads.strings(domid, domid, FIRST_PORT + domid)
        pipeline.ask([(XsWire.INTRODUCE, payload)])
    return time.monotonic() - start


def _socket_reads(bench: Bench, host: Host, title: str) -> Figures:
    reads = bench.programs.figures("roundtrips", host.socket, SAMPLES, "read")
    return latency(title, reads, "read")


def _idle_share(host: Host) -> float:
    before = cpu_s(host.pid)
    time.sleep(IDLE_S)
    return (cpu_s(host.pid) - before) / IDLE_S
