"""How many lines of a kind are logged: what a peer can cause must not fill a disk.

As Linux's net_ratelimit: ten in five seconds, and how many more there were.
"""

import logging
import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

BURST: Final = 10
INTERVAL_S: Final = 5.0

KINDS_MAX: Final = 4096
"""Kinds that are told apart at a time; all further ones are one."""


@dataclass(slots=True)
class _Window:
    """The time from the first line of a kind; `about` names it."""

    about: str
    ends: float
    logged: int = 0
    suppressed: int = 0


class LogLimit:
    """Counts lines by kind; times are in seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._windows: dict[Hashable, _Window] = {}

    def admits(self, kind: Hashable, about: str, now: float) -> bool:
        """Whether one more line of `kind` is logged; `about` is for `ended`."""
        if kind not in self._windows and len(self._windows) >= KINDS_MAX:
            kind, about = None, "others"
        window = self._windows.setdefault(kind, _Window(about, now + INTERVAL_S))
        if window.logged < BURST:
            window.logged += 1
            return True
        window.suppressed += 1
        return False

    def ended(self, now: float) -> Iterator[tuple[str, int]]:
        """Forget the kinds whose time is over; what lacked lines, and how many."""
        # The oldest window is the first, and all are of one length.
        while self._windows:
            kind = next(iter(self._windows))
            window = self._windows[kind]
            if now < window.ends:
                return
            del self._windows[kind]
            if window.suppressed:
                yield window.about, window.suppressed


class LimitedHandler(logging.Handler):
    """Hands what `LogLimit` admits to other handlers, and says how much it did not.

    Lines are of one kind that have format and first argument in common: most begin with
    the vif that they are about. Debug lines are not limited.
    """

    def __init__(self, handlers: Sequence[logging.Handler]) -> None:
        super().__init__()
        self._handlers = tuple(handlers)
        self._limit = LogLimit()

    def emit(self, record: logging.LogRecord) -> None:
        """Log it, if it is not one too many."""
        now = time.monotonic()
        self._tell(now)
        first = record.args[0] if isinstance(record.args, tuple) and record.args else ""
        if record.levelno < logging.INFO or self._limit.admits(
            (record.msg, str(first)), str(first) or record.msg, now
        ):
            self._pass_on(record)

    def close(self) -> None:
        """Say what was left out until now."""
        self._tell(float("inf"))
        super().close()

    def _tell(self, now: float) -> None:
        for about, count in self._limit.ended(now):
            self._pass_on(
                logging.LogRecord(
                    __name__,
                    logging.WARNING,
                    __file__,
                    0,
                    "%s: %d callbacks suppressed",
                    (about, count),
                    None,
                )
            )

    def _pass_on(self, record: logging.LogRecord) -> None:
        for handler in self._handlers:
            if handler.filter(record):
                handler.handle(record)
