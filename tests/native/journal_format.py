"""The journal's file as its format says, written without the code under test."""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.native.journal_shim import Drop, Journal, Note, Perm, Put, Record, Touch

HEAD: Final = struct.Struct("<12sIQ")
RECORD: Final = struct.Struct("<IIQII")
PERM: Final = struct.Struct("<HBB")
SUM: Final = struct.Struct("<Q")
MAGIC: Final = b"xenvirt xs\r\n"
VERSION: Final = 1

SOME: Final[list[Record]] = [
    Put(b"/", 1, (Perm(0),), b""),
    Put(b"/tool/name", 7, (Perm(5, 3), Perm(9, 1, 1)), b"a value\0\xff"),
    Touch(b"/tool", 8),
    Drop(b"/tool/name"),
    Note(3, b"whatever"),
]
"""One of each kind."""

_U64: Final = (1 << 64) - 1


def sum_of(words: bytes, before: int) -> int:
    """The checksum of a record that follows one with the sum `before`."""
    total = before
    for (word,) in SUM.iter_unpack(words):
        total ^= word
        total = (total << 29 | total >> 35) & _U64
        total = total * 0x9E3779B97F4A7C15 & _U64
    return total


def raw_record(
    kind: int, number: int, path_len: int, perms: int, rest: bytes, length: int
) -> bytes:
    """Any record, true or not, without its sum; as long as `rest` makes it."""
    body = RECORD.pack(length, kind, number, path_len, perms) + rest
    return body + bytes(-len(body) % 8)


def record_bytes(record: Record) -> bytes:
    """A record without its sum."""
    match record:
        case Put(path, generation, perms, value):
            rest = b"".join(PERM.pack(*p) for p in perms) + path + value
            fields = (1, generation, len(path), len(perms))
        case Touch(path, generation):
            rest, fields = path, (2, generation, len(path), 0)
        case Drop(path):
            rest, fields = path, (3, 0, len(path), 0)
        case Note(kind, data):
            rest, fields = data, (4, kind, 0, 0)
    return raw_record(*fields, rest, SUM.size + RECORD.size + len(rest))


def file_of(bodies: Iterable[bytes]) -> bytes:
    """A journal of records without sums, all of them committed."""
    total, records = 0, b""
    for body in bodies:
        total = sum_of(body, total)
        records += SUM.pack(total) + body
    end = HEAD.size + len(records)
    return HEAD.pack(MAGIC, VERSION, total >> 40 << 40 | end // 8) + records


def written(path: Path, committed: list[Record]) -> bytes:
    """A new journal with a commit, one that was lost and the file's bytes."""
    with Journal(path) as journal:
        journal.commit(committed)
        journal.append(Note(9, b"never committed"))
    return path.read_bytes()


def tail_of(data: bytes) -> int:
    """Where its last commit ended."""
    tail: int = HEAD.unpack_from(data)[2]
    return tail % (1 << 40) * 8


def read_back(path: Path, data: bytes) -> list[Record]:
    """What a journal with these bytes holds."""
    path.write_bytes(data)
    with Journal(path) as journal:
        return journal.replay()
