"""What an end asks of a hypervisor, whichever it runs on.

The emulation answers over `hypervisor.sock` (client.py); on a real Xen the same
verbs are gntalloc, gntdev, /dev/xen/evtchn and /dev/xen/xenbus.
"""

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import socket

    from xenvirt.abi.ids import DevId, DomId, Gfn, Port

Side = Literal["front", "back"]


def set_pending(fd: int) -> None:
    """Write to an eventfd that another domain holds as well.

    Its non-blocking flag is shared, and so set again: a full counter, which means
    pending as it is, must not make the writer wait.
    """
    os.set_blocking(fd, False)
    with contextlib.suppress(BlockingIOError):
        os.eventfd_write(fd, 1)


def _close_all(*fds: int) -> None:
    for fd in fds:
        if fd >= 0:
            os.close(fd)


@dataclass(slots=True)
class DomainMemory:
    """A domain's pages: grant table frames, the store's ring, then data pages.

    Whoever was handed the object owns `fd` (a memfd sealed against shrinking and
    growing) and calls `close`; mappings made from it live on.
    """

    fd: int
    nr_pages: int
    nr_grant_frames: int

    def close(self) -> None:
        """Close the descriptor; again is harmless."""
        fd, self.fd = self.fd, -1
        _close_all(fd)


@dataclass(slots=True)
class EventChannel:
    """One end of an event channel: a port and an eventfd for each direction.

    Whoever was handed the object owns both descriptors and calls `close`. That does
    not close the port: `close_port` does, or the end of the hypervisor connection
    through which it was allocated.
    """

    port: "Port"
    pending_fd: int
    notify_fd: int

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
        _close_all(*fds)


@dataclass(slots=True)
class StartInfo:
    """What a domain is told when it starts (Xen's start_info).

    Domain 0 has neither memory to share nor a ring: its `memory` and `store` are
    None. The receiver owns both otherwise.
    """

    domid: "DomId"
    name: str
    memory: DomainMemory | None
    store_gfn: "Gfn"
    store: EventChannel | None

    def close(self) -> None:
        """Close every descriptor in it."""
        if self.memory is not None:
            self.memory.close()
        if self.store is not None:
            self.store.close()


class Hypervisor(Protocol):
    """The verbs; all raise `HypercallError` with Xen's errno when refused."""

    async def start_info(self) -> StartInfo:
        """Return who the caller is, its memory and its way to the store."""

    async def memory(self, domid: "DomId") -> DomainMemory:
        """Return the memory of a domain that has a vif with the caller's.

        EACCES without such a vif, ESRCH if there is no such domain.
        """

    async def alloc_unbound(self, remote_domid: "DomId") -> EventChannel:
        """Return a new port that `remote_domid`, and it alone, may bind."""

    async def bind_interdomain(
        self, remote_domid: "DomId", remote_port: "Port"
    ) -> EventChannel:
        """Return a new port, pending at once, connected to an unbound remote one.

        EINVAL unless the remote port waits for the caller's domain.
        """

    async def close_port(self, port: "Port") -> None:
        """Close one of the caller's ports; the other end can be bound again."""

    async def open_xenbus(self) -> "socket.socket":
        """Return a stream socket that speaks xs_wire as the caller's domain."""

    async def publish(
        self, domid: "DomId", devid: "DevId", side: Side, queue: int, page_fd: int
    ) -> None:
        """Show a queue's statistics page to the tools for as long as the caller runs.

        `domid` is the frontend's. `page_fd` is a memfd sealed against shrinking and
        stays the caller's.
        """
