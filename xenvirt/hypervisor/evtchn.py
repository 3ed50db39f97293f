"""The event channels of every domain (event_channel.h's operations, less the VIRQs).

A channel is two eventfds. What is `pending` to one end is `notify` to the other,
and both live for as long as one end does: an end that comes back after its peer's
restart finds the descriptors that it knows.
"""

import os
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from xenvirt.abi.ids import DomId, Port
from xenvirt.errors import HypercallError
from xenvirt.hypervisor.interface import set_pending

NR_PORTS: Final = 4096
"""The two-level ABI's; port 0 counts as one and is never valid."""


class PortState(IntEnum):
    """EVTCHNSTAT_*."""

    CLOSED = 0
    UNBOUND = 1
    INTERDOMAIN = 2


@dataclass(slots=True)
class PortEntry:
    """One open port; the table owns both descriptors.

    `owner` is the connection that it closes with, None if it lives as long as the
    domain. `remote_port` is None while unbound.
    """

    domid: DomId
    port: Port
    remote_domid: DomId
    remote_port: Port | None
    pending_fd: int
    notify_fd: int
    owner: object | None

    @property
    def state(self) -> PortState:
        """UNBOUND or INTERDOMAIN: closed ports are not kept."""
        return PortState.UNBOUND if self.remote_port is None else PortState.INTERDOMAIN


class PortTable:
    """Every domain's ports."""

    def __init__(self) -> None:
        self._domains: dict[DomId, dict[Port, PortEntry]] = {}

    def add_domain(self, domid: DomId) -> None:
        """Give a new domain an empty table."""
        self._domains[domid] = {}

    def remove_domain(self, domid: DomId) -> None:
        """Close all ports of a domain and forget it."""
        for port in list(self._domains.get(domid, ())):
            self.close(domid, port)
        self._domains.pop(domid, None)

    def alloc_unbound(
        self, domid: DomId, remote_domid: DomId, *, owner: object | None = None
    ) -> PortEntry:
        """Open the lowest free port of `domid` for `remote_domid` to bind.

        As in Xen the remote domain need not exist yet. ESRCH for an unknown
        `domid`, ENOSPC with all ports in use.
        """
        port = self._free_port(domid)
        pending_fd = _eventfd()
        try:
            notify_fd = _eventfd()
        except HypercallError:
            os.close(pending_fd)
            raise
        entry = PortEntry(domid, port, remote_domid, None, pending_fd, notify_fd, owner)
        self._domains[domid][port] = entry
        return entry

    def bind_interdomain(
        self,
        domid: DomId,
        remote_domid: DomId,
        remote_port: Port,
        *,
        owner: object | None = None,
    ) -> PortEntry:
        """Open a port of `domid` connected to an unbound one, and make it pending.

        ESRCH for an unknown domain; EINVAL for a remote port that is out of range,
        closed, bound already or waiting for another domain; ENOSPC.
        """
        remote = self.get(remote_domid, remote_port)
        if remote.remote_port is not None:
            raise HypercallError(
                "EINVAL",
                f"port {remote_port} of domain {remote_domid} is bound already, "
                f"to port {remote.remote_port} of domain {remote.remote_domid}",
            )
        if remote.remote_domid != domid:
            raise HypercallError(
                "EINVAL",
                f"port {remote_port} of domain {remote_domid} waits for domain "
                f"{remote.remote_domid}, not for domain {domid}",
            )
        port = self._free_port(domid)
        entry = PortEntry(
            domid, port, remote_domid, remote_port,
            remote.notify_fd, remote.pending_fd, owner,
        )  # fmt: skip
        self._domains[domid][port] = entry
        remote.remote_port = port
        # What was sent while nobody was bound was lost, so the binder looks at once.
        set_pending(entry.pending_fd)
        return entry

    def close(self, domid: DomId, port: Port) -> None:
        """Close a port; its peer is unbound again, for the same domain to bind.

        ESRCH for an unknown domain, EINVAL for a port that is not open.
        """
        entry = self.get(domid, port)
        del self._domains[domid][port]
        if entry.remote_port is None:
            os.close(entry.pending_fd)
            os.close(entry.notify_fd)
        else:
            self._domains[entry.remote_domid][entry.remote_port].remote_port = None

    def close_owned(self, owner: object) -> None:
        """Close every port that was opened for `owner`."""
        for domid, ports in self._domains.items():
            for entry in list(ports.values()):
                if entry.owner is owner:
                    self.close(domid, entry.port)

    def get(self, domid: DomId, port: Port) -> PortEntry:
        """Return an open port; ESRCH or EINVAL if there is none."""
        ports = self._ports(domid)
        if not 1 <= port < NR_PORTS:
            raise HypercallError("EINVAL", f"port {port} is not in 1..{NR_PORTS - 1}")
        try:
            return ports[port]
        except KeyError:
            raise HypercallError(
                "EINVAL", f"port {port} of domain {domid} is closed"
            ) from None

    def status(self, domid: DomId) -> list[PortEntry]:
        """Return the open ports of a domain in order; ESRCH if unknown."""
        return [entry for _, entry in sorted(self._ports(domid).items())]

    def _ports(self, domid: DomId) -> dict[Port, PortEntry]:
        try:
            return self._domains[domid]
        except KeyError:
            raise HypercallError("ESRCH", f"there is no domain {domid}") from None

    def _free_port(self, domid: DomId) -> Port:
        ports = self._ports(domid)
        for number in range(1, NR_PORTS):
            if number not in ports:
                return Port(number)
        raise HypercallError(
            "ENOSPC", f"all {NR_PORTS - 1} ports of domain {domid} are in use"
        )


def _eventfd() -> int:
    try:
        return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    except OSError as error:
        raise HypercallError(
            "ENOSPC", f"no descriptor left for an event channel: {error.strerror}"
        ) from error
