"""native/xenstore/journal.h: what is written is read again, and nothing else."""

import errno
import os
import resource
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.native.journal_format import (
    HEAD,
    SOME,
    file_of,
    read_back,
    record_bytes,
    tail_of,
    written,
)
from tests.native.journal_shim import (
    Drop,
    Journal,
    JournalError,
    Note,
    Perm,
    Put,
    Record,
    Touch,
)

U64: Final = (1 << 64) - 1
MIB: Final = 1 << 20

paths = st.binary(max_size=70)
perms = st.builds(Perm, st.integers(0, 65535), st.integers(0, 3), st.integers(0, 1))
records = st.one_of(
    st.builds(
        Put,
        paths,
        st.integers(0, U64),
        st.lists(perms, max_size=5).map(tuple),
        st.binary(max_size=300),
    ),
    st.builds(Touch, paths, st.integers(0, U64)),
    st.builds(Drop, paths),
    st.builds(Note, st.integers(0, (1 << 32) - 1), st.binary(max_size=100)),
)
commits = st.lists(st.lists(records, max_size=6), max_size=6)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


# ---- what it is for ----


@given(commits=commits, lost=st.lists(records, max_size=4))
def test_commits_come_back_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory,
    commits: list[list[Record]],
    lost: list[Record],
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"
    expected = [record for commit in commits for record in commit]
    with Journal(path) as journal:
        assert journal.empty()
        for commit in commits:
            journal.commit(commit)
        for record in lost:
            journal.append(record)
        assert journal.replay() == expected
    for _ in range(2):
        with Journal(path) as journal:
            assert journal.replay() == expected
            assert journal.empty() == (expected == [])
            assert journal.size() == tail_of(path.read_bytes()) - HEAD.size
    with Journal(path) as journal:
        journal.commit(lost)
        assert journal.replay() == expected + lost
    path.unlink()


@given(records=st.lists(records, max_size=8))
def test_the_file_is_as_the_format_says(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"
    expected = file_of(record_bytes(record) for record in records)
    written(path, [])
    data = written(path, records)
    assert data[: len(expected)] == expected
    assert read_back(path, expected) == records
    path.unlink()


def test_room_is_enough_and_not_much_more(path: Path) -> None:
    with Journal(path) as journal:
        for record in SOME:
            before = journal.size()
            journal.commit([record])
            needed = journal.size() - before
            assert needed <= journal.room(record) < needed + 8


def test_an_error_of_the_sink_ends_the_replay(path: Path) -> None:
    with Journal(path) as journal:
        journal.commit(SOME)
        with pytest.raises(PermissionError):
            journal.replay(stop_at=SOME[2])
        assert journal.replay() == SOME


def test_a_journal_grows_without_holes(path: Path) -> None:
    big = [Put(b"/%d" % n, n, (Perm(0),), bytes([n]) * MIB) for n in range(30)]
    with Journal(path) as journal:
        for record in big:
            journal.commit([record])
        assert journal.replay() == big
    status = path.stat()
    assert status.st_blocks * 512 >= status.st_size > 30 * MIB
    with Journal(path) as journal:
        assert journal.replay() == big


# ---- no space ----


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_without_space_nothing_has_changed(path: Path) -> None:
    with Journal(path) as journal:
        journal.commit(SOME)
        with file_size_limit(600 * 1024):
            with pytest.raises(OSError, match="No space"):
                journal.commit([Note(1, bytes(700 * 1024))])
            assert journal.replay() == SOME
            # Less than the next step of growth, which it tries first.
            journal.commit([Note(2, bytes(550 * 1024))])
        journal.commit([Note(3, bytes(700 * 1024))])
        kinds = [record.kind for record in journal.replay() if type(record) is Note]
        assert kinds == [3, 2, 3]


def test_more_than_any_file_can_hold_is_no_space(path: Path) -> None:
    with Journal(path) as journal, file_size_limit(MIB):
        for size in (1 << 43, (1 << 64) - 1, (1 << 64) - 24):
            with pytest.raises(OSError, match="No space"):
                journal.reserve(size)
        journal.commit(SOME)
        assert journal.replay() == SOME


def test_a_record_that_was_lost_holds_back_all_that_follows(path: Path) -> None:
    with Journal(path) as journal:
        journal.commit(SOME)
        journal.append(SOME[3])
        with file_size_limit(300 * 1024):
            journal.append(Note(1, bytes(500 * 1024)))
        journal.append(Drop(b"/tool"))
        journal.commit_appended()
        with pytest.raises(OSError, match="No space"):
            journal.reserve(1)
        assert journal.replay() == SOME
        fresh = journal.rewrite()
        fresh.commit([SOME[0]])
        journal.replace(fresh)
        journal.commit([SOME[2]])
    assert read_back(path, path.read_bytes()) == [SOME[0], SOME[2]]


def test_a_shorter_journal_without_a_record_takes_no_place(path: Path) -> None:
    with Journal(path) as journal:
        journal.commit(SOME)
        fresh = journal.rewrite()
        with file_size_limit(300 * 1024):
            fresh.append(Note(1, bytes(500 * 1024)))
        with pytest.raises(OSError, match="No space"):
            journal.replace(fresh)
        journal.commit([SOME[0]])
        assert os.listdir(path.parent) == [path.name]
    assert read_back(path, path.read_bytes()) == [*SOME, SOME[0]]


# ---- its name and its lock ----


def test_nobody_else_can_have_it(path: Path) -> None:
    with Journal(path) as journal:
        journal.commit(SOME)
        with pytest.raises(JournalError) as caught:
            Journal(path)
        assert caught.value.errno == errno.EBUSY
        journal.replace(journal.rewrite())
        with pytest.raises(JournalError) as caught:
            Journal(path)
        assert caught.value.errno == errno.EBUSY
    Journal(path).close()


def test_only_its_owner_may_read_it(path: Path) -> None:
    old = os.umask(0)
    try:
        with Journal(path) as journal:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            journal.replace(journal.rewrite())
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(old)


def test_no_other_kind_of_file(path: Path) -> None:
    target = path.with_name("target")
    target.write_bytes(file_of([]))
    path.symlink_to(target)
    with pytest.raises(JournalError) as caught:
        Journal(path)
    assert caught.value.errno == errno.ELOOP
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(JournalError, match="no regular file"):
        Journal(path)
    with pytest.raises(JournalError) as caught:
        Journal(path.parent)
    assert caught.value.errno == errno.EISDIR
    with pytest.raises(JournalError) as caught:
        Journal(path / "below")
    assert caught.value.errno == errno.ENOTDIR


def test_a_name_without_a_directory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    with Journal(path.name) as journal:
        monkeypatch.chdir("/")
        journal.commit(SOME)
        journal.replace(journal.rewrite())
        journal.commit(SOME[:2])
    assert read_back(path, path.read_bytes()) == SOME[:2]


def test_a_shorter_journal_takes_its_place(path: Path) -> None:
    with Journal(path) as journal:
        journal.commit(SOME * 100)
        fresh = journal.rewrite()
        for record in SOME[:3]:
            fresh.reserve(fresh.room(record))
            fresh.append(record)
        assert not os.path.samefile(path, f"{path}.xenvirt-new")
        journal.replace(fresh)
        assert journal.replay() == SOME[:3]
        journal.commit(SOME[3:])
        assert os.listdir(path.parent) == [path.name]
    assert read_back(path, path.read_bytes()) == SOME


def test_a_shorter_journal_can_be_given_up(path: Path) -> None:
    with Journal(path) as journal:
        journal.commit(SOME)
        fresh = journal.rewrite()
        fresh.commit([SOME[0]])
        fresh.abandon()
        journal.commit([SOME[0]])
        assert os.listdir(path.parent) == [path.name]
    assert read_back(path, path.read_bytes()) == [*SOME, SOME[0]]


def test_what_a_killed_rewrite_left_goes_with_the_next_opening(path: Path) -> None:
    stale = Path(f"{path}.xenvirt-new")
    stale.write_bytes(file_of([record_bytes(SOME[0])]))
    with Journal(path) as journal:
        assert journal.empty()
        assert not stale.exists()
        # And one that appears while it is open is in nobody's way.
        stale.write_text("something")
        journal.replace(journal.rewrite())
        assert not stale.exists()


def test_it_goes_on_without_its_directory(path: Path) -> None:
    with Journal(path) as journal:
        journal.commit(SOME)
        fresh = journal.rewrite()
        fresh.commit(SOME[:1])
        shutil.rmtree(path.parent)
        journal.replace(fresh)
        journal.commit([Note(1, bytes(MIB))])
        journal.replace(journal.rewrite())
        journal.commit(SOME)
        assert journal.replay() == SOME
        path.parent.mkdir()
        journal.replace(journal.rewrite())
        assert list(path.parent.iterdir()) == []


def test_it_leaves_a_file_alone_that_has_got_its_name(path: Path) -> None:
    with Journal(path) as journal:
        journal.commit(SOME)
        fresh = journal.rewrite()
        path.unlink()
        with Journal(path) as other:
            other.commit(SOME[:1])
            others = other.rewrite()
            journal.replace(fresh)
            journal.commit(SOME[:2])
            assert journal.replay() == SOME[:2]
            others.commit(SOME[:3])
            other.replace(others)
        assert read_back(path, path.read_bytes()) == SOME[:3]


def test_it_follows_its_directory(path: Path) -> None:
    moved = path.parent.with_name(f"{path.parent.name}-moved")
    with Journal(path) as journal:
        path.parent.rename(moved)
        fresh = journal.rewrite()
        fresh.commit(SOME)
        journal.replace(fresh)
    assert read_back(moved / path.name, (moved / path.name).read_bytes()) == SOME
