"""A link beside other ways to join two interfaces: one table, one plot, one verdict.

What counts is the median of the rounds, and its ratio to a peer's in the same run.
"""

import argparse
import os
import re
import signal
import sys
from pathlib import Path
from typing import Final

from tests.perf import document, runner, table, targets
from tests.perf.figures import OURS, Run
from tests.perf.measures import works
from tests.perf.peers.all import PEERS
from tests.perf.peers.xenvirt import up_ms

PLOT: Final = "bench-link.svg"
ATTACHED: Final = 3
"""How often a link is made to see how long that takes."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench link", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="[3]")
    add("--seconds", type=float, default=1, help="for each figure [1]")
    add("--full", action="store_true", help="every row, not those of a default run")
    add("--only", metavar="PATTERN", default="", help="rows that match this regex")
    add("--peers", metavar="A,B", help=f"of {','.join(PEERS)} [all]")
    add("--list", action="store_true", help="the rows that would be measured")
    files = {
        "json": "write every value of every round",
        "from": "measure nothing: show what --json wrote",
        "plot": f"draw the figures, as SVG or PNG by the name [{PLOT}]",
        "document": "put the table between its marks, as Markdown",
    }
    for name, what in files.items():
        add(f"--{name}", type=Path, metavar="FILE", help=what)
    parser.set_defaults(plot=Path(PLOT))
    add("--no-plot", action="store_true", help="do without, and without matplotlib")
    return parser


def _arguments() -> argparse.Namespace:
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.seconds <= 0:
        parser.error("--rounds is at least 1, and --seconds is more than 0")
    names = arguments.peers.split(",") if arguments.peers else list(PEERS)
    if unknown := set(names) - set(PEERS):
        parser.error(f"--peers: there is no {', '.join(sorted(unknown))}")
    arguments.peers = {name: PEERS[name] for name in PEERS if name in names}
    try:
        pattern = re.compile(arguments.only, re.IGNORECASE)
    except re.error as error:
        parser.error(f"--only: {error}")
    arguments.works = [
        work
        for work in works()
        if pattern.search(work.name) and (work.default or arguments.full)
    ]
    if not arguments.works:
        parser.error(f"--only: no row matches {arguments.only!r}; see --list")
    return arguments


def _run(arguments: argparse.Namespace) -> Run:
    """What was measured before, or is now."""
    if saved := getattr(arguments, "from"):
        return Run.load(saved)
    run = runner.measure(
        arguments.peers, arguments.works, arguments.rounds, arguments.seconds
    )
    if OURS in run.peers and not arguments.only:
        run.up_ms = up_ms(ATTACHED)
    return run


def show(run: Run) -> str:
    """Everything for a terminal."""
    lines = [
        f"{run.machine}; medians of {run.rounds}, and what they lie between",
        table.text(run),
    ]
    if run.up_ms:
        lines.append(f"up, both ends Connected, ms: {table.spread(run.up_ms)}")
    lines += [f"left out: {what}: {why}" for what, why in run.left_out.items()]
    return "\n".join([*lines, "", targets.report(run)])


def give_away(path: Path) -> None:
    """Let a file that sudo's root has made belong to its caller."""
    if "SUDO_UID" in os.environ:
        os.chown(path, int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"]))


def main() -> int:
    """Measure or load, and show; returns the exit status."""
    # An end by a signal takes the links down, too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    arguments = _arguments()
    if arguments.list:
        print("\n".join(work.name for work in arguments.works))
        return 0
    try:
        run = _run(arguments)
        if arguments.json:
            run.save(arguments.json)
            give_away(arguments.json)
        print(show(run))
        if arguments.document:
            picture = None if arguments.no_plot else arguments.plot
            document.put_link(arguments.document, run, picture)
        if not arguments.no_plot:
            # Only a plot needs what the extra `bench` installs.
            from tests.perf import plot

            plot.draw(run, arguments.plot)
            give_away(arguments.plot)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (OSError, ValueError, RuntimeError) as error:
        print(f"bench link: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
