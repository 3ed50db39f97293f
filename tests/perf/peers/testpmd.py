"""DPDK: two dpdk-testpmd, each with a TAP, and a memif between them."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Final

from tests.perf.peers.link import Link, namespace
from tests.perf.peers.processes import require, running, wait_until
from tests.perf.peers.taps import exists

MEMORY: Final = ("--no-huge", "-m", "256", "--no-pci", "--no-telemetry")
"""Without huge pages and without devices; in MiB."""
MBUFS: Final = ("--total-num-mbufs=8192", "--mbuf-size=10240", "--no-flush-rx")


def _lcores(index: int) -> str:
    """The place of a program's two threads, of which the prompt's sleeps.

    The other forwards and never does. Each program's on a CPU of its own gave the
    most packets and the shortest round trips on two CPUs: of nice, SCHED_IDLE, both on
    one CPU, and as the scheduler likes, some gave a tenth.
    """
    cpus = sorted(os.sched_getaffinity(0))
    cpu = cpus[index % len(cpus)]
    return f"0@{cpu},1@{cpu}"


@contextmanager
def testpmd(number: int) -> Iterator[Link]:
    """The far one runs in the far namespace. Raises Unavailable where there is none."""
    program = require("dpdk-testpmd", "dpdk-dev")
    devices = (f"db{number}a", f"db{number}b")
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        netns = stack.enter_context(namespace(number))
        processes = []
        for index, role in enumerate(("server", "client")):
            tap, place = devices[index], (None, netns)[index]
            # Its files: elsewhere they would stay, and the second find the first's.
            runtime = ("env", f"RUNTIME_DIRECTORY={directory}/{role}")
            os.mkdir(f"{directory}/{role}")
            memif = f"net_memif,role={role},socket={directory}/memif,bsize=10240"
            vdevs = ("--vdev", f"{memif},socket-abstract=no", "--vdev")
            eal = ("--lcores", _lcores(index), *MEMORY)
            options = (*eal, *vdevs, f"net_tap0,iface={tap}")
            where = ("ip", "netns", "exec", place) if place else ()
            forward = ("--forward-mode=io", "--auto-start", "--interactive")
            command = (*where, *runtime, program, *options, "--", *MBUFS, *forward)
            log = stack.enter_context(tempfile.TemporaryFile())
            process = stack.enter_context(running(log, *command))
            processes.append(process)
            wait_until(partial(exists, tap, place), process, log)
        pids = [process.pid for process in processes]
        link = Link(number, netns, *devices, pids=pids, never_sleeps=True)
        link.configure()
        yield link
