"""Waiting for what a worker does, in a thread of its own."""

import select
import time
from collections.abc import Callable
from typing import Final

PATIENCE_S: Final = 120
TICK_S: Final = 0.01


def wait_for(condition: Callable[[], bool], changed_fd: int) -> None:
    """Look again and again; a queue that breaks ends the waiting."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        broken, _, _ = select.select([changed_fd], [], [], TICK_S)
        assert not broken
        assert time.monotonic() < deadline
