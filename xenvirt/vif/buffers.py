"""The pages and grants of a frontend's queue: one slab of the domain's memory.

Two ring pages and 256 buffers for each direction, granted once for the life of the
queue. A slab is handed out again only when every one of its grants has ended: a page
that a backend still holds is kept from use rather than given to another.
"""

import errno
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from xenvirt.abi.ids import GNTTAB_NR_RESERVED_ENTRIES, PAGE_SIZE, DomId, Gref
from xenvirt.abi.netif import NET_RX_RING_SIZE, NET_TX_RING_SIZE
from xenvirt.hypervisor.interface import DomainMemory
from xenvirt.native import FrontBuffers, GrantTable
from xenvirt.xenbus.device import DeviceFatalError

NR_RINGS: Final = 2
SLAB_PAGES: Final = NR_RINGS + NET_TX_RING_SIZE + NET_RX_RING_SIZE


@dataclass(frozen=True, slots=True)
class Slab:
    """A queue's grefs and frames, both counted from its own first."""

    number: int
    first_gref: int
    first_frame: int

    @property
    def tx_ring_ref(self) -> Gref:
        """The TX ring's page."""
        return Gref(self.first_gref)

    @property
    def rx_ring_ref(self) -> Gref:
        """The RX ring's page."""
        return Gref(self.first_gref + 1)

    @property
    def grefs(self) -> Sequence[int]:
        """All of them, rings first, then TX, then RX."""
        return range(self.first_gref, self.first_gref + SLAB_PAGES)

    def buffers(self) -> FrontBuffers:
        """The slab as the queue wants it."""
        tx, rx = NR_RINGS, NR_RINGS + NET_TX_RING_SIZE
        return FrontBuffers(
            tx_ring_frame=self.first_frame,
            rx_ring_frame=self.first_frame + 1,
            tx_grefs=range(self.first_gref + tx, self.first_gref + rx),
            tx_frames=range(self.first_frame + tx, self.first_frame + rx),
            rx_grefs=range(self.first_gref + rx, self.first_gref + SLAB_PAGES),
            rx_frames=range(self.first_frame + rx, self.first_frame + SLAB_PAGES),
        )


class Slabs:
    """The domain's memory, cut into slabs. `memory` stays the caller's."""

    def __init__(self, memory: DomainMemory, first_data_frame: int) -> None:
        self._map = mmap.mmap(memory.fd, memory.nr_pages * PAGE_SIZE)
        self.table = GrantTable(self._map, memory.nr_pages, memory.nr_grant_frames)
        grefs = memory.nr_grant_frames * 512 - GNTTAB_NR_RESERVED_ENTRIES
        pages = memory.nr_pages - first_data_frame
        self._first_frame = first_data_frame
        self._used: set[int] = set()
        self._count = min(grefs, pages) // SLAB_PAGES

    def alloc(self, domid: DomId) -> Slab:
        """Grant a slab to `domid`: TX buffers to read, the rest to write as well.

        DeviceFatalError ENOSPC when all are in use.
        """
        for number in range(self._count):
            slab = self._slab(number)
            if number not in self._used and self._end(slab):
                self._used.add(number)
                self._grant(slab, domid)
                return slab
        raise DeviceFatalError(
            errno.ENOSPC, f"all {self._count} queues of this domain are in use"
        )

    def free(self, slab: Slab) -> None:
        """Take a slab back, its pages empty; in-use ones when the backend lets go."""
        self._used.discard(slab.number)
        self._end(slab)

    def _slab(self, number: int) -> Slab:
        first = number * SLAB_PAGES
        return Slab(
            number, GNTTAB_NR_RESERVED_ENTRIES + first, self._first_frame + first
        )

    def _grant(self, slab: Slab, domid: DomId) -> None:
        tx = range(NR_RINGS, NR_RINGS + NET_TX_RING_SIZE)
        for number, gref in enumerate(slab.grefs):
            self.table.grant(
                gref, domid, slab.first_frame + number, readonly=number in tx
            )

    def _end(self, slab: Slab) -> bool:
        """End every grant; True, and the pages zeroed, when none is in use."""
        ended = [self.table.end(gref) for gref in slab.grefs]
        if not all(ended):
            return False
        self._map.madvise(
            mmap.MADV_REMOVE, slab.first_frame * PAGE_SIZE, SLAB_PAGES * PAGE_SIZE
        )
        return True
