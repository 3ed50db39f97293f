"""The emulation's event channels: an eventfd for each direction."""

import contextlib
import os
from dataclasses import dataclass

from xenvirt.abi.ids import Port
from xenvirt.native.evtchn import Evtchn


def set_pending(fd: int) -> None:
    """Write to an eventfd that another domain holds as well.

    Its non-blocking flag is shared, and so set again: a full counter, which means
    pending as it is, must not make the writer wait.
    """
    os.set_blocking(fd, False)
    with contextlib.suppress(BlockingIOError):
        os.eventfd_write(fd, 1)


@dataclass(slots=True)
class EventfdChannel:
    """One end of an event channel: a port and an eventfd for each direction.

    Whoever was handed the object owns both descriptors and calls `close`. That does
    not close the port: `close_port` does, or the end of the hypervisor connection
    through which it was allocated.
    """

    port: Port
    pending_fd: int
    notify_fd: int

    @property
    def evtchn(self) -> Evtchn:
        """The same for a queue."""
        return Evtchn(self.pending_fd, self.notify_fd)

    @property
    def fd(self) -> int:
        """The descriptor that is readable while this end is pending."""
        return self.pending_fd

    def notify(self) -> None:
        """Make the other end pending; nothing more if it already is."""
        set_pending(self.notify_fd)

    def fileno(self) -> int:
        """Return `fd`, for `select` and its like."""
        return self.pending_fd

    def drain(self) -> bool:
        """Clear pending; return whether it was set (once or often: no count)."""
        os.set_blocking(self.pending_fd, False)
        try:
            os.eventfd_read(self.pending_fd)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Close both descriptors; again is harmless."""
        fds = self.pending_fd, self.notify_fd
        self.pending_fd = self.notify_fd = -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)
