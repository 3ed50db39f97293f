"""Pages of a domain's emulated memory with their grants, handed out in slabs.

A slab is handed out again only when every one of its grants has ended: a page that
another domain still holds is kept from use rather than given to a third. Grants that
could not be ended, a dead process's among them, are ended later (`end_rest`).
"""

import errno
import mmap
import os
from collections.abc import Sequence
from typing import cast

from xenvirt.abi.gnttab import GRANT_ENTRY_SIZE
from xenvirt.abi.ids import GNTTAB_NR_RESERVED_ENTRIES, PAGE_SIZE, DomId, Gref
from xenvirt.errors import HypercallError
from xenvirt.hypervisor.interface import GrantedPages
from xenvirt.hypervisor.start_info import DomainMemory
from xenvirt.native.gnttab import GrantTable


class Slabs:
    """The domain's memory from a frame on, cut into slabs of `slab_pages` pages.

    `memory` stays the caller's.
    """

    def __init__(self, memory: DomainMemory, first_frame: int, slab_pages: int) -> None:
        self._map = mmap.mmap(memory.fd, memory.nr_pages * PAGE_SIZE)
        self._table = GrantTable(self._map, memory.nr_pages, memory.nr_grant_frames)
        self._slab_pages = slab_pages
        grefs = memory.nr_grant_frames * 512 - GNTTAB_NR_RESERVED_ENTRIES
        pages = memory.nr_pages - first_frame
        self._first_frame = first_frame
        self._used: set[int] = set()
        self._count = min(grefs, pages) // slab_pages
        # Read and not mapped, which would give each empty page of the table memory.
        table = os.pread(memory.fd, memory.nr_grant_frames * PAGE_SIZE, 0)
        self._rest = {n for n in range(self._count) if any(self._entries(table, n))}

    def grant(self, domid: DomId, readonly: Sequence[bool]) -> GrantedPages:
        """Grant a slab's pages to `domid`, one for each of `readonly`.

        HypercallError ENOSPC when all slabs are in use.
        """
        for number in range(self._count):
            if number in self._used or not self._end(pages := self._pages(number)):
                continue
            if (granted := self._grant(pages, domid, readonly)) is not None:
                self._used.add(number)
                return granted
            self._rest.add(number)
        raise HypercallError(
            "ENOSPC", f"all {self._count} queues of this domain are in use"
        )

    def end(self, pages: GrantedPages) -> None:
        """Take a slab back, its pages empty; in-use ones when the other lets go."""
        self._used.discard(self._number(pages))
        self._end(self._pages(self._number(pages)))

    def end_rest(self) -> bool:
        """End what could not be ended before; return whether all of that is."""
        for number in self._rest - self._used:
            self._end(self._pages(number))
        return not self._rest - self._used

    def _entries(self, table: bytes, number: int) -> bytes:
        size = self._slab_pages * GRANT_ENTRY_SIZE
        start = GNTTAB_NR_RESERVED_ENTRIES * GRANT_ENTRY_SIZE + number * size
        return table[start : start + size]

    def _number(self, pages: GrantedPages) -> int:
        return (pages.frames[0] - self._first_frame) // self._slab_pages

    def _pages(self, number: int) -> GrantedPages:
        first = number * self._slab_pages
        gref, frame = GNTTAB_NR_RESERVED_ENTRIES + first, self._first_frame + first
        return GrantedPages(
            self._table,
            cast("Sequence[Gref]", range(gref, gref + self._slab_pages)),
            range(frame, frame + self._slab_pages),
        )

    def _grant(
        self, pages: GrantedPages, domid: DomId, readonly: Sequence[bool]
    ) -> GrantedPages | None:
        """Write the entries; None if another domain wrote to one since its end."""
        count = len(readonly)
        granted = GrantedPages(self._table, pages.grefs[:count], pages.frames[:count])
        try:
            for gref, frame, only in zip(
                granted.grefs, granted.frames, readonly, strict=True
            ):
                self._table.grant(gref, domid, frame, readonly=only)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return None
        return granted

    def _end(self, pages: GrantedPages) -> bool:
        """End every grant; True, and the pages zeroed, when none is in use."""
        ended = [self._table.end(gref) for gref in pages.grefs]
        if not all(ended):
            self._rest.add(self._number(pages))
            return False
        self._rest.discard(self._number(pages))
        self._map.madvise(
            mmap.MADV_REMOVE,
            pages.frames[0] * PAGE_SIZE,
            self._slab_pages * PAGE_SIZE,
        )
        return True
