"""Many vifs on one backend: what each costs, and whether it disturbs the others.

Vifs are attached by the toolstack's own calls, in this process; a veth beside each by
`ip`, which is three commands: made in a namespace, and both ends up.
"""

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.perf import document
from tests.perf.figures import FAIR, IDLE, MEMORY, OURS, Figure, Run
from tests.perf.link import give_away
from tests.perf.many.busy import FLOWS, gbit_s, jain, shares
from tests.perf.many.crowd import PER_DOMAIN, Crowd, crowd
from tests.perf.many.limits import ALONE, JAIN, busy, nth, section, show
from tests.perf.many.processes import cpu_ns
from tests.perf.peers.link import Link
from tests.perf.peers.veth import veth
from tests.perf.peers.xenvirt import xenvirt
from tests.perf.runner import machine, say
from tests.perf.traffic import Direction
from xenvirt.errors import XenvirtError
from xenvirt.vif.queues import default_limit

MARKS: Final = (1, 10, 100, 1000)
AROUND: Final = 8
"""How many attaches before and after one its median is of."""
QUEUES_MAX: Final = 3
"""Of each vif: a domain has grants for 63, and PER_DOMAIN vifs here."""

BUSY: Final = 4
TO, FROM, _ = Direction


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench many", description=__doc__)
    add = parser.add_argument
    add("--vifs", type=int, metavar="N", default=1000, help="[1000]")
    add(
        "--queues",
        type=int,
        metavar="N",
        help=f"of each vif [one for each CPU, {QUEUES_MAX} at most]",
    )
    add("--rounds", type=int, metavar="N", default=5, help="of traffic [5]")
    add("--seconds", type=float, default=2, help="for each figure of traffic [2]")
    add("--idle", type=float, metavar="SECONDS", default=10, help="to look idle [10]")
    for name, what in {
        "json": "write every value of every round",
        "from": "measure nothing: show what --json wrote",
        "document": "put the table between its marks, as Markdown",
    }.items():
        add(f"--{name}", type=Path, metavar="FILE", help=what)
    arguments = parser.parse_args()
    if arguments.vifs < 2 * BUSY or arguments.rounds < 1:
        parser.error(f"--vifs is at least {2 * BUSY}, and --rounds at least 1")
    if arguments.seconds <= 0 or arguments.idle <= 0:
        parser.error("--seconds and --idle are more than 0")
    return arguments


def _measure(arguments: argparse.Namespace) -> Run:
    count = arguments.vifs
    per_domain = min(PER_DOMAIN, count // BUSY)
    queues = arguments.queues or min(default_limit(), QUEUES_MAX)
    about = f"{count:,} vifs with {queues} queues, {per_domain} a domain"
    run = Run(
        f"{machine()}; {about}",
        arguments.rounds,
        arguments.seconds,
        [OURS, ALONE, "veth"],
        benchmark="many",
    )
    with (
        crowd(queues, per_domain) as (made, netns),
        veth(1) as pair,
        xenvirt(2, "vifname=alone") as alone,
    ):
        made.grow(1, netns, lambda _: None)
        links = {OURS: made.links(1)[0], ALONE: alone, "veth": pair}
        _traffic(run, links, "before the others")
        made.grow(count, netns, _progress)
        _attached(run, made)
        _idle(run, made, arguments.idle)
        _traffic(run, links, f"beside {count - 1:,} idle")
        _fair(run, made.links(BUSY))
    return run


def _progress(number: int) -> None:
    if number % 100 == 0:
        say(f"{number:,} vifs")


def _attached(run: Run, made: Crowd) -> None:
    count = len(made.vifs)
    for mark in sorted({*(m for m in MARKS if m < count), count}):
        for peer, took in ((OURS, made.attach_ms), ("veth", made.veth_ms)):
            run.values.setdefault(nth(mark), {})[peer] = around(took, mark)


def around(took: Sequence[float], number: int) -> list[float]:
    """What number `number`, from 1, took and those around it; the first is alone."""
    if number == 1:
        return [took[0]]
    return list(took[max(1, number - 1 - AROUND) : number + AROUND])


def _idle(run: Run, made: Crowd, seconds: float) -> None:
    for name, kib in made.memory_kib().items():
        run.record(OURS, {Figure(MEMORY, name): kib})
    pids = made.processes
    for _ in range(run.rounds):
        before, began = cpu_ns(pids), time.monotonic()
        time.sleep(seconds / run.rounds)
        ms = (cpu_ns(pids) - before) / 1e6
        run.record(OURS, {Figure(IDLE, "all of them"): ms / (time.monotonic() - began)})


def _traffic(run: Run, links: dict[str, Link], where: str) -> None:
    for _ in range(run.rounds):
        for direction in (TO, FROM):
            for peer, link in links.items():
                figure = busy(where, direction)
                run.record(peer, {figure: gbit_s(link, run.seconds, direction)})
    say(f"TCP {where}: done")


def _fair(run: Run, links: Sequence[Link]) -> None:
    for direction in (TO, FROM):
        name = f"{len(links)} with {FLOWS} TCP flows {direction}"
        for _ in range(run.rounds):
            got = shares(links, run.seconds, direction)
            run.record(OURS, dict(_shared(name, got)))


def _shared(name: str, got: Sequence[float]) -> Iterator[tuple[Figure, float]]:
    yield Figure(FAIR, f"{name}, {JAIN}"), jain(got)
    yield Figure(FAIR, f"{name}, Gbit/s in all"), sum(got) * 8 / 1e9


def main() -> int:
    """Measure or load, and show; returns the exit status."""
    # An end by a signal takes everything down, too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    arguments = _arguments()
    try:
        if saved := getattr(arguments, "from"):
            run = Run.load(saved, "many")
        else:
            run = _measure(arguments)
        if arguments.json:
            run.save(arguments.json)
            give_away(arguments.json)
        print(show(run))
        if arguments.document:
            document.put(arguments.document, section(run), run.benchmark)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (OSError, ValueError, RuntimeError, XenvirtError) as error:
        print(f"bench many: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
