"""Shared memory that changes while the other end looks at it."""

import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def rewriting(place: memoryview, variants: Sequence[bytes]) -> Iterator[None]:
    """Write one variant after the other to `place`, over and over, from a thread.

    Each is written at once as far as the machine does: 8 bytes at most, if aligned.
    """
    stop = threading.Event()

    def run() -> None:
        for variant in itertools.cycle(variants):
            place[: len(variant)] = variant
            if stop.is_set():
                return

    thread = threading.Thread(target=run, name="rewriting")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
