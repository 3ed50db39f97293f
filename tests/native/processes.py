"""A second process, for what two threads under one interpreter lock cannot show."""

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

PATIENCE_S: Final = 60


def until(seen: Callable[[], bool], at_least: int) -> Iterator[int]:
    """Count rounds until a race has shown what it can show, or for a minute."""
    deadline = time.monotonic() + PATIENCE_S
    for round_ in itertools.count():
        if round_ >= at_least and (seen() or time.monotonic() > deadline):
            return
        yield round_


@contextmanager
def forked(run: Callable[[], None]) -> Iterator[int]:
    """Run a function in a child process, which is killed at the end. Gives its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            run()
        finally:
            os._exit(0)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
