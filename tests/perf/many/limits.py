"""What is to be reached with many vifs, and whether it was; the table around it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.perf import table
from tests.perf.figures import (
    ATTACH,
    BUSY,
    FAIR,
    IDLE,
    MEMORY,
    OURS,
    Figure,
    Run,
)

ALONE: Final = "own backend"
"""The column of a vif that has another backend, with no other vif, all the time."""
TENTH: Final = 10
BOTH_ENDS: Final = Figure(MEMORY, "both processes")
ALL_IDLE: Final = Figure(IDLE, "all of them")
JAIN: Final = "Jain's index"

ATTACH_GROWTH: Final = 1.5
MEMORY_KIB: Final = 100.0
IDLE_MS_S: Final = 1.0
"""A thousandth of a CPU: less than what one timer tick would count in ten seconds."""
BESIDE_SHARE: Final = 0.95
"""Of what one alone gets; rounds of the same thing differ by more."""
JAIN_LEAST: Final = 0.95
"""As when of four one gets a third less than the others."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A value held against its limit."""

    what: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def reached(self) -> bool:
        """Whether it is on the better side."""
        if self.at_least:
            return self.value >= self.limit
        return self.value <= self.limit

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        word = "reached" if self.reached else "NOT reached"
        value = f"{self.value:.3g}, to reach {sign} {self.limit:g}"
        return f"{self.what}: {value}: {word}"


def nth(number: int) -> Figure:
    """The row of the attach of that number."""
    return Figure(ATTACH, f"vif {number:,}")


def busy(where: str, direction: str) -> Figure:
    """The row of a busy vif in that direction; `where`: before or beside the others."""
    return Figure(BUSY, f"{direction}, {where}")


def judge(run: Run) -> list[Verdict]:
    """Every limit whose figures are in the run."""
    return [*_attach(run), *_idle(run), *_busy(run)]


def _attach(run: Run) -> Iterator[Verdict]:
    *_, last = [Figure(ATTACH, ""), *run.section(ATTACH)]
    first, now = run.median(nth(TENTH), OURS), run.median(last, OURS)
    if first and now and last != nth(TENTH):
        what = f"attach of {last.name} to that of {nth(TENTH).name}"
        yield Verdict(what, now / first, ATTACH_GROWTH)


def _idle(run: Run) -> Iterator[Verdict]:
    for figure, limit in ((BOTH_ENDS, MEMORY_KIB), (ALL_IDLE, IDLE_MS_S)):
        value = run.median(figure, OURS)
        if value is not None:
            yield Verdict(f"{figure.section}, {figure.name}", value, limit)


def _busy(run: Run) -> Iterator[Verdict]:
    rows = run.section(BUSY)
    for figure in rows[len(rows) // 2 :]:
        share = run.ratio(figure, ALONE)
        if share is not None:
            what = f"TCP {figure.name}, to that of one alone"
            yield Verdict(what, share, BESIDE_SHARE, at_least=True)
    for figure in run.section(FAIR):
        value = run.median(figure, OURS)
        if value is not None and figure.name.endswith(JAIN):
            yield Verdict(figure.name, value, JAIN_LEAST, at_least=True)


def section(run: Run) -> str:
    """What stands between the marks of a document."""
    lines = "\n".join(map(str, judge(run)))
    return f"{run.machine}.\n\n{table.markdown(run)}\n\n```\n{lines}\n```"


def show(run: Run) -> str:
    """The same for a terminal."""
    return "\n".join([run.machine, table.text(run), "", *map(str, judge(run))])
