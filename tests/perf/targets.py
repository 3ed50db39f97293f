"""What is to be reached, as ratios within a run, and whether it was.

Medians are compared. A target whose peer or row is not in the run is not judged.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.perf.figures import (
    DELIVERED,
    OURS,
    ROUND_TRIP,
    SECTIONS,
    TCP,
    WORK,
    Figure,
    Run,
)

OTHER_USERSPACE: Final = ("testpmd", "qemu", "vde")
"""The peers that each row of what a user gets must be ahead of."""


@dataclass(frozen=True, slots=True)
class Target:
    """A limit of the ratio of ours to a peer's, for some rows."""

    section: str
    has: Callable[[str], bool]
    peer: str
    limit: float


TARGETS: Final = (
    Target(TCP, lambda name: name.startswith("1 flow "), "relay", 1.0),
    Target(TCP, lambda name: name.startswith("1 flow "), "veth", 0.75),
    Target(DELIVERED, lambda name: name.startswith("64-byte"), "relay", 1.5),
    Target(ROUND_TRIP, lambda name: name == "idle, median", "relay", 1.3),
    Target(
        ROUND_TRIP,
        lambda name: name.startswith("under") and name.endswith("p99"),
        "relay",
        1.0,
    ),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row held against one target; without a ratio, ours has no figure."""

    figure: Figure
    peer: str
    ratio: float | None
    limit: float

    @property
    def reached(self) -> bool:
        """Whether the ratio is on the better side of the limit."""
        if self.ratio is None:
            return False
        if self.figure.more_is_better:
            return self.ratio >= self.limit
        return self.ratio <= self.limit

    def __str__(self) -> str:
        sign = ">=" if self.figure.more_is_better else "<="
        what = f"{self.figure.section.split(',')[0]}, {self.figure.name}"
        target = f"{sign} {self.limit:g} of {self.peer}"
        ratio = "no figure" if self.ratio is None else f"{self.ratio:.2f}"
        return f"{what}: {ratio}, to reach {target}"


def judge(run: Run) -> list[Verdict]:
    """Every row that has a target, in the order of the targets and of the table."""
    return [*_targets(run), *_ahead_of_others(run)]


def _targets(run: Run) -> Iterator[Verdict]:
    for target in TARGETS:
        for figure in run.section(target.section):
            if target.has(figure.name):
                yield from _held(run, figure, target.peer, target.limit)


def _ahead_of_others(run: Run) -> Iterator[Verdict]:
    for section in SECTIONS:
        for figure in run.section(section) if section in WORK else ():
            for peer in OTHER_USERSPACE:
                yield from _held(run, figure, peer, 1.0)


def _held(run: Run, figure: Figure, peer: str, limit: float) -> Iterator[Verdict]:
    """A verdict, if both are in the run and the peer could do it."""
    if OURS in run.peers and run.median(figure, peer):
        yield Verdict(figure, peer, run.ratio(figure, peer), limit)


def report(run: Run) -> str:
    """Each target that is not reached, and how many are; what could not be judged."""
    verdicts = judge(run)
    lines = []
    for reached in (True, False):
        some = [verdict for verdict in verdicts if verdict.reached is reached]
        word = "reached" if reached else "not reached"
        lines.append(f"{len(some)} of {len(verdicts)} targets {word}")
        lines += [f"  {verdict}" for verdict in some]
    for peer in ("relay", "veth", *OTHER_USERSPACE):
        if peer not in run.peers or OURS not in run.peers:
            lines.append(f"Nothing was judged against {peer}, which this run lacks")
    return "\n".join(lines)
