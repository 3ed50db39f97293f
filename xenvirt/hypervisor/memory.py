"""A domain's memory: one sealed memfd, and the daemon's view of its first pages.

    pfn 0                 grant table, NR_GRANT_FRAMES frames of version 1 entries
    pfn STORE_GFN         the XenStore ring
    pfn FIRST_DATA_GFN …  pages that the frontend hands out

Pages are committed when first touched, so an idle domain costs a few of them.
"""

import fcntl
import mmap
import os
from struct import Struct
from typing import Final, Self

from xenvirt.abi.gnttab import GRANT_ENTRIES_PER_PAGE, GRANT_ENTRY_SIZE, GrantFlags
from xenvirt.abi.ids import (
    DOM0,
    GNTTAB_RESERVED_XENSTORE,
    PAGE_SIZE,
    DomId,
    Gfn,
)
from xenvirt.native.gnttab import gnttab_release

NR_GRANT_FRAMES: Final = 64
"""Xen's default `gnttab_max_frames`: room for 32,768 grefs."""

STORE_GFN: Final = Gfn(NR_GRANT_FRAMES)
FIRST_DATA_GFN: Final = Gfn(STORE_GFN + 1)
NR_DATA_PAGES: Final = 32768
"""As many as there are grefs: more could not be granted at one time."""

NR_PAGES: Final = FIRST_DATA_GFN + NR_DATA_PAGES
NR_GRANT_ENTRIES: Final = NR_GRANT_FRAMES * GRANT_ENTRIES_PER_PAGE
SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL

_GRANT_ENTRY: Final = Struct("<HHI")
"""`struct grant_entry_v1`: flags, domid, frame."""


class Memory:
    """The memory of one domain; owns `fd` until `close`."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        try:
            self.map = mmap.mmap(self.fd, FIRST_DATA_GFN * PAGE_SIZE)
        except BaseException:
            os.close(self.fd)
            raise

    @classmethod
    def create(cls, domid: DomId) -> Self:
        """Return new memory, with the store's ring granted to domain 0; OSError."""
        fd = os.memfd_create(f"xenvirt-{domid}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, NR_PAGES * PAGE_SIZE)
            # Without F_SEAL_SHRINK a peer could take pages away under a reader,
            # which the kernel answers with SIGBUS to the reader.
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        except BaseException:
            os.close(fd)
            raise
        memory = cls(fd)
        memory._grant_store_page()
        return memory

    def store_page(self) -> memoryview:
        """Return the XenStore ring; release it before `close`."""
        offset = STORE_GFN * PAGE_SIZE
        return memoryview(self.map)[offset : offset + PAGE_SIZE]

    def release(self, backend_domid: DomId) -> int:
        """Clear the in-use bits that a dead backend left; return how many entries."""
        return gnttab_release(self.map, NR_GRANT_ENTRIES, backend_domid)

    def close(self) -> None:
        """Close the memfd and unmap it; BufferError while a ring page still uses it."""
        os.close(self.fd)
        self.map.close()

    def _grant_store_page(self) -> None:
        _GRANT_ENTRY.pack_into(
            self.map,
            GNTTAB_RESERVED_XENSTORE * GRANT_ENTRY_SIZE,
            GrantFlags.PERMIT_ACCESS,
            DOM0,
            STORE_GFN,
        )
