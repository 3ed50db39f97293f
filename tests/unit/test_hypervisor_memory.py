import os
from collections.abc import Iterator

import pytest

from xenvirt.abi.ids import DOM0, PAGE_SIZE, DomId
from xenvirt.errors import HypercallError
from xenvirt.hypervisor.memory import FIRST_DATA_GFN, NR_PAGES, Memory
from xenvirt.hypervisor.system import System


@pytest.fixture
def memory() -> Iterator[Memory]:
    made = Memory.create(DomId(1))
    yield made
    made.close()


def test_the_layout_is_table_ring_data(memory: Memory) -> None:
    assert NR_PAGES == 64 + 1 + 32768
    assert os.fstat(memory.fd).st_size == NR_PAGES * PAGE_SIZE
    memory.map[64 * PAGE_SIZE : 64 * PAGE_SIZE + 4] = b"ring"
    with memory.store_page() as page:
        assert (len(page), bytes(page[:4])) == (PAGE_SIZE, b"ring")
    assert len(memory.map) == FIRST_DATA_GFN * PAGE_SIZE


def test_pages_are_committed_when_touched(memory: Memory) -> None:
    assert os.fstat(memory.fd).st_blocks * 512 == PAGE_SIZE


@pytest.mark.parametrize("size", [0, PAGE_SIZE, NR_PAGES * PAGE_SIZE * 2])
def test_r28_nobody_changes_its_size(memory: Memory, size: int) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(memory.fd, size)


def test_gref_1_grants_the_ring_page_to_domain_0(memory: Memory) -> None:
    # flags GTF_permit_access, domid 0, frame 64; gref 0 (console) grants nothing.
    assert memory.map[:16] == bytes(8) + b"\x01\x00\x00\x00\x40\x00\x00\x00"


def test_a_dead_backends_in_use_bits_are_cleared(memory: Memory) -> None:
    entry = 8 * 8
    memory.map[entry : entry + 8] = b"\x19\x00\x02\x00\x41\x00\x00\x00"
    memory.map[entry + 8 : entry + 16] = b"\x19\x00\x03\x00\x42\x00\x00\x00"
    assert memory.release(DomId(2)) == 1
    assert memory.map[entry : entry + 2] == b"\x01\x00"
    assert memory.map[entry + 8 : entry + 10] == b"\x19\x00"


def test_a_domain_that_cannot_be_made_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system = System(now=0.0)
    before = os.listdir("/proc/self/fd")

    def full() -> int:
        raise HypercallError("ENOSPC", "no descriptor left")

    monkeypatch.setattr("xenvirt.hypervisor.evtchn._eventfd", full)
    with pytest.raises(HypercallError, match="no descriptor left"):
        system.create_domain("web", now=1.0)
    assert [domain.domid for domain in system.domains] == [DOM0]
    assert os.listdir("/proc/self/fd") == before
    system.close()
