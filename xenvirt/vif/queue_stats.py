"""A vif's statistics: written by the workers, shown to the tools read-only.

One memfd for all queues of an end: an idle vif then touches one page.
"""

import fcntl
import mmap
import os
from typing import Final

from xenvirt.abi.netif import MAX_QUEUES_DEFAULT
from xenvirt.native.queue_stats import STATS_SIZE, QueueStats

_CACHE_LINE: Final = 64
_STRIDE: Final = -(-STATS_SIZE // _CACHE_LINE) * _CACHE_LINE
"""So that two workers do not write to one line."""
_SIZE: Final = -(-_STRIDE * MAX_QUEUES_DEFAULT // mmap.PAGESIZE) * mmap.PAGESIZE

_F_SEAL_FUTURE_WRITE: Final = 0x10
"""linux/fcntl.h, since 5.1; Python's fcntl lacks it."""


class StatsPages:
    """What this process writes and others may map to read."""

    def __init__(self, name: str) -> None:
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, _SIZE)
            self._mapping = mmap.mmap(fd, _SIZE)
            # Our own mapping stays writable; nobody gets another.
            fcntl.fcntl(
                fd,
                fcntl.F_ADD_SEALS,
                fcntl.F_SEAL_SHRINK
                | fcntl.F_SEAL_GROW
                | _F_SEAL_FUTURE_WRITE
                | fcntl.F_SEAL_SEAL,
            )
        except BaseException:
            os.close(fd)
            raise
        self.fd = fd

    def of_queue(self, number: int) -> QueueStats:
        """The statistics of a queue, 0 to 7, which keep the mapping."""
        return QueueStats(self._mapping, number * _STRIDE)

    def close(self) -> None:
        """Close the descriptor; the mapping goes with its last user."""
        os.close(self.fd)


def read(fd: int, number: int) -> QueueStats:
    """The statistics of a queue in what an end has published; `fd` stays the caller's.

    An end that has been running since before a live update may show a page for each
    queue. ValueError if the queue's are not in there.
    """
    size = os.fstat(fd).st_size
    mapping = mmap.mmap(fd, size, prot=mmap.PROT_READ)
    offset = number * _STRIDE if size >= _SIZE else 0
    if offset + STATS_SIZE > size:
        raise ValueError(f"{size} bytes have no statistics of queue {number}")
    return QueueStats(mapping, offset)
