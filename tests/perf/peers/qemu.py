"""QEMU's hub with two TAPs, and no guest."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

from tests.perf.peers.link import Link, namespace
from tests.perf.peers.processes import require, running
from tests.perf.peers.taps import link_of_taps


@contextmanager
def qemu(number: int) -> Iterator[Link]:
    """It runs a machine without a CPU. Raises Unavailable where there is none."""
    program = require("qemu-system-x86_64", "qemu-system-x86")
    taps = (f"qb{number}a", f"qb{number}b")
    machine = ("-machine", "none", "-nodefaults", "-display", "none")
    nets = chain.from_iterable(
        (
            *("-netdev", f"tap,id={tap},ifname={tap},script=no,downscript=no"),
            *("-netdev", f"hubport,id=port-{tap},hubid=0,netdev={tap}"),
        )
        for tap in taps
    )
    with (
        tempfile.TemporaryFile() as log,
        namespace(number) as netns,
        running(log, program, *machine, *nets) as process,
    ):
        yield link_of_taps(number, netns, taps, process, log)
