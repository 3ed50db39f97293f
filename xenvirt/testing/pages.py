"""Pages to grant: what a frontend needs for rings, frames and buffers."""

import mmap
from typing import NamedTuple, Protocol

from xenvirt.abi.gnttab import GRANT_ENTRIES_PER_PAGE, GRANT_ENTRY_SIZE
from xenvirt.abi.ids import GNTTAB_NR_RESERVED_ENTRIES, PAGE_SIZE, DomId, Gfn
from xenvirt.errors import LocalError
from xenvirt.hypervisor.start_info import DomainMemory
from xenvirt.native.gnttab import GrantTable


class Page(NamedTuple):
    """A page that was granted: its bytes are shared with whoever maps it."""

    gref: int
    frame: int
    data: memoryview


class Pages(Protocol):
    """Where pages come from; `table` has their grants."""

    table: GrantTable

    def share(self, *, readonly: bool = False) -> Page:
        """Grant a page that nobody used yet; LocalError when there are no more."""

    def entry(self, gref: int) -> memoryview:
        """Return a grant's entry, 8 bytes (flags, domid, frame), to read or change."""


class DomainPages:
    """A domain's data pages, granted one after the other; none is used twice.

    `memory` stays the caller's; `peer` is who may map the pages. They go with the
    domain.
    """

    def __init__(self, memory: DomainMemory, first_frame: Gfn, peer: DomId) -> None:
        self.memory = mmap.mmap(memory.fd, memory.nr_pages * PAGE_SIZE)
        self.table = GrantTable(self.memory, memory.nr_pages, memory.nr_grant_frames)
        self._peer = peer
        self._frames = iter(range(first_frame, memory.nr_pages))
        entries = memory.nr_grant_frames * GRANT_ENTRIES_PER_PAGE
        self._grefs = iter(range(GNTTAB_NR_RESERVED_ENTRIES, entries))

    def share(self, *, readonly: bool = False, domid: DomId | None = None) -> Page:
        """See `Pages`; to `domid` if it is not to be the peer."""
        try:
            gref, frame = next(self._grefs), next(self._frames)
        except StopIteration:
            raise LocalError("every page of this domain is granted") from None
        self.table.grant(
            gref, self._peer if domid is None else domid, frame, readonly=readonly
        )
        return Page(gref, frame, self.table.page(frame))

    def end(self, page: Page) -> bool:
        """Take a grant back; False while the peer holds the page."""
        return self.table.end(page.gref)

    def entry(self, gref: int) -> memoryview:
        """See `Pages`."""
        at = gref * GRANT_ENTRY_SIZE
        return memoryview(self.memory)[at : at + GRANT_ENTRY_SIZE]
