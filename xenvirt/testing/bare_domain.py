"""A domain without processes of its own: the script is whatever runs in it.

Every hypercall is made as that domain, with its rights and no more.
"""

import itertools
import mmap
import os
import socket
from contextlib import ExitStack, suppress
from typing import Final

from xenvirt.abi.ids import PAGE_SIZE, DomId, Port
from xenvirt.errors import HypercallError
from xenvirt.hypervisor.eventfds import EventfdChannel
from xenvirt.hypervisor.memory import FIRST_DATA_GFN
from xenvirt.hypervisor.start_info import DomainMemory
from xenvirt.native.gnttab import PeerGrantTable
from xenvirt.testing.pages import DomainPages
from xenvirt.toolstack import domains, vifs
from xenvirt.toolstack.host import Host, connect
from xenvirt.xenstore.sync_client import SyncClient

_numbers: Final = itertools.count()


def new_name() -> str:
    """Return a domain name that this process has not used."""
    return f"peer-{os.getpid()}-{next(_numbers)}"


class BareDomain:
    """Made at once, and destroyed by `undo` with its nodes, grants and ports."""

    def __init__(self, host: Host, name: str, undo: ExitStack) -> None:
        self._host = host
        self._undo = undo
        # Who makes a domain looks into its memory: were that by the connection that
        # we keep, we would be taken for a backend that still holds its grants.
        with connect(host.run_dir) as maker:
            self.info = domains.create(maker, name, bare=True)
        undo.callback(domains.destroy, host, self.info, timeout_s=vifs.CLOSE_TIMEOUT_S)
        self.domid = self.info.domid

    def pages(self, peer: DomId) -> DomainPages:
        """Return this domain's pages, for `peer` to map."""
        memory = self._memory(self.domid)
        try:
            return DomainPages(memory, FIRST_DATA_GFN, peer)
        finally:
            memory.close()

    def table_of(self, frontend: DomId) -> PeerGrantTable:
        """Return the grants of a domain that has a vif with this one."""
        memory = self._memory(frontend)
        try:
            return PeerGrantTable(
                mmap.mmap(memory.fd, memory.nr_pages * PAGE_SIZE),
                memory.nr_pages,
                memory.nr_grant_frames,
                self.domid,
            )
        finally:
            memory.close()

    def open_xenbus(self) -> socket.socket:
        """Return a connection to the store, which knows us as this domain."""
        _, (fd,) = self._call("open_xenbus")
        return socket.socket(fileno=fd)

    def open_store(self) -> SyncClient:
        """Return a client on such a connection; it is closed with the domain."""
        return self._undo.enter_context(SyncClient.from_socket(self.open_xenbus()))

    def alloc_unbound(self, remote: DomId) -> EventfdChannel:
        """Return a new port that `remote` may bind."""
        return self._channel("alloc_unbound", remote_domid=remote)

    def bind_interdomain(self, remote: DomId, port: Port) -> EventfdChannel:
        """Return a new port bound to that one; HypercallError."""
        return self._channel("bind_interdomain", remote_domid=remote, remote_port=port)

    def close_port(self, channel: EventfdChannel) -> None:
        """Close the port, whose other end is unbound then; again is harmless."""
        if channel.fd >= 0:
            with suppress(HypercallError):
                self._call("close_port", port=channel.port)

    def close_channel(self, channel: EventfdChannel) -> None:
        """Close the port and our descriptors of it; again is harmless."""
        self.close_port(channel)
        channel.close()

    def _channel(self, op: str, **args: object) -> EventfdChannel:
        result, (pending, notify) = self._call(op, **args)
        channel = EventfdChannel(Port(int(str(result["port"]))), pending, notify)
        self._undo.callback(self.close_channel, channel)
        return channel

    def _memory(self, domid: DomId) -> DomainMemory:
        result, (fd,) = self._call("memory", domid=domid)
        nr_pages, nr_frames = result["nr_pages"], result["nr_grant_frames"]
        return DomainMemory(fd, int(str(nr_pages)), int(str(nr_frames)))

    def _call(self, op: str, **args: object) -> tuple[dict[str, object], list[int]]:
        return self._host.hypervisor.call(op, (), **{"as": self.domid}, **args)
