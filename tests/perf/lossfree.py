"""The highest offered rate at which nothing is lost, as RFC 2544 asks for it."""

from collections.abc import Callable
from typing import Final

RESOLUTION: Final = 1.1
"""How close the rate that lost something is to the one that is given."""
LEAST: Final = 1000.0
"""Packets a second: a link that loses some of so few has no loss-free rate."""

Trial = Callable[[float], float | None]
"""Offers a rate; gives the rate that was sent, or None when something was lost."""


def loss_free(trial: Trial, most: float) -> float:
    """The highest rate sent without a loss, from LEAST to `most` packets/s, or 0.

    A rate counts as lossy when two trials lose something: a moment that the machine
    spent elsewhere, which hits one of them, is not the link's.
    """
    low, high, best = 0.0, most, 0.0
    rate = most
    while True:
        sent = trial(rate) or trial(rate)
        if sent is None:
            high = rate
        else:
            low, best = rate, max(best, sent)
        if high <= LEAST or (low and high / low <= RESOLUTION):
            return best
        rate = (low * high) ** 0.5 if low else max(high / 2, LEAST)
