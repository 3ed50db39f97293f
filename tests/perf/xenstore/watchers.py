"""One write that 1,000 watches are told of: the time until the last one is."""

from typing import Final

from tests.perf.xenstore.part import Bench
from tests.perf.xenstore.results import Figures, latency

WATCHES: Final = 1000
WRITES: Final = 50


def measure(bench: Bench, name: str) -> Figures:
    """Each watch on a connection of its own; all of them on one."""
    return {
        **_told(bench, name, "1,000 connections", WATCHES, 1),
        **_told(bench, name, "one connection", 1, WATCHES),
    }


def _told(
    bench: Bench, name: str, title: str, connections: int, watches: int
) -> Figures:
    with bench.store(name) as store:
        figures = bench.programs.figures(
            "watchers", store.socket, connections, watches, WRITES
        )
    return latency(title, figures, "last event")
