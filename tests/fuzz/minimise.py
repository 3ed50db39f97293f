"""A shorter input that still does what it does."""

import time
from collections.abc import Callable


def minimised(
    data: bytes, fails: Callable[[bytes], bool], patience_s: float = 60
) -> bytes:
    """Leave pieces out, smaller and smaller ones, as long as it still fails."""
    deadline = time.monotonic() + patience_s
    size = len(data) // 2
    while size > 0:
        at = 0
        while at < len(data):
            if time.monotonic() > deadline:
                return data
            shorter = data[:at] + data[at + size :]
            if fails(shorter):
                data = shorter
            else:
                at += size
        size //= 2
    return data
