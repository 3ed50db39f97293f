"""Pages of emulated memory with their grants: handed out once, and empty again."""

import mmap
import os
import struct
from collections.abc import Iterator

import pytest

from xenvirt.abi.gnttab import GRANT_ENTRY_SIZE
from xenvirt.abi.ids import GNTTAB_NR_RESERVED_ENTRIES, PAGE_SIZE, DomId
from xenvirt.errors import HypercallError
from xenvirt.hypervisor.slabs import Slabs
from xenvirt.hypervisor.start_info import DomainMemory
from xenvirt.native.gnttab import GrantTable, PeerGrantTable

NR_GRANT_FRAMES, SLAB, FIRST = 1, 4, 2
NR_PAGES = FIRST + 2 * SLAB
FIRST_GREF = GNTTAB_NR_RESERVED_ENTRIES
PEER = DomId(3)
READONLY = (False, True, True, False)


@pytest.fixture
def memory() -> Iterator[DomainMemory]:
    fd = os.memfd_create("memory", os.MFD_CLOEXEC)
    os.ftruncate(fd, NR_PAGES * PAGE_SIZE)
    made = DomainMemory(fd, NR_PAGES, NR_GRANT_FRAMES)
    yield made
    made.close()


@pytest.fixture
def slabs(memory: DomainMemory) -> Slabs:
    return Slabs(memory, FIRST, SLAB)


def peer(memory: DomainMemory) -> PeerGrantTable:
    mapping = mmap.mmap(memory.fd, NR_PAGES * PAGE_SIZE)
    return PeerGrantTable(mapping, NR_PAGES, NR_GRANT_FRAMES, PEER)


def test_the_other_domain_sees_the_pages(slabs: Slabs, memory: DomainMemory) -> None:
    pages = slabs.grant(PEER, READONLY)
    for gref, frame in zip(pages.grefs, pages.frames, strict=True):
        pages.table.page(frame)[:4] = gref.to_bytes(4, "little")
    table = peer(memory)
    for gref in pages.grefs:
        assert table.map(gref, readonly=True)[:4] == gref.to_bytes(4, "little")
        table.unmap(gref, readonly=True)


def test_there_are_as_many_as_fit(slabs: Slabs) -> None:
    first, second = (slabs.grant(PEER, READONLY) for _ in range(2))
    assert not set(first.frames) & set(second.frames)
    with pytest.raises(HypercallError, match="all 2 queues") as caught:
        slabs.grant(PEER, READONLY)
    assert caught.value.errno_name == "ENOSPC"
    slabs.end(first)
    assert list(slabs.grant(PEER, READONLY).frames) == list(first.frames)


def test_xsa_403_pages_come_back_empty(slabs: Slabs) -> None:
    pages = slabs.grant(PEER, READONLY)
    pages.table.page(pages.frames[0])[:] = b"x" * PAGE_SIZE
    slabs.end(pages)
    again = slabs.grant(PEER, READONLY)
    assert again.table.page(again.frames[0]) == bytes(PAGE_SIZE)


def test_xsa_396_a_page_that_is_still_held_is_not_given_to_another(
    slabs: Slabs, memory: DomainMemory
) -> None:
    held = slabs.grant(PEER, READONLY)
    table = peer(memory)
    table.map(held.grefs[3], readonly=False)
    slabs.end(held)
    other = slabs.grant(PEER, READONLY)
    assert not set(other.frames) & set(held.frames)
    with pytest.raises(HypercallError):
        slabs.grant(PEER, READONLY)
    table.unmap(held.grefs[3], readonly=False)
    assert list(slabs.grant(PEER, READONLY).frames) == list(held.frames)


def test_an_entry_that_changes_behind_its_end_sets_the_slab_aside(
    slabs: Slabs, memory: DomainMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other domain writes entries as well, if only to have us lose pages."""
    whole = GrantTable.grant

    def late(table: GrantTable, gref: int, *args: int, readonly: bool) -> None:
        if gref == FIRST_GREF + 2:
            os.pwrite(memory.fd, b"\x01", gref * GRANT_ENTRY_SIZE)
        whole(table, gref, *args, readonly=readonly)

    monkeypatch.setattr(GrantTable, "grant", late)
    pages = slabs.grant(PEER, READONLY)
    assert pages.grefs[0] == FIRST_GREF + SLAB
    monkeypatch.undo()
    assert slabs.end_rest()
    assert slabs.grant(PEER, READONLY).grefs[0] == FIRST_GREF


def test_a_frame_that_is_not_there(slabs: Slabs) -> None:
    pages = slabs.grant(PEER, READONLY)
    with pytest.raises(IndexError, match="no page"):
        pages.table.page(NR_PAGES)


def test_what_was_held_is_ended_when_it_is_let_go_of(
    slabs: Slabs, memory: DomainMemory
) -> None:
    held = slabs.grant(PEER, READONLY)
    assert slabs.end_rest()
    table = peer(memory)
    table.map(held.grefs[3], readonly=False)
    slabs.end(held)
    assert not slabs.end_rest()
    table.unmap(held.grefs[3], readonly=False)
    assert slabs.end_rest()
    assert not any(granted(memory))


def test_a_new_process_ends_what_a_dead_one_had_granted(
    slabs: Slabs, memory: DomainMemory
) -> None:
    slabs.grant(PEER, READONLY)
    held = slabs.grant(PEER, READONLY)
    table = peer(memory)
    table.map(held.grefs[3], readonly=False)
    new = Slabs(memory, FIRST, SLAB)
    assert not new.end_rest()
    again = new.grant(PEER, READONLY)
    table.unmap(held.grefs[3], readonly=False)
    assert new.end_rest()
    grefs = [gref for gref, flags in enumerate(granted(memory)) if flags]
    assert grefs == list(again.grefs)


def granted(memory: DomainMemory) -> list[int]:
    """The flags of every entry of the table."""
    table = os.pread(memory.fd, NR_GRANT_FRAMES * PAGE_SIZE, 0)
    return [flags for flags, _, _ in struct.iter_unpack("<HHI", table)]
