"""Linux netback's credit of a queue, in Python (netback.c), with jiffies of 1 ms.

One thing is ours: there is no limit of max(131072, credit_bytes) to what is kept.
"""

from typing import Final

UINT64_MAX: Final = 2**64 - 1


class NetbackCredit:
    """One queue; `timer` is when its credit_timeout runs, None: not pending."""

    def __init__(self, nr_bytes: int, usec: int) -> None:
        self.credit_bytes = self.remaining_credit = nr_bytes
        self.credit_usec = usec
        self.window_start = 0
        self.timer: int | None = None

    def tick(self, now: int) -> None:
        """Let the kernel's timers run."""
        if self.timer is not None and self.timer <= now:
            self.timer = None
            self._add_credit()

    def send(self, size: int, now: int) -> bool:
        """One turn of the loop that takes packets: does it take this one?"""
        if size > self.remaining_credit and self._exceeded(size, now):
            return False
        self.remaining_credit -= size
        return True

    def rate_changed(self, nr_bytes: int, usec: int, now: int) -> None:
        """Another limit is written into the store."""
        self.credit_bytes, self.credit_usec = nr_bytes, usec
        if self.timer is not None:
            self.timer = now
        elif self.remaining_credit > nr_bytes:
            self.remaining_credit = nr_bytes

    def _add_credit(self) -> None:
        credit = self.remaining_credit + self.credit_bytes
        self.remaining_credit = min(credit, UINT64_MAX)

    def _exceeded(self, size: int, now: int) -> bool:
        next_credit = self.window_start + self.credit_usec // 1000
        if self.timer is not None:
            return True
        if now >= next_credit:
            self.window_start = now
            self._add_credit()
        if size > self.remaining_credit:
            self.timer = max(next_credit, now + 1)
            self.window_start = next_credit
            return True
        return False
