"""Journals that were cut, damaged or written by somebody hostile."""

import errno
import random
from itertools import accumulate
from pathlib import Path
from typing import Final

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.native.journal_format import (
    HEAD,
    MAGIC,
    RECORD,
    SOME,
    SUM,
    VERSION,
    file_of,
    raw_record,
    read_back,
    record_bytes,
    tail_of,
    written,
)
from tests.native.journal_shim import Drop, Journal, JournalError, Perm, Put, Record

U64: Final = (1 << 64) - 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def refused(path: Path, data: bytes) -> JournalError:
    path.write_bytes(data)
    with pytest.raises(JournalError) as caught:
        Journal(path).close()
    assert caught.value.errno == errno.EILSEQ
    assert path.read_bytes() == data
    return caught.value


def records_unless_refused(path: Path, data: bytes) -> list[Record] | None:
    """None if it was refused for what is in it, and for nothing else."""
    path.write_bytes(data)
    try:
        with Journal(path) as journal:
            return journal.replay()
    except JournalError as error:
        if error.errno != errno.EILSEQ or not error.what:
            raise
        return None


def test_a_file_may_be_cut_anywhere_behind_its_tail(path: Path) -> None:
    data = written(path, SOME)
    tail = tail_of(data)
    for length in (*range(tail, tail + 64), 4095, 4096, 4097, len(data) - 1):
        path.write_bytes(data[:length])
        with Journal(path) as journal:
            assert journal.replay() == SOME
            journal.commit([Drop(b"/%d" % length)])
        with Journal(path) as journal:
            assert journal.replay() == [*SOME, Drop(b"/%d" % length)]


def test_a_file_that_ends_before_its_tail_is_refused(path: Path) -> None:
    data = written(path, SOME)
    for length in range(1, tail_of(data)):
        error = refused(path, data[:length])
        expected = "length of the file" if length < HEAD.size else "tail"
        assert error.what == expected


def test_an_empty_file_is_a_new_journal(path: Path) -> None:
    path.touch()
    with Journal(path) as journal:
        assert journal.empty()
        journal.commit(SOME)
    assert read_back(path, path.read_bytes()) == SOME


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_a_changed_byte_is_found_and_its_record_told(path: Path, mask: int) -> None:
    data = written(path, SOME)[:1024]
    sizes = (SUM.size + len(record_bytes(record)) for record in SOME)
    starts = list(accumulate(sizes, initial=HEAD.size))
    assert starts[-1] == tail_of(data)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= mask
        if place >= starts[-1]:
            assert read_back(path, bytes(changed)) == SOME
            continue
        error = refused(path, bytes(changed))
        if place >= HEAD.size:
            assert error.at == max(start for start in starts if start <= place)
        elif place < HEAD.size - 8:
            assert error.at == place // len(MAGIC) * len(MAGIC)


def test_bytes_changed_at_random_never_give_a_false_record(path: Path) -> None:
    rng = random.Random(3)
    data = written(path, SOME)[:1024]
    for _ in range(3000):
        changed = bytearray(data)
        for _ in range(rng.randrange(1, 9)):
            changed[rng.randrange(len(data))] = rng.choice((0, 255, rng.randrange(256)))
        assert records_unless_refused(path, bytes(changed)) in (None, SOME)


def test_records_of_another_place_are_refused(path: Path) -> None:
    first, second, third = (record_bytes(record) for record in SOME[:3])
    good = file_of([first, second, third])
    sums = [good.index(body) - SUM.size for body in (first, second, third)]
    swapped = good[: sums[1]] + good[sums[2] :] + good[sums[1] : sums[2]]
    assert refused(path, swapped).at == sums[1]


@pytest.mark.parametrize(
    ("head", "what", "at"),
    [
        (HEAD.pack(b"xenvirt xs\n\n", VERSION, 3), "no journal", 0),
        (HEAD.pack(MAGIC, VERSION + 1, 3), "version", 12),
        (HEAD.pack(MAGIC, VERSION, 0), "tail", 16),
        (HEAD.pack(MAGIC, VERSION, 2), "tail", 16),
        (HEAD.pack(MAGIC, VERSION, (1 << 40) - 1), "tail", 16),
        (HEAD.pack(MAGIC, VERSION, 1 << 40 | 3), "tail", 16),
        (HEAD.pack(MAGIC, VERSION, 4) + bytes(99), "length of a record", 24),
        (HEAD.pack(MAGIC, VERSION, 9) + bytes(99), "length of a record", 24),
    ],
)
def test_a_head_that_cannot_be(path: Path, head: bytes, what: str, at: int) -> None:
    error = refused(path, head)
    assert (error.what, error.at) == (what, at)


def body(
    kind: int = 1, path_len: int = 4, perms: int = 1, rest: bytes = b"", over: int = 0
) -> bytes:
    """A record that is true to its sum; by default one that puts `/abc`."""
    rest = rest or b"\5\0\0\0/abcvalue"
    length = SUM.size + RECORD.size + len(rest) + over
    return raw_record(kind, 1, path_len, perms, rest, length)


@pytest.mark.parametrize(
    ("record", "what"),
    [
        (body(kind=0), "kind of a record"),
        (body(kind=5), "kind of a record"),
        (body(path_len=10), "lengths within a record"),
        (body(path_len=0xFFFFFFFF), "lengths within a record"),
        (body(perms=4), "lengths within a record"),
        (body(perms=0x40000000), "lengths within a record"),
        (body(perms=0x3FFFFFFF, path_len=0xFFFFFFFF), "lengths within a record"),
        (body(rest=b"\5\0\4\0/abc"), "permission in a record"),
        (body(rest=b"\5\0\0\2/abc"), "permission in a record"),
        (body(over=8), "length of a record"),
        (body(over=0xFFFFFFFF - 45), "length of a record"),
        (body(over=-14), "length of a record"),
    ],
)
def test_a_hostile_file_with_right_sums_is_refused(
    path: Path, record: bytes, what: str
) -> None:
    good = body()
    assert read_back(path, file_of([good])) == [Put(b"/abc", 1, (Perm(5),), b"value")]
    error = refused(path, file_of([good, record]))
    assert (error.what, error.at) == (what, HEAD.size + SUM.size + len(good))


@given(
    fields=st.lists(
        st.tuples(
            st.integers(0, 5),
            st.integers(0, U64),
            st.integers(0, 80) | st.integers(0, (1 << 32) - 1),
            st.integers(0, 12) | st.integers(0, (1 << 32) - 1),
            st.binary(max_size=80),
        ),
        max_size=5,
    )
)
def test_any_record_with_a_right_sum_is_read_within_its_bounds(
    tmp_path_factory: pytest.TempPathFactory,
    fields: list[tuple[int, int, int, int, bytes]],
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"
    bodies = [
        raw_record(*record, SUM.size + RECORD.size + len(record[-1]))
        for record in fields
    ]
    found = records_unless_refused(path, file_of(bodies))
    for record, (*_, rest) in zip(found or (), fields, strict=found is not None):
        contents = [field for field in record if isinstance(field, bytes)]
        assert all(content in rest for content in contents)
    path.unlink()
