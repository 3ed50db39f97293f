"""When a daemon that died is started again, and when no more."""

import signal
from typing import Final

GIVE_UP_AFTER: Final = 10
FIRST_BACKOFF_S: Final = 0.1
MAX_BACKOFF_S: Final = 5.0
STABLE_S: Final = 10.0
"""A daemon that served for this long has no fault that a new one would have too."""


class Revival:
    """Counts the failures of daemons; times are in seconds of one monotonic clock.

    A daemon that got SIGKILL has not failed: somebody wanted that, or needed its
    memory. It is started again however often that happens.
    """

    def __init__(
        self,
        *,
        give_up_after: int = GIVE_UP_AFTER,
        first_backoff_s: float = FIRST_BACKOFF_S,
    ) -> None:
        self._give_up_after = give_up_after
        self._first_backoff_s = first_backoff_s
        self.failures = 0

    def died(self, sig: int, *, served_s: float | None) -> float | None:
        """Return in how many seconds to start the next one; None to give up.

        `sig` is the signal that it died of, 0 if it ended by itself; `served_s` how
        long it served, None if it never got so far.
        """
        if served_s is not None and served_s >= STABLE_S:
            self.failures = 0
        if sig == signal.SIGKILL:
            return 0.0 if served_s is not None else self._first_backoff_s
        self.failures += 1
        if self.failures >= self._give_up_after:
            return None
        if self.failures == 1:
            return 0.0
        doubled = self._first_backoff_s * float(2 ** (self.failures - 2))
        return min(doubled, MAX_BACKOFF_S)
