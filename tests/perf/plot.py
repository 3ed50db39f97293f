"""A run as a picture: each row's medians as bars, with what they lie between."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure as Picture
from matplotlib.patches import Patch

from tests.perf.figures import DELIVERED, LOSS_FREE, ROUND_TRIP, TCP, Figure, Run
from tests.perf.table import median_and_range

PANELS: Final = (TCP, DELIVERED, LOSS_FREE, ROUND_TRIP)
LOGARITHMIC: Final = frozenset({LOSS_FREE, ROUND_TRIP})
"""Where the slowest peer is hundreds of times away from the fastest."""
COLOURS: Final[Mapping[str, str]] = {
    "xenvirt": "#d55e00",
    "veth": "#999999",
    "relay": "#0072b2",
    "testpmd": "#009e73",
    "qemu": "#e69f00",
    "vde": "#56b4e9",
}
"""Such that the colour-blind tell them apart."""
WIDTH_INCH: Final = 10.0
BAR_INCH: Final = 0.09
PANEL_INCH: Final = 0.7
"""For a panel's title and axis."""


def draw(run: Run, path: Path) -> None:
    """Write it in the format that the name ends with.

    The same run gives the same file. Raises ValueError for an unknown format.
    """
    panels = [(section, found) for section in PANELS if (found := run.section(section))]
    if not panels:
        raise ValueError("there is nothing to draw in this run")
    row_inch = BAR_INCH * (len(run.peers) + 1)
    heights = [PANEL_INCH + row_inch * len(found) for _, found in panels]
    # Without these the file would differ at each drawing.
    with mpl.rc_context({"svg.hashsalt": "xenvirt", "font.size": 8}):
        picture = Picture(figsize=(WIDTH_INCH, sum(heights)), layout="constrained")
        ratios = {"height_ratios": heights}
        axes = picture.subplots(len(panels), 1, squeeze=False, gridspec_kw=ratios)
        for (section, found), axis in zip(panels, axes[:, 0], strict=True):
            _panel(axis, run, section, found)
        # Of patches: a panel in which a peer has no bar knows no colour of it.
        handles = [Patch(color=COLOURS.get(peer), label=peer) for peer in run.peers]
        picture.legend(handles=handles, loc="outside upper center", ncols=len(handles))
        is_svg = path.suffix == ".svg"
        picture.savefig(path, metadata={"Date": None} if is_svg else None)


def _panel(axis: "mpl.axes.Axes", run: Run, section: str, found: list[Figure]) -> None:
    height = 1 / (len(run.peers) + 1)
    for index, peer in enumerate(run.peers):
        bars = list(_bars(run, peer, found))
        places = [row + index * height for row, _, _, _ in bars]
        middles = [middle for _, middle, _, _ in bars]
        lower = [middle - low for _, middle, low, _ in bars]
        upper = [high - middle for _, middle, _, high in bars]
        axis.barh(
            places,
            middles,
            height,
            xerr=(lower, upper),
            color=COLOURS.get(peer),
            error_kw={"linewidth": 0.6},
        )
    axis.set_title(section, loc="left", fontweight="bold")
    axis.set_yticks([row + 0.5 - height for row in range(len(found))])
    axis.set_yticklabels([figure.name for figure in found])
    axis.invert_yaxis()
    axis.margins(y=0.01)
    axis.grid(axis="x", linewidth=0.3)
    if section in LOGARITHMIC:
        axis.set_xscale("log")


def _bars(
    run: Run, peer: str, found: list[Figure]
) -> Iterator[tuple[int, float, float, float]]:
    """Of each row that the peer has: its number, the median, the least, the most."""
    for row, figure in enumerate(found):
        if values := run.values[figure].get(peer):
            yield row, *median_and_range(values)
