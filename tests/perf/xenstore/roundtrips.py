"""One client, and how long it waits for each of its requests."""

from typing import Final

from tests.perf.xenstore.part import Bench
from tests.perf.xenstore.results import Figures, Measure

SAMPLES: Final = 3000


def measure(bench: Bench, name: str) -> Figures:
    """Every operation of roundtrips.c, `SAMPLES` times."""
    with bench.store(name) as store:
        figures = bench.programs.figures("roundtrips", store.socket, SAMPLES)
    return {Measure(what, "us"): value for what, value in figures.items()}
