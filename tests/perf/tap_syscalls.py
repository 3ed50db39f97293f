"""What a frame costs to read from a TAP and to write to it, by way of doing it, in ns.

The first way of each direction is the product's; the others' ratio to it is in the
same run. The kernel may refuse a way, which is then said in its place.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.perf.columns import align, spread
from tests.perf.native_program import compile_program, output

PROGRAM: Final = ("tap_syscalls.c", "tap_ways.c", "uring.c")

Results = dict[str, dict[str, dict[str, list[float]]]]
"""By direction, way and size: ns of each round, or -errno where it is refused."""


def parse(printed: str) -> Results:
    """What tap_syscalls.c printed."""
    results: Results = {}
    for line in printed.splitlines():
        direction, size, way, ns = line.split("\t")
        ways = results.setdefault(direction, {}).setdefault(way, {})
        ways.setdefault(size, []).append(float(ns))
    return results


def _refused(ns: list[float]) -> str | None:
    return os.strerror(-int(min(ns))) if min(ns) < 0 else None


def _cells(ns: list[float], first: list[float]) -> tuple[str, str]:
    if why := _refused(ns):
        return why, "-"
    if _refused(first):
        return spread(ns), "-"
    return spread(ns), f"{statistics.median(ns) / statistics.median(first):.2f}"


def table(results: Results) -> str:
    """Medians with what they lie between, and the ratio to the direction's first."""
    parts = []
    for direction, ways in results.items():
        first = next(iter(ways.values()))
        heads = [cell for size in first for cell in (f"{size} bytes, ns", "ratio")]
        rows = [[direction, *heads]]
        for way, by_size in ways.items():
            cells = [_cells(ns, first[size]) for size, ns in by_size.items()]
            rows.append([way, *(cell for pair in cells for cell in pair)])
        parts.append(align(rows))
    return "\n\n".join(parts)


def uring_state() -> str:
    """What the kernel says about io_uring."""
    path = Path("/proc/sys/kernel/io_uring_disabled")
    return path.read_text().strip() if path.exists() else "not there"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench syscalls", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="xenvirt-bench-") as directory:
        program = compile_program(Path(directory), *PROGRAM)
        try:
            results = parse(output(program, arguments.rounds))
        except RuntimeError as error:
            sys.exit(f"bench syscalls: {error}")
    if arguments.json:
        print(json.dumps({"schema": "xenvirt/1", "syscalls": results}))
        return
    uname = platform.uname()
    print(
        f"{uname.machine}, Linux {uname.release}, medians of {arguments.rounds}, "
        f"kernel.io_uring_disabled {uring_state()}"
    )
    print(table(results))


if __name__ == "__main__":
    main()
