"""A queue's statistics page: written by the worker, shown to the tools read-only."""

import fcntl
import mmap
import os

from xenvirt.native import STATS_SIZE, QueueStats


class StatsPage:
    """One page that this process writes and others may map to read."""

    def __init__(self, name: str) -> None:
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, STATS_SIZE)
            self.stats = QueueStats(mmap.mmap(fd, STATS_SIZE))
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

    def close(self) -> None:
        """Close the descriptor; the mapping goes with its last user."""
        os.close(self.fd)


_F_SEAL_FUTURE_WRITE = 0x10  # linux/fcntl.h, since 5.1; Python's fcntl lacks it
