"""Grants, in the emulation's tables and by Xen: of pages of our own, and another's."""

from collections.abc import Sequence

from xenvirt.errors import GrantError
from xenvirt.native.extension import check, ffi, lib
from xenvirt.native.shared_memory import WritableBuffer


class OwnPages:
    """Pages of our own that other domains may use, numbered by `frame`."""

    cdata: object

    def page(self, frame: int) -> memoryview:
        """The page, shared with whoever it is granted to; IndexError."""
        page = lib.xv_gnttab_page(self.cdata, frame)
        if page == ffi.NULL:
            raise IndexError(f"no page {frame}")
        return memoryview(ffi.buffer(page, 4096))


class GntallocPages(OwnPages):
    """Pages that Xen granted to one domain, from the start and until `close`."""

    def __init__(self, domid: int, readonly: Sequence[bool]) -> None:
        """One page for each of `readonly`; OSError, ENOSPC when there are no more."""
        out = ffi.new("struct xv_gnttab **")
        grefs = ffi.new("uint32_t[]", len(readonly))
        check(
            lib.xv_gntalloc_create(domid, len(readonly), bytes(readonly), grefs, out),
            "/dev/xen/gntalloc",
        )
        self.cdata = ffi.gc(out[0], lib.xv_gnttab_destroy)
        self.grefs = tuple(grefs)

    def close(self) -> None:
        """End the grants; nobody of ours may touch the pages after it."""
        ffi.release(self.cdata)


class GrantTable(OwnPages):
    """A domain's own grant table, at the start of its memory.

    Keeps `memory` alive. Grefs and frames are the caller's to hand out.
    """

    def __init__(
        self, memory: WritableBuffer, nr_pages: int, nr_grant_frames: int
    ) -> None:
        self._memory = ffi.from_buffer(memory, require_writable=True)
        out = ffi.new("struct xv_gnttab **")
        check(
            lib.xv_gnttab_create(self._memory, nr_pages, nr_grant_frames, out),
            "grant table",
        )
        self.cdata = ffi.gc(out[0], lib.xv_gnttab_destroy)

    def grant(self, gref: int, domid: int, frame: int, *, readonly: bool) -> None:
        """Let `domid` use page `frame`; OSError EINVAL or EBUSY."""
        check(
            lib.xv_gnttab_grant(self.cdata, gref, domid, frame, readonly),
            f"grant {gref} of frame {frame}",
        )

    def end(self, gref: int) -> bool:
        """Take a grant back. False while the other domain still holds the page.

        False too while it keeps changing the entry: the page may be held at any time.
        """
        result: int = lib.xv_gnttab_end(self.cdata, gref)
        if result == -16:  # EBUSY
            return False
        check(result, f"end of grant {gref}")
        return True


def gnttab_release(memory: WritableBuffer, nr_entries: int, domid: int) -> int:
    """Clear the in-use bits that dead `domid` left; how many entries had some."""
    released: int = lib.xv_gnttab_release(
        ffi.from_buffer(memory, require_writable=True), nr_entries, domid
    )
    return released


class PeerTable:
    """Another domain's grants, as we may use them."""

    cdata: object

    def map(self, gref: int, *, readonly: bool) -> memoryview:
        """Hold the page of `gref` until `unmap`; GrantError says why not."""
        page = ffi.new("void **")
        status: int = lib.xv_gnttab_map(self.cdata, gref, readonly, page)
        if status != 0:
            raise GrantError(f"can't map grant ref {gref}", status)
        return memoryview(ffi.buffer(page[0], 4096))

    def unmap(self, gref: int, *, readonly: bool) -> None:
        """Let go of a page that `map` gave with the same arguments."""
        lib.xv_gnttab_unmap(self.cdata, gref, readonly)


class GntdevTable(PeerTable):
    """The grants of domain `domid`, by Xen; OSError without /dev/xen/gntdev."""

    def __init__(self, domid: int) -> None:
        out = ffi.new("struct xv_gnttab_peer **")
        check(lib.xv_gntdev_create(domid, out), "/dev/xen/gntdev")
        self.cdata = ffi.gc(out[0], lib.xv_gnttab_peer_destroy)

    def close(self) -> None:
        """Let go of all that is mapped; no queue may use it."""
        ffi.release(self.cdata)


class PeerGrantTable(PeerTable):
    """Another domain's grant table, as the domain `domid` may use it.

    `copying` has queues copy payload, as they must on Xen, instead of using it where
    it lies.
    """

    def __init__(
        self,
        memory: WritableBuffer,
        nr_pages: int,
        nr_grant_frames: int,
        domid: int,
        *,
        copying: bool = False,
    ) -> None:
        self._memory = ffi.from_buffer(memory, require_writable=True)
        out = ffi.new("struct xv_gnttab_peer **")
        check(
            lib.xv_gnttab_peer_create(
                self._memory, nr_pages, nr_grant_frames, domid, out
            ),
            "grant table of a peer",
        )
        self.cdata = ffi.gc(out[0], lib.xv_gnttab_peer_destroy)
        lib.xv_gnttab_peer_set_copying(self.cdata, copying)
