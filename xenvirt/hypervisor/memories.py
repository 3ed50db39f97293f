"""The emulated memory of other domains, as a backend sees it: mapped once a domain."""

import asyncio
import mmap

from xenvirt.abi.ids import PAGE_SIZE, DomId
from xenvirt.hypervisor.client import Client
from xenvirt.native.gnttab import PeerGrantTable


class PeerMemories:
    """The memory of the frontends' domains, mapped once however many vifs they have."""

    def __init__(self, hypervisor: Client, own_domid: DomId) -> None:
        self._hypervisor = hypervisor
        self._own_domid = own_domid
        self._tables: dict[DomId, tuple[PeerGrantTable, int]] = {}
        self._lock = asyncio.Lock()

    async def acquire(self, domid: DomId) -> PeerGrantTable:
        """The domain's grant table; HypercallError when it is not ours to see."""
        async with self._lock:
            table, users = self._tables.get(domid, (None, 0))
            if table is None:
                table = await self._map(domid)
            self._tables[domid] = table, users + 1
            return table

    def release(self, domid: DomId) -> None:
        """One vif less needs it."""
        table, users = self._tables[domid]
        if users > 1:
            self._tables[domid] = table, users - 1
        else:
            del self._tables[domid]

    async def _map(self, domid: DomId) -> PeerGrantTable:
        memory = await self._hypervisor.memory(domid)
        try:
            mapping = mmap.mmap(memory.fd, memory.nr_pages * PAGE_SIZE)
            return PeerGrantTable(
                mapping, memory.nr_pages, memory.nr_grant_frames, self._own_domid
            )
        finally:
            memory.close()
