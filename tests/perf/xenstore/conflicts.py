"""Transactions of 8 processes that all change one node, tried until committed."""

from typing import Final

from tests.perf.xenstore.part import Bench
from tests.perf.xenstore.results import Figures, Measure

CLIENTS: Final = 8
COMMITS: Final = 10_000


def measure(bench: Bench, name: str) -> Figures:
    """How long they take for `COMMITS` between them, and how often they try again."""
    with bench.store(name) as store:
        figures = bench.programs.figures("conflicts", store.socket, CLIENTS, COMMITS)
    return {
        Measure("10,000 commits", "s"): figures["seconds"],
        Measure("retries for a commit", ""): figures["retries"] / COMMITS,
    }
