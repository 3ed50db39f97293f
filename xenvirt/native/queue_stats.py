"""What a queue says of itself while it runs: counters, indices, why it stopped."""

import mmap
from collections.abc import Iterator
from typing import Final

from xenvirt.native.extension import ffi, lib

STATS_SIZE: Final[int] = ffi.sizeof("struct xv_queue_stats")
"""Bytes of a queue's statistics."""


def _counter_names() -> Iterator[str]:
    number = 0
    while (name := lib.xv_counter_name(number)) != ffi.NULL:
        yield ffi.string(name).decode()
        number += 1


COUNTER_NAMES: Final = tuple(_counter_names())


class QueueStats:
    """A queue's counters and ring indices, in memory that others may watch.

    `memory` is no memoryview: the garbage collector of Python 3.11 may clear one that
    is in use here before us, and crash.
    """

    def __init__(self, memory: mmap.mmap, offset: int = 0) -> None:
        self._memory = ffi.from_buffer(memory)
        self.cdata = ffi.cast("struct xv_queue_stats *", self._memory + offset)

    def counters(self) -> dict[str, int]:
        """Every counter by name; TX is frontend to backend."""
        return {
            name: self.cdata.counters[number]
            for number, name in enumerate(COUNTER_NAMES)
        }

    def broken(self) -> str | None:
        """Why the queue stopped for good, as the real drivers word it."""
        reason = self.cdata.broken
        if reason == 0:
            return None
        text = ffi.string(lib.xv_broken_format(reason)).decode()
        arguments = tuple(self.cdata.broken_args)[: text.count("%u")]
        return str(text.replace("%u", "%d") % arguments)

    def rx_stalled(self) -> bool:
        """Whether the frontend has posted no RX buffers for too long."""
        return bool(self.cdata.rx_stalled)

    def settled(self) -> bool:
        """Whether what `Worker.settle` asked for is done, or the queue is broken."""
        return bool(self.cdata.settled)

    def indices(self) -> dict[str, int]:
        """The end's private ring indices: requests and responses of each ring."""
        return {
            "tx_req": self.cdata.tx_req,
            "tx_rsp": self.cdata.tx_rsp,
            "rx_req": self.cdata.rx_req,
            "rx_rsp": self.cdata.rx_rsp,
        }
