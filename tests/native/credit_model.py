"""Linux netback's credit of a queue, in Python (netback.c), with jiffies of 1 ms.

Ours is what docs/conformance.md lists: what is kept has no limit, a window that is not
of whole milliseconds has a window's rate, and who waits gets each window once.
"""

from typing import Final

UINT64_MAX: Final = 2**64 - 1
LATE_MAX_MS: Final = 1000


class NetbackCredit:
    """One queue; `timer` is when its credit_timeout runs, None: not pending."""

    def __init__(self, nr_bytes: int, usec: int) -> None:
        self.remaining_credit = UINT64_MAX
        self.window_start = 0
        self.timer: int | None = None
        self.rate_changed(nr_bytes, usec, 0)

    def tick(self, now: int) -> None:
        """Let the kernel's timers run."""
        if self.timer is not None and self.timer <= now:
            self.timer = None
            windows = 1
            late = max(0, now - self.window_start)
            if self.window and late <= LATE_MAX_MS:
                windows += late // self.window
            self.window_start = min(self.window_start, now)
            self.window_start += (windows - 1) * self.window
            self._add_credit(windows)

    def send(self, size: int, now: int) -> bool:
        """One turn of the loop that takes packets: does it take this one?"""
        if size > self.remaining_credit and self._exceeded(size, now):
            return False
        self.remaining_credit -= size
        return True

    def rate_changed(self, nr_bytes: int, usec: int, now: int) -> None:
        """Another limit is written into the store."""
        self.window, part = divmod(usec, 1000)
        self.credit_bytes = nr_bytes
        if part:
            self.window = max(1, self.window)
            if 0 < nr_bytes < UINT64_MAX:
                exact = nr_bytes * self.window * 1000 // usec
                self.credit_bytes = min(max(1, exact), UINT64_MAX)
        if self.timer is not None:
            self.timer = now
        else:
            self.remaining_credit = min(self.remaining_credit, self.credit_bytes)

    def _add_credit(self, windows: int) -> None:
        credit = self.remaining_credit + windows * self.credit_bytes
        self.remaining_credit = min(credit, UINT64_MAX)

    def _exceeded(self, size: int, now: int) -> bool:
        if self.timer is not None:
            return True
        if now >= self.window_start + self.window:
            self.window_start = now
            self._add_credit(1)
        if size > self.remaining_credit:
            next_credit = self.window_start + self.window
            self.timer = max(next_credit, now + 1)
            self.window_start = next_credit
            return True
        return False
