"""One line an event, from every process, to one place.

Messages are worded as the drivers that they stand for word them (xennet(4),
xenbus(4), Linux netback), so that a search finds the same words.
"""

import logging
import os
import stat
import sys
from typing import Final

from xenvirt.log_limit import LimitedHandler

LOG_FORMAT: Final = "%(asctime)s.%(msecs)03d %(xv_process)s[%(process)d] %(message)s"
TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%S"

_JOURNAL_PRIORITY: Final = {
    logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3,
}  # fmt: skip


class _PrintableFormatter(logging.Formatter):
    """Escapes control characters: part of a message may come from a peer."""

    def __init__(self, process: str, *, journal: bool) -> None:
        super().__init__(
            "%(xv_process)s[%(process)d] %(message)s" if journal else LOG_FORMAT,
            TIME_FORMAT,
        )
        self._process = process
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        record.xv_process = self._process
        # What is not in the first line is a traceback, which may quote a peer as well.
        first, *others = map(printable, super().format(record).split("\n"))
        lines = [first, *(f"  {line}" for line in others)]
        if self._journal:
            priority = _JOURNAL_PRIORITY.get(record.levelno, 6)
            return "\n".join(f"<{priority}>{line}" for line in lines)
        return "\n".join(lines)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """A message is one line: what a peer wrote must not look like another."""
        return printable(super().formatMessage(record))


def printable(text: str) -> str:
    """Return it with its control characters escaped: a peer may have written some."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def setup(process: str, *, debug: bool = False) -> None:
    """Log as `process` to standard error, in the journal's form when it listens there.

    A daemon in the foreground has the run directory's log as its standard output,
    and its ends inherit both: then each line goes to the log as well.
    """
    to_error = logging.StreamHandler(sys.stderr)
    journal = "JOURNAL_STREAM" in os.environ and not _is_file(2)
    to_error.setFormatter(_PrintableFormatter(process, journal=journal))
    handlers: list[logging.Handler] = [to_error]
    if _is_file(1) and not os.path.samestat(os.fstat(1), os.fstat(2)):
        to_log = logging.StreamHandler(sys.stdout)
        to_log.setFormatter(_PrintableFormatter(process, journal=False))
        handlers.append(to_log)
    root = logging.getLogger()
    for handler in handlers:
        handler.addFilter(_is_not_netlink_chatter)
    root.handlers[:] = [LimitedHandler(handlers)]
    root.setLevel(logging.DEBUG if debug else logging.INFO)


def _is_not_netlink_chatter(record: logging.LogRecord) -> bool:
    """Whole netlink messages are debug lines of pyroute2."""
    return record.levelno >= logging.WARNING or not record.name.startswith("pyroute2")


def _is_file(fd: int) -> bool:
    return stat.S_ISREG(os.fstat(fd).st_mode)
