"""A run as one table: text for a terminal, Markdown for a document."""

import statistics
from collections.abc import Iterator, Sequence
from typing import Final

from tests.perf.figures import OURS, SECTIONS, Figure, Run

RATIOS: Final = ("relay", "veth")
"""Peers that every row of ours is divided by."""
NOTHING: Final = "-"


def spread(values: Sequence[float]) -> str:
    """The median, and what the values lie between."""
    middle, low, high = median_and_range(values)
    return f"{plain(middle)} ({plain(low)}..{plain(high)})"


def median_and_range(values: Sequence[float]) -> tuple[float, float, float]:
    """The median, the least and the most."""
    return statistics.median(values), min(values), max(values)


def plain(value: float) -> str:
    """Three digits that count, and no exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def rows(run: Run) -> Iterator[tuple[str, list[list[str]]]]:
    """Each section that has figures, with its rows: name, peers, ratios."""
    for section in SECTIONS:
        if found := run.section(section):
            yield section, [[figure.name, *_cells(run, figure)] for figure in found]


def _cells(run: Run, figure: Figure) -> list[str]:
    by_peer = run.values[figure]
    ratios = [run.ratio(figure, peer) for peer in _ratios(run)]
    return [
        *(spread(by_peer[p]) if by_peer.get(p) else NOTHING for p in run.peers),
        *(NOTHING if ratio is None else f"{ratio:.2f}" for ratio in ratios),
    ]


def _ratios(run: Run) -> list[str]:
    return [peer for peer in RATIOS if peer in run.peers and OURS in run.peers]


def heading(run: Run) -> list[str]:
    """The names of the columns."""
    return ["", *run.peers, *(f"{OURS}/{peer}" for peer in _ratios(run))]


def text(run: Run) -> str:
    """For a terminal."""
    lines = [heading(run)]
    for section, found in rows(run):
        lines.append([section, *[""] * (len(lines[0]) - 1)])
        lines += [[f"  {name}", *cells] for name, *cells in found]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def markdown(run: Run) -> str:
    """For a document: one table, the sections in bold."""
    columns = heading(run)
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)]]
    for section, found in rows(run):
        lines.append([f"**{section}**", *[""] * (len(columns) - 1)])
        lines += found
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
