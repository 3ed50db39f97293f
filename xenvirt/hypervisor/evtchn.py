"""The event channels of every domain (event_channel.h's operations, less the VIRQs).

A channel is two eventfds. What is `pending` to one end is `notify` to the other,
and both live for as long as one end does: an end that comes back after its peer's
restart finds the descriptors that it knows.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from xenvirt.abi.ids import DomId, Port
from xenvirt.errors import HypercallError
from xenvirt.hypervisor.eventfds import set_pending
from xenvirt.hypervisor.keeper import Keeper, Kept, OwnKeeper, Value
from xenvirt.hypervisor.session import Session, owner_name

NR_PORTS: Final = 131072
"""The FIFO ABI's; port 0 counts as one and is never valid."""


class PortState(IntEnum):
    """EVTCHNSTAT_*."""

    CLOSED = 0
    UNBOUND = 1
    INTERDOMAIN = 2


@dataclass(eq=False, slots=True)
class _Channel:
    """Two eventfds, and who is at either end; the end `i` reads `fds[i]`.

    At least one end is open. `domids` says also for whom the other one waits.
    """

    key: str
    fds: tuple[int, int]
    domids: tuple[DomId, DomId]
    ends: "list[PortEntry | None]"

    def value(self) -> Value:
        return {
            "ends": [
                [domid, *(end.names() if end is not None else (None, None, None))]
                for domid, end in zip(self.domids, self.ends, strict=True)
            ]
        }


@dataclass(eq=False, slots=True)
class PortEntry:
    """One open port; the table owns both descriptors.

    `owner` is the session that it closes with, None if it lives as long as the
    domain; `serial` is the session's own number of the call that opened it.
    """

    channel: _Channel
    side: int
    port: Port
    owner: Session | None
    serial: int | None = None

    @property
    def domid(self) -> DomId:
        """Whose port it is."""
        return self.channel.domids[self.side]

    @property
    def remote_domid(self) -> DomId:
        """Who is, or may come, to the other end."""
        return self.channel.domids[1 - self.side]

    @property
    def remote_port(self) -> Port | None:
        """The other end, None while unbound."""
        other = self.channel.ends[1 - self.side]
        return None if other is None else other.port

    @property
    def pending_fd(self) -> int:
        """Readable when the other end has notified."""
        return self.channel.fds[self.side]

    @property
    def notify_fd(self) -> int:
        """What notifies the other end."""
        return self.channel.fds[1 - self.side]

    @property
    def state(self) -> PortState:
        """UNBOUND or INTERDOMAIN: closed ports are not kept."""
        return PortState.UNBOUND if self.remote_port is None else PortState.INTERDOMAIN

    def names(self) -> tuple[Port, str | None, int | None]:
        """Return what its channel's record says of this end."""
        return self.port, owner_name(self.owner), self.serial


class PortTable:
    """Every domain's ports; each channel has a record with the keeper."""

    def __init__(self, keeper: Keeper | None = None) -> None:
        self._keeper = keeper if keeper is not None else OwnKeeper()
        self._domains: dict[DomId, dict[Port, PortEntry]] = {}
        # All below it are in use: a backend has thousands.
        self._free_from: dict[DomId, int] = {}
        self._last_channel = 0

    @property
    def nr_channels(self) -> int:
        """How many channels there are, of one end or two."""
        return len(
            {id(e.channel) for ports in self._domains.values() for e in ports.values()}
        )

    def add_domain(self, domid: DomId) -> None:
        """Give a new domain an empty table."""
        self._domains[domid] = {}
        self._free_from[domid] = 1

    def remove_domain(self, domid: DomId) -> None:
        """Close all ports of a domain and forget it."""
        for port in list(self._domains.get(domid, ())):
            self.close(domid, port)
        self._domains.pop(domid, None)
        self._free_from.pop(domid, None)

    def alloc_unbound(
        self,
        domid: DomId,
        remote_domid: DomId,
        *,
        owner: Session | None = None,
        serial: int | None = None,
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
        self._last_channel += 1
        channel = _Channel(
            f"channel/{self._last_channel}",
            (pending_fd, notify_fd),
            (domid, remote_domid),
            [None, None],
        )
        entry = self._open(channel, 0, port, owner, serial)
        self._keeper.put(channel.key, channel.value(), channel.fds)
        return entry

    def bind_interdomain(
        self,
        domid: DomId,
        remote_domid: DomId,
        remote_port: Port,
        *,
        owner: Session | None = None,
        serial: int | None = None,
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
        channel = remote.channel
        port = self._free_port(domid)
        entry = self._open(channel, 1 - remote.side, port, owner, serial)
        self._keeper.put(channel.key, channel.value())
        # What was sent while nobody was bound was lost, so the binder looks at once.
        set_pending(entry.pending_fd)
        return entry

    def opened(
        self, domid: DomId, owner: Session, serial: int | None
    ) -> PortEntry | None:
        """Return the port that `owner` opened by that call, None if it has not."""
        for entry in self._ports(domid).values():
            if entry.owner is owner and serial is not None and entry.serial == serial:
                return entry
        return None

    def close(self, domid: DomId, port: Port) -> None:
        """Close a port; its peer is unbound again, for the same domain to bind.

        ESRCH for an unknown domain, EINVAL for a port that is not open.
        """
        entry = self.get(domid, port)
        del self._domains[domid][port]
        self._free_from[domid] = min(port, self._free_from[domid])
        channel = entry.channel
        channel.ends[entry.side] = None
        if entry.remote_port is None:
            self._keeper.drop(channel.key)
            for fd in channel.fds:
                os.close(fd)
        else:
            self._keeper.put(channel.key, channel.value())

    def close_owned(self, owner: Session) -> None:
        """Close every port that was opened for `owner`."""
        for entry in self._owned(owner):
            self.close(entry.domid, entry.port)

    def rename_owner(self, owner: Session) -> None:
        """Have the records of what `owner` opened say its new name."""
        for entry in self._owned(owner):
            self._keeper.put(entry.channel.key, entry.channel.value())

    def restore(
        self, key: str, kept: Kept, owners: Mapping[str | None, Session | None]
    ) -> None:
        """Take up the record of a channel, and its descriptors.

        Closed are ends of a domain that is not in the table, and those whose owner
        is not among `owners`, by name.
        """
        self._last_channel = max(self._last_channel, int(key.rpartition("/")[2]))
        rows = kept.value["ends"]
        assert isinstance(rows, list)
        first, second = kept.fds
        channel = _Channel(key, (first, second), (rows[0][0], rows[1][0]), [None, None])
        for side, (domid, port, owner, serial) in enumerate(rows):
            if port is not None and domid in self._domains and owner in owners:
                self._open(channel, side, port, owners[owner], serial)
        if channel.ends == [None, None]:
            self._keeper.drop(key)
            for fd in channel.fds:
                os.close(fd)
        elif channel.value() != kept.value:
            self._keeper.put(key, channel.value())

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

    def _open(
        self,
        channel: _Channel,
        side: int,
        port: Port,
        owner: Session | None,
        serial: int | None,
    ) -> PortEntry:
        entry = PortEntry(channel, side, port, owner, serial)
        channel.ends[side] = entry
        self._domains[entry.domid][port] = entry
        return entry

    def _owned(self, owner: Session) -> list[PortEntry]:
        return [
            entry
            for ports in self._domains.values()
            for entry in ports.values()
            if entry.owner is owner
        ]

    def _ports(self, domid: DomId) -> dict[Port, PortEntry]:
        try:
            return self._domains[domid]
        except KeyError:
            raise HypercallError("ESRCH", f"there is no domain {domid}") from None

    def _free_port(self, domid: DomId) -> Port:
        ports = self._ports(domid)
        for number in range(self._free_from[domid], NR_PORTS):
            if number not in ports:
                self._free_from[domid] = number
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
