"""VDE: a vde_switch, and a vde_plug2tap for each of two TAPs."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.perf.peers.link import Link, namespace
from tests.perf.peers.processes import require, running, wait_until
from tests.perf.peers.taps import exists


@contextmanager
def vde(number: int) -> Iterator[Link]:
    """The far plug runs in the far namespace. Raises Unavailable without VDE."""
    switch, plug = require("vde_switch", "vde2"), require("vde_plug2tap", "vde2")
    devices = (f"eb{number}a", f"eb{number}b")
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        log = stack.enter_context(tempfile.TemporaryFile())
        netns = stack.enter_context(namespace(number))
        socket = f"{directory}/switch"
        # Its terminal ends with its input, which stays open.
        process = stack.enter_context(running(log, switch, "--sock", socket))
        wait_until((Path(socket) / "ctl").exists, process, log)
        pids = [process.pid]
        for tap, place in zip(devices, (None, netns), strict=True):
            where = ("ip", "netns", "exec", place) if place else ()
            command = (*where, plug, "--sock", socket, tap)
            process = stack.enter_context(running(log, *command))
            wait_until(partial(exists, tap, place), process, log)
            pids.append(process.pid)
        link = Link(number, netns, *devices, pids=pids)
        link.configure()
        yield link
