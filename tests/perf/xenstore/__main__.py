"""XenStore beside C xenstored: Debian's own figures, and some of sizes and crowds.

The stores take turns within each round, so that the machine's moods meet all of
them; what counts is the median, and its ratio to C xenstored's in the same run.
"""

import argparse
import json
import os
import platform
import resource
import signal
import sys
from collections.abc import Mapping
from typing import Final

from tests.peers import xenstored
from tests.perf.xenstore import (
    conflicts,
    debian,
    flood,
    nodes,
    rings,
    roundtrips,
    watchers,
)
from tests.perf.xenstore.part import Part
from tests.perf.xenstore.placement import Placement
from tests.perf.xenstore.processes import Programs
from tests.perf.xenstore.results import REFERENCE, Results, as_json, judge, table
from tests.perf.xenstore.stores import STORES, scratch

FREE, ONE_CPU, TWO_CPUS = Placement

PARTS: Final[Mapping[str, Part]] = {
    "debian": Part("test-xenstore", debian.measure, ONE_CPU),
    "debian-apart": Part("test-xenstore", debian.measure, TWO_CPUS),
    "roundtrips": Part("one client", roundtrips.measure, ONE_CPU),
    "roundtrips-apart": Part("one client", roundtrips.measure, TWO_CPUS),
    "rings": Part("1,000 domains by ring", rings.measure, ONE_CPU, rounds=3),
    "nodes": Part("100,000 nodes", nodes.measure, ONE_CPU, rounds=1),
    "watchers": Part("one write, 1,000 watches", watchers.measure, ONE_CPU),
    "conflicts": Part("8 clients, one counter", conflicts.measure, FREE, rounds=3),
    "flood": Part("a read beside a flood", flood.measure, TWO_CPUS),
}
DESCRIPTORS: Final = 4096
"""More than 1,000 connections or 2,000 eventfds take."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench xenstore", description=__doc__)
    parser.add_argument(
        "--repeat", type=int, metavar="N", help="rounds of each part [default: 1 to 5]"
    )
    parser.add_argument(
        "--only", action="append", choices=PARTS, help="this part; may be given again"
    )
    parser.add_argument("--json", action="store_true", help="every value, as JSON")
    parser.add_argument(
        "--no-judge", action="store_true", help="end with 0 whatever the figures are"
    )
    arguments = parser.parse_args()
    if arguments.repeat is not None and arguments.repeat < 1:
        parser.error("--repeat is at least 1")
    return arguments


def _missing() -> dict[str, str]:
    """The parts and stores that cannot run here, and why."""
    found = {}
    if (why := xenstored.missing()) is not None:
        found[REFERENCE] = why
    if not debian.TEST_XENSTORE.exists():
        why = f"{debian.TEST_XENSTORE} is not installed"
        found |= {name: why for name in PARTS if PARTS[name].measure is debian.measure}
    if len(os.sched_getaffinity(0)) < 2:
        why = "there is one CPU"
        found |= {n: why for n in PARTS if PARTS[n].placement is Placement.TWO_CPUS}
    return found


def _prepare_process() -> None:
    """Let an end by a signal clean up, and have descriptors enough."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, DESCRIPTORS), hard))


def measure(
    arguments: argparse.Namespace, missing: Mapping[str, str]
) -> dict[str, Results]:
    """The results of each part that was asked for and can run."""
    stores = [name for name in STORES if name not in missing]
    names = [name for name in arguments.only or PARTS if name not in missing]
    with scratch() as directory:
        programs = Programs(directory)
        return {
            name: PARTS[name].run(programs, stores, arguments.repeat) for name in names
        }


def main() -> int:
    """Measure, print and judge; returns the exit status."""
    arguments = _arguments()
    missing = _missing()
    for name, why in missing.items():
        print(f"{name} is left out: {why}", file=sys.stderr)
    _prepare_process()
    try:
        results = measure(arguments, missing)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except RuntimeError as error:
        print(f"bench xenstore: {error}", file=sys.stderr)
        return 1
    uname = platform.uname()
    machine = f"{uname.machine}, Linux {uname.release}, {os.cpu_count()} CPUs"
    sections = {PARTS[name].heading: part for name, part in results.items()}
    verdict = judge(sections)
    if arguments.json:
        parts = {name: as_json(part) for name, part in results.items()}
        shown = {"machine": machine, "xenstore": parts, "broken": verdict.broken}
        print(json.dumps({"schema": "xenvirt/1", **shown}))
    else:
        print(machine)
        print("journal: xenvirt with --state, as the daemon; less is better")
        print(table(sections, list(STORES)))
        print(verdict)
    return 1 if verdict.broken and not arguments.no_judge else 0


if __name__ == "__main__":
    sys.exit(main())
