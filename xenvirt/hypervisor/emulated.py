"""The emulation, as an end sees it: hypercalls to the daemon, and shared memory."""

import asyncio
import logging
import mmap
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from xenvirt.abi.ids import PAGE_SIZE, DevId, DomId, Port
from xenvirt.errors import HypercallError, XenvirtError
from xenvirt.hypervisor import conventions
from xenvirt.hypervisor.client import Client as HypercallClient
from xenvirt.hypervisor.eventfds import EventfdChannel
from xenvirt.hypervisor.interface import (
    EventChannel,
    GrantedPages,
    Side,
)
from xenvirt.hypervisor.memories import PeerMemories
from xenvirt.hypervisor.slabs import Slabs
from xenvirt.hypervisor.start_info import StartInfo
from xenvirt.native.gnttab import PeerGrantTable
from xenvirt.native.xs_ring import XsRingPage
from xenvirt.xenstore.client import Client

END_AGAIN_S: Final = 1.0
"""How long after a try grants are tried to be ended again, as Linux does it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _StoreChannel:
    """The store's event channel, as the ring transport wants it."""

    channel: EventfdChannel

    @property
    def fd(self) -> int:
        """Readable when the store has notified."""
        return self.channel.pending_fd

    def notify(self) -> None:
        """Wake the store."""
        self.channel.notify()


class _OwnDevice:
    """A device that nobody else could have."""

    waited = False

    def release(self) -> None:
        """There is nothing to release."""


class EmulatedHypervisor:
    """`interface.Hypervisor` of the domain that the calling process is in.

    `slab_pages` is the most that is granted at once; None: nothing is.
    """

    def __init__(
        self, calls: HypercallClient, info: StartInfo, slab_pages: int | None
    ) -> None:
        self.domid = info.domid
        self.conventions = conventions.EMULATED
        self._calls = calls
        self._info = info
        self._memories = PeerMemories(calls, info.domid)
        self._slabs: Slabs | None = None
        if info.memory is not None and slab_pages is not None:
            self._slabs = Slabs(info.memory, info.store_gfn + 1, slab_pages)
        self._ending: asyncio.TimerHandle | None = None
        self._end_rest()

    @classmethod
    async def connect(cls, socket_path: Path, *, slab_pages: int | None) -> Self:
        """Ask the daemon behind `socket_path` who we are; as `HypercallClient`."""
        calls = HypercallClient(socket_path, lasting=True)
        try:
            return cls(calls, await calls.start_info(), slab_pages)
        except BaseException:
            calls.close()
            raise

    def close(self) -> None:
        """End the connection, and every port that came through it."""
        if self._ending is not None:
            self._ending.cancel()
        self._info.close()
        self._calls.close()

    async def wait_closed(self) -> None:
        """Return when the daemon is gone for good."""
        await self._calls.wait_closed()

    async def open_store(self) -> Client:
        """See `Hypervisor`: by the domain's ring, which its frontend has, or socket."""
        if self._slabs is None:
            return await Client.connect_socket(
                await self._calls.open_xenbus(), reconnect=self._calls.open_xenbus
            )
        assert self._info.store is not None
        assert self._info.memory is not None
        offset = self._info.store_gfn * PAGE_SIZE
        mapping = mmap.mmap(self._info.memory.fd, offset + PAGE_SIZE)
        page = XsRingPage(mapping, offset)
        channel = _StoreChannel(self._info.store)
        log.info("xenbus0: using event channel %d", self._info.store.port)

        async def same_channel() -> _StoreChannel:
            return channel

        return await Client.connect_ring(page, channel, reconnect=same_channel)

    def driven_by(self, nodename: str) -> str | None:
        """See `Hypervisor`: nobody else is there."""
        del nodename
        return None

    async def claim(self, nodename: str) -> "_OwnDevice":
        """See `Hypervisor`: the supervisor starts one process of an end."""
        del nodename
        return _OwnDevice()

    async def grant(self, domid: DomId, readonly: Sequence[bool]) -> GrantedPages:
        """See `Hypervisor`."""
        if self._slabs is None:
            raise HypercallError("EPERM", "this process has no memory to share")
        granted = self._slabs.grant(domid, readonly)
        self._end_rest()
        return granted

    def end(self, pages: GrantedPages) -> None:
        """See `Hypervisor`."""
        assert self._slabs is not None
        self._slabs.end(pages)
        self._end_rest()

    def _end_rest(self) -> None:
        """End the grants of dead processes, as soon as nobody holds their pages."""
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        if self._slabs is not None and not self._slabs.end_rest():
            loop = asyncio.get_running_loop()
            self._ending = loop.call_later(END_AGAIN_S, self._end_rest)

    async def acquire_table(self, domid: DomId) -> PeerGrantTable:
        """See `Hypervisor`."""
        return await self._memories.acquire(domid)

    def release_table(self, domid: DomId) -> None:
        """See `Hypervisor`."""
        self._memories.release(domid)

    async def alloc_unbound(self, remote_domid: DomId) -> EventChannel:
        """See `Hypervisor`."""
        return await self._calls.alloc_unbound(remote_domid)

    async def bind_interdomain(
        self, remote_domid: DomId, remote_port: Port
    ) -> EventChannel:
        """See `Hypervisor`."""
        return await self._calls.bind_interdomain(remote_domid, remote_port)

    async def close_channel(self, channel: EventChannel) -> None:
        """See `Hypervisor`."""
        assert isinstance(channel, EventfdChannel)
        try:
            with suppress(XenvirtError):
                await self._calls.close_port(channel.port)
        finally:
            # Also for whoever is cancelled meanwhile, as its vif is removed.
            channel.close()

    async def publish(
        self, domid: DomId, devid: DevId, side: Side, queue: int, page_fd: int
    ) -> None:
        """See `Hypervisor`."""
        await self._calls.publish(domid, devid, side, queue, page_fd)

    async def unpublish(self, domid: DomId, devid: DevId, side: Side) -> None:
        """See `Hypervisor`."""
        # The daemon may be gone for good: then nobody shows anything.
        with suppress(XenvirtError):
            await self._calls.unpublish(domid, devid, side)
