"""The ring alone, without TAPs, beside DPDK's memif: frames a second, two processes.

Each process has a CPU of its own. `kept` is our TX ring with grants that live as long
as the queue, `granted` has every frame's page granted, mapped, unmapped and ended.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from tests.perf import memif
from tests.perf.columns import align, spread
from tests.perf.native_program import compile_native, output

SIZES: Final = (64, 1500)
OURS: Final = ("kept", "granted")
PROGRAM: Final = ("ring_alone.c", "ring_alone_front.c", "ring_alone_back.c")
PEER: Final = "memif"

Rate = Callable[[int, int], float]
"""Frames a second, by the size of a frame and for how many seconds."""

Results = dict[str, dict[str, list[float]]]


def _ours(program: Path, cpus: tuple[int, int], mode: str, size: int, s: int) -> float:
    frames, seconds, *_ = output(program, mode, size, s, *cpus).split()
    return float(frames) / float(seconds)


def _memif(cpus: tuple[int, int], size: int, seconds: int) -> float:
    return memif.frames_per_second(size, seconds, *cpus)


def measure(peers: dict[str, Rate], rounds: int, seconds: int) -> Results:
    """Millions of frames a second, the peers in turn."""
    results: Results = {f"{size}": {peer: [] for peer in peers} for size in SIZES}
    for number in range(rounds):
        for size in SIZES:
            for peer, rate in peers.items():
                results[f"{size}"][peer].append(rate(size, seconds) / 1e6)
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    return results


def table(results: Results) -> str:
    """Medians with what they lie between, and the ratios to memif where it ran."""
    peers = [*results[f"{SIZES[0]}"]]
    beside = [mode for mode in OURS if PEER in peers]
    rows = [["Mframes/s", *peers, *(f"{mode}/{PEER}" for mode in beside)]]
    for size, by_peer in results.items():
        ratios = [
            statistics.median(by_peer[mode]) / statistics.median(by_peer[PEER])
            for mode in beside
        ]
        cells = [spread(by_peer[peer]) for peer in peers]
        rows.append([f"{size}-byte", *cells, *(f"{ratio:.2f}" for ratio in ratios)])
    return align(rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench ring", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="for each figure")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        sys.exit("bench ring: each process needs a CPU of its own, and there is one")
    cpus = (allowed[0], allowed[1])
    with tempfile.TemporaryDirectory(prefix="xenvirt-bench-") as directory:
        program = compile_native(Path(directory), *PROGRAM)
        peers: dict[str, Rate] = {
            mode: partial(_ours, program, cpus, mode) for mode in OURS
        }
        if why := memif.missing():
            print(f"Without memif: {why}", file=sys.stderr)
        else:
            peers[PEER] = partial(_memif, cpus)
        results = measure(peers, arguments.rounds, arguments.seconds)
    if arguments.json:
        print(json.dumps({"schema": "xenvirt/1", "ring": results}))
        return
    uname = platform.uname()
    print(f"{uname.machine}, Linux {uname.release}, medians of {arguments.rounds}")
    print(table(results))


if __name__ == "__main__":
    main()
