"""Grants: protocol.md 6.3 (map, unmap) and 6.4 (ending access), version 1 entries."""

import errno
import itertools
import mmap
import os
import subprocess
import time
from pathlib import Path
from struct import Struct
from typing import Final

import pytest

from tests.native.helpers import BACK_DOMID, PAGE
from tests.native.processes import forked, until
from xenvirt.abi.gnttab import GrantStatus
from xenvirt.errors import GrantError
from xenvirt.native.gnttab import GrantTable, PeerGrantTable, gnttab_release

NR_PAGES: Final = 16
NR_GREFS: Final = 512
ENTRY: Final = Struct("<HHI")
PERMIT, READONLY, READING, WRITING = 1, 4, 8, 16
OTHER_DOMID: Final = 4
GREF: Final = 8
FRAME: Final = 5

HERE: Final = Path(__file__).resolve().parent
NATIVE: Final = HERE.parent.parent / "native"
TRIES: Final = 5
"""GNTTAB_TRIES of gnttab.c."""
FOR_EVER: Final = -1
ENDLESS_S: Final = 20
"""Seconds after which a call that takes microseconds counts as an endless loop."""

OKAY = GrantStatus.OKAY
GENERAL_ERROR = GrantStatus.GENERAL_ERROR
BAD_GNTREF = GrantStatus.BAD_GNTREF


class Domain:
    """16 pages, of which the first is the grant table."""

    def __init__(self) -> None:
        self.map = mmap.mmap(-1, NR_PAGES * PAGE)
        self.table = GrantTable(self.map, NR_PAGES, 1)
        self.peer = PeerGrantTable(self.map, NR_PAGES, 1, BACK_DOMID)

    def write(self, flags: int, domid: int, frame: int, gref: int = GREF) -> None:
        ENTRY.pack_into(self.map, 8 * gref, flags, domid, frame)

    def entry(self, gref: int = GREF) -> tuple[int, ...]:
        return ENTRY.unpack_from(self.map, 8 * gref)

    def try_map(self, gref: int, *, readonly: bool) -> int:
        try:
            self.peer.map(gref, readonly=readonly)
        except GrantError as refused:
            return refused.status
        return OKAY


@pytest.fixture
def domain() -> Domain:
    return Domain()


@pytest.mark.parametrize(("readonly", "flags"), [(False, 1), (True, 5)])
def test_a_grant_is_one_entry(domain: Domain, readonly: bool, flags: int) -> None:
    domain.table.grant(GREF, BACK_DOMID, FRAME, readonly=readonly)
    expected = bytes([flags, 0, BACK_DOMID, 0, FRAME, 0, 0, 0])
    assert domain.map[8 * GREF : 8 * GREF + 8] == expected


@pytest.mark.parametrize(
    ("gref", "frame"),
    [(NR_GREFS, FRAME), (0xFFFFFFFF, FRAME), (GREF, NR_PAGES), (GREF, 0xFFFFFFFF)],
)
def test_xsa_18_a_grant_beyond_table_or_memory_is_einval(
    domain: Domain, gref: int, frame: int
) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        domain.table.grant(gref, BACK_DOMID, frame, readonly=False)
    assert domain.map[:PAGE] == bytes(PAGE)


def test_an_entry_is_granted_once(domain: Domain) -> None:
    domain.table.grant(GREF, BACK_DOMID, FRAME, readonly=False)
    with pytest.raises(OSError, match=os.strerror(errno.EBUSY)):
        domain.table.grant(GREF, OTHER_DOMID, FRAME + 1, readonly=False)
    assert domain.entry() == (PERMIT, BACK_DOMID, FRAME)


MAPS: Final = [
    # id, entry's flags, domid, frame, gref to map, readonly, status
    ("rw", PERMIT, BACK_DOMID, FRAME, GREF, False, OKAY),
    ("ro of rw", PERMIT, BACK_DOMID, FRAME, GREF, True, OKAY),
    ("ro of ro", PERMIT | READONLY, BACK_DOMID, FRAME, GREF, True, OKAY),
    ("rw of ro", PERMIT | READONLY, BACK_DOMID, FRAME, GREF, False, GENERAL_ERROR),
    ("last frame", PERMIT, BACK_DOMID, NR_PAGES - 1, GREF, False, OKAY),
    ("the table itself", PERMIT, BACK_DOMID, 0, GREF, False, OKAY),
    ("invalid", 0, BACK_DOMID, FRAME, GREF, True, GENERAL_ERROR),
    ("other domain", PERMIT, OTHER_DOMID, FRAME, GREF, True, GENERAL_ERROR),
    ("domain 0", PERMIT, 0, FRAME, GREF, True, GENERAL_ERROR),
    ("other entry", PERMIT, BACK_DOMID, FRAME, GREF + 1, True, GENERAL_ERROR),
    ("gref = entries", PERMIT, BACK_DOMID, FRAME, NR_GREFS, True, BAD_GNTREF),
    ("gref = 2^32-1", PERMIT, BACK_DOMID, FRAME, 0xFFFFFFFF, True, BAD_GNTREF),
    ("frame = pages", PERMIT, BACK_DOMID, NR_PAGES, GREF, True, BAD_GNTREF),
    ("frame = 2^32-1", PERMIT, BACK_DOMID, 0xFFFFFFFF, GREF, False, BAD_GNTREF),
]


@pytest.mark.parametrize(
    ("flags", "domid", "frame", "gref", "readonly", "status"),
    [row[1:] for row in MAPS],
    ids=[row[0] for row in MAPS],
)
def test_xsa_316_a_map_is_checked_and_its_status_never_positive(
    domain: Domain,
    flags: int,
    domid: int,
    frame: int,
    gref: int,
    readonly: bool,
    status: GrantStatus,
) -> None:
    domain.write(flags, domid, frame)
    assert domain.try_map(gref, readonly=readonly) == status
    in_use = 0 if status != OKAY else READING if readonly else READING | WRITING
    assert domain.entry() == (flags | in_use, domid, frame)


@pytest.mark.parametrize("readonly", [True, False])
def test_xsa_226_411_a_transitive_grant_is_refused(
    domain: Domain, readonly: bool
) -> None:
    domain.write(3, BACK_DOMID, FRAME)
    assert domain.try_map(GREF, readonly=readonly) == GENERAL_ERROR


@pytest.mark.parametrize("readonly", [True, False])
def test_xsa_284_287_a_page_to_be_transferred_is_not_mapped(
    domain: Domain, readonly: bool
) -> None:
    domain.write(2, BACK_DOMID, FRAME)
    assert domain.try_map(GREF, readonly=readonly) == GENERAL_ERROR


@pytest.mark.parametrize(
    ("flags", "domid", "frame", "status"),
    [
        (PERMIT, OTHER_DOMID, FRAME, GENERAL_ERROR),
        (PERMIT | READONLY, BACK_DOMID, FRAME, GENERAL_ERROR),
        (PERMIT, BACK_DOMID, NR_PAGES, BAD_GNTREF),
        (0, BACK_DOMID, FRAME, GENERAL_ERROR),
    ],
    ids=["domid", "readonly", "frame", "flags"],
)
def test_xsa_500_an_entry_that_changed_while_it_is_held_is_checked_anew(
    domain: Domain, flags: int, domid: int, frame: int, status: GrantStatus
) -> None:
    domain.write(PERMIT, BACK_DOMID, FRAME)
    assert domain.try_map(GREF, readonly=False) == OKAY
    domain.write(flags | READING | WRITING, domid, frame)
    assert domain.try_map(GREF, readonly=False) == status
    domain.peer.unmap(GREF, readonly=False)
    assert domain.entry() == (flags, domid, frame)


def test_xsa_380_every_grant_of_a_dead_backend_is_released_at_once() -> None:
    frames, entries = 64, 64 * 512
    table = mmap.mmap(-1, frames * PAGE)
    table[:] = ENTRY.pack(PERMIT | READING | WRITING, BACK_DOMID, 5) * entries
    begin = time.monotonic()
    assert gnttab_release(table, entries, BACK_DOMID) == entries
    assert time.monotonic() - begin < 1


def test_a_mapped_page_is_the_granters(domain: Domain) -> None:
    domain.map[FRAME * PAGE : FRAME * PAGE + 5] = b"hello"
    domain.table.grant(GREF, BACK_DOMID, FRAME, readonly=False)
    page = domain.peer.map(GREF, readonly=False)
    page[:5] = page[:5].tobytes().upper()
    assert domain.map[FRAME * PAGE : FRAME * PAGE + 5] == b"HELLO"
    assert len(page) == PAGE


HOLDERS: Final = sorted(set(itertools.permutations("rrww")))


@pytest.mark.parametrize("order", HOLDERS, ids="".join)
def test_xsa_222_224_394_in_use_bits_last_until_the_last_holder_goes(
    domain: Domain, order: tuple[str, ...]
) -> None:
    domain.table.grant(GREF, BACK_DOMID, FRAME, readonly=False)
    for kind in "rwrw":
        domain.peer.map(GREF, readonly=kind == "r")
    holders = list("rwrw")
    for kind in order:
        domain.peer.unmap(GREF, readonly=kind == "r")
        holders.remove(kind)
        writing = WRITING if "w" in holders else 0
        reading = READING if holders else 0
        assert domain.entry()[0] == PERMIT | reading | writing


def test_a_refused_map_leaves_other_holders_bits(domain: Domain) -> None:
    domain.write(PERMIT, BACK_DOMID, FRAME)
    domain.peer.map(GREF, readonly=True)
    domain.write(PERMIT | READING, BACK_DOMID, NR_PAGES)
    assert domain.try_map(GREF, readonly=False) == BAD_GNTREF
    assert domain.entry()[0] == PERMIT | READING


@pytest.mark.parametrize("readonly", [True, False])
def test_a_grant_ends_only_when_nobody_holds_it(domain: Domain, readonly: bool) -> None:
    domain.table.grant(GREF, BACK_DOMID, FRAME, readonly=False)
    domain.peer.map(GREF, readonly=readonly)
    held = domain.entry()
    assert domain.table.end(GREF) is False
    assert domain.entry() == held
    domain.peer.unmap(GREF, readonly=readonly)
    assert domain.table.end(GREF) is True
    assert domain.entry()[:2] == (0, 0)
    assert domain.try_map(GREF, readonly=True) == GENERAL_ERROR


def test_an_ended_entry_can_be_granted_again(domain: Domain) -> None:
    domain.table.grant(GREF, BACK_DOMID, FRAME, readonly=False)
    domain.table.end(GREF)
    domain.table.grant(GREF, OTHER_DOMID, FRAME + 1, readonly=True)
    assert domain.entry() == (PERMIT | READONLY, OTHER_DOMID, FRAME + 1)


def test_ending_what_was_never_granted_is_no_error(domain: Domain) -> None:
    assert domain.table.end(GREF) is True


def test_xsa_18_ending_beyond_the_table_is_einval(domain: Domain) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        domain.table.end(NR_GREFS)


def test_a_dead_domains_in_use_bits_are_cleared_and_no_others(domain: Domain) -> None:
    both = PERMIT | READING | WRITING
    domain.write(both, BACK_DOMID, 5, gref=8)
    domain.write(PERMIT | READONLY | READING, BACK_DOMID, 6, gref=9)
    domain.write(PERMIT, BACK_DOMID, 7, gref=10)
    domain.write(both, OTHER_DOMID, 8, gref=11)
    domain.write(both, BACK_DOMID, 9, gref=NR_GREFS - 1)
    assert gnttab_release(domain.map, NR_GREFS, BACK_DOMID) == 3
    assert domain.entry(8) == (PERMIT, BACK_DOMID, 5)
    assert domain.entry(9) == (PERMIT | READONLY, BACK_DOMID, 6)
    assert domain.entry(10) == (PERMIT, BACK_DOMID, 7)
    assert domain.entry(11) == (both, OTHER_DOMID, 8)
    assert domain.entry(NR_GREFS - 1) == (PERMIT, BACK_DOMID, 9)
    assert gnttab_release(domain.map, NR_GREFS, BACK_DOMID) == 0


def test_xsa_295_a_granter_that_toggles_its_entry_gets_errors_not_a_loop(
    domain: Domain,
) -> None:
    def toggle() -> None:
        for flags in itertools.cycle((PERMIT, 0, PERMIT | READONLY, PERMIT)):
            domain.map[8 * GREF] = flags

    domain.write(PERMIT, BACK_DOMID, FRAME)
    seen: set[int] = set()
    with forked(toggle):
        for _ in until(lambda: len(seen) == 2, at_least=20_000):
            status = domain.try_map(GREF, readonly=False)
            seen.add(status)
            if status == OKAY:
                domain.peer.unmap(GREF, readonly=False)
    assert seen == {OKAY, GENERAL_ERROR}


@pytest.fixture(scope="module")
def toggler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """gnttab_toggler.c, compiled."""
    program = tmp_path_factory.mktemp("toggler") / "gnttab_toggler"
    sources = [HERE / "gnttab_toggler.c", NATIVE / "gntalloc.c", NATIVE / "gntdev.c"]
    flags = ["-std=gnu11", "-O2", f"-I{NATIVE}"]
    subprocess.run(["gcc", *flags, "-o", program, *sources], check=True)
    return program


@pytest.mark.parametrize(
    ("call", "times", "status", "flags", "toggled"),
    [
        ("end", TRIES - 1, 0, 0, TRIES - 1),
        ("end", TRIES, -errno.EBUSY, PERMIT, TRIES),
        ("end", FOR_EVER, -errno.EBUSY, PERMIT, TRIES),
        ("map", TRIES - 1, OKAY, PERMIT | READING | WRITING, TRIES - 1),
        ("map", TRIES, GENERAL_ERROR, PERMIT, TRIES),
        ("map", FOR_EVER, GENERAL_ERROR, PERMIT, TRIES),
    ],
)
def test_xsa_295_an_entry_that_changes_at_each_look_is_left_as_it_was(
    toggler: Path, call: str, times: int, status: int, flags: int, toggled: int
) -> None:
    done = subprocess.run(
        [toggler, call, str(times)],
        check=True,
        capture_output=True,
        text=True,
        timeout=ENDLESS_S,
    )
    assert [*map(int, done.stdout.split())] == [status, flags, toggled]


def test_neither_side_loses_what_the_other_writes_into_an_entry(
    domain: Domain,
) -> None:
    """The granter flips bits that mean nothing while in-use bits come and go."""
    lost = FRAME * PAGE

    def toggle() -> None:
        upper = 8 * GREF + 1
        for value in itertools.cycle((0x80, 0x40, 0)):
            domain.map[upper] = value
            if domain.map[upper] != value:
                domain.map[lost] = 1

    domain.write(PERMIT, BACK_DOMID, FRAME + 1)
    mapped = 0
    with forked(toggle):
        for _ in range(200_000):
            if domain.try_map(GREF, readonly=False) == OKAY:
                mapped += 1
                assert domain.map[8 * GREF] == PERMIT | READING | WRITING
                domain.peer.unmap(GREF, readonly=False)
            assert domain.map[8 * GREF] == PERMIT
    assert mapped > 0
    assert domain.map[lost] == 0
