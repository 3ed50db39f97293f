"""What a busy vif gets alone and in a crowd, and how several busy ones share."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.perf.peers.link import Link
from tests.perf.traffic import Direction, tcp

FLOWS = 4
"""Of each vif that shares: which queue takes one flow is luck, of four hardly."""


def gbit_s(link: Link, seconds: float, direction: Direction) -> float:
    """One TCP flow as fast as it gets; both directions are not meant."""
    return tcp(link, seconds, 1, direction, 4).received_s * 8 / 1e9


def shares(links: Sequence[Link], seconds: float, direction: Direction) -> list[float]:
    """What each of them gets while all are busy, bytes a second."""
    with ThreadPoolExecutor(len(links)) as pool:
        done = pool.map(lambda link: tcp(link, seconds, FLOWS, direction, 4), links)
        return [each.received_s for each in done]


def jain(values: Sequence[float]) -> float:
    """Jain's index of fairness: 1 when all are the same, 1/n when one has all."""
    squares = sum(value**2 for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 0.0
