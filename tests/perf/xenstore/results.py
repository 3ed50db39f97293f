"""What was measured, as a table that a reader can judge, and the judgement.

Less is better in every figure. What counts is the median over the rounds; the ratio
is to C xenstored's median in the same run.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

REFERENCE: Final = "xenstored"
"""The store that ours are compared with."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure, and what it must be for ours."""

    name: str
    unit: str
    ratio_limit: float | None = None
    """The most that ours may be of the reference's."""
    limit: float | None = None
    """The most that ours may be by itself."""


Figures = dict[Measure, float]
Results = dict[Measure, dict[str, list[float]]]
"""Of one part: for each store a value of each round."""


def latency(name: str, program: Mapping[str, float], operation: str) -> Figures:
    """What a program here says of one operation: its median and 99th percentile."""
    return {
        Measure(f"{name}, {what}", "us"): program[f"{operation}, {what}"]
        for what in ("median", "p99")
    }


def record(results: Results, store: str, figures: Figures) -> None:
    """Add what one round gave for one store."""
    for measure, value in figures.items():
        results.setdefault(measure, {}).setdefault(store, []).append(value)


def ratio(by_store: Mapping[str, Sequence[float]], store: str) -> float | None:
    """The medians' ratio to the reference; None where one of both is missing or 0."""
    if store not in by_store or REFERENCE not in by_store:
        return None
    reference = statistics.median(by_store[REFERENCE])
    return statistics.median(by_store[store]) / reference if reference else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many limits were held against ours, and which of them did not hold."""

    judged: int
    broken: Sequence[str]

    def __str__(self) -> str:
        if self.broken:
            count = f"{len(self.broken)} of {self.judged}"
            return "\n  ".join([f"{count} not within the limits:", *self.broken])
        if self.judged:
            return f"all {self.judged} within the limits"
        return "nothing here has a limit"


def judge(sections: Mapping[str, Results]) -> Verdict:
    """Hold the limits against every store but the reference.

    A ratio without a reference does not hold.
    """
    judged, broken = 0, []
    for heading, results in sections.items():
        for what, value, limit in _judged(results):
            judged += 1
            if value is None:
                broken.append(f"{heading}: {what}: no {REFERENCE} to compare with")
            elif value > limit:
                broken.append(f"{heading}: {what}: {value:.3f} > {limit:g}")
    return Verdict(judged, broken)


def _judged(results: Results) -> Iterator[tuple[str, float | None, float]]:
    for measure, by_store in results.items():
        for store, values in by_store.items():
            what = f"{measure.name}, {store}"
            if store == REFERENCE:
                continue
            if measure.ratio_limit is not None:
                yield what, ratio(by_store, store), measure.ratio_limit
            if measure.limit is not None:
                yield what, statistics.median(values), measure.limit


def table(sections: Mapping[str, Results], stores: Sequence[str]) -> str:
    """The medians with what they lie between, and ours as ratios, part by part."""
    ours = [store for store in stores if store != REFERENCE]
    ratios = [f"{store}/{REFERENCE}" for store in ours]
    rows = [["", *stores, *ratios]]
    for heading, results in sections.items():
        rows.append([heading, *[""] * (len(stores) + len(ratios))])
        rows += [
            [f"  {_title(measure)}", *_cells(by_store, stores, ours)]
            for measure, by_store in results.items()
        ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _title(measure: Measure) -> str:
    return f"{measure.name}, {measure.unit}" if measure.unit else measure.name


def _cells(
    by_store: Mapping[str, Sequence[float]], stores: Sequence[str], ours: Sequence[str]
) -> list[str]:
    ratios = [ratio(by_store, store) for store in ours]
    return [
        *(_spread(by_store[store]) if store in by_store else "-" for store in stores),
        *("-" if value is None else f"{value:.2f}" for value in ratios),
    ]


def _spread(values: Sequence[float]) -> str:
    low, high = _number(min(values)), _number(max(values))
    return f"{_number(statistics.median(values))} ({low}..{high})"


def _number(value: float) -> str:
    """Three digits that count, and no exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def as_json(results: Results) -> list[dict[str, object]]:
    """The same for programs: every value of every round."""
    return [
        {
            "name": measure.name,
            "unit": measure.unit,
            "ratio_limit": measure.ratio_limit,
            "limit": measure.limit,
            "values": by_store,
        }
        for measure, by_store in results.items()
    ]
