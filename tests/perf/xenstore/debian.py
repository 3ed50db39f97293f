"""Debian's own test-xenstore: the time of each of its operations.

write 1   : avg: 24339 ns (18738 ns .. 151897 ns)
"""

import re
from pathlib import Path
from typing import Final

from tests.perf.xenstore.part import Bench
from tests.perf.xenstore.processes import run
from tests.perf.xenstore.results import Figures, Measure

TEST_XENSTORE: Final = Path("/usr/lib/xen-4.17/bin/test-xenstore")
ITERATIONS: Final = 1000
RATIO_LIMIT: Final = 1.0
_LINE: Final = re.compile(r"(.{10}): avg: (\d+) ns \((\d+) ns \.\. (\d+) ns\)")


def measure(bench: Bench, name: str) -> Figures:
    """One run of all operations."""
    with bench.store(name) as store:
        text = run(
            [TEST_XENSTORE, "--iterations", str(ITERATIONS)], env=store.environment()
        )
    return {
        Measure(operation, "us", ratio_limit=RATIO_LIMIT): ns / 1e3
        for operation, ns in parse(text).items()
    }


def parse(text: str) -> dict[str, int]:
    """The average of each operation, ns; ValueError if one of them failed."""
    found = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"test-xenstore: {line}")
        found[match[1].rstrip()] = int(match[2])
    if not found:
        raise ValueError("test-xenstore: it said nothing")
    return found
