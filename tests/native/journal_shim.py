"""native/xenstore's journal and permission lists, compiled on their own."""

import errno
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from cffi import FFI

HERE: Final = Path(__file__).resolve().parent
NATIVE: Final = HERE.parent.parent / "native"
HEADERS: Final = ("perms.h", "journal.h")
SOURCES: Final = ("perms.c", "journal.c", "journal_file.c")


class Perm(NamedTuple):
    """`struct xs_perm`."""

    domid: int
    access: int = 0
    ignored: int = 0


class Put(NamedTuple):
    """The node has this content now."""

    path: bytes
    generation: int
    perms: Sequence[Perm]
    value: bytes


class Touch(NamedTuple):
    """The node's generation is this now."""

    path: bytes
    generation: int


class Drop(NamedTuple):
    """The node is gone."""

    path: bytes


class Note(NamedTuple):
    """Whatever its owner wrote."""

    kind: int
    data: bytes


Record = Put | Touch | Drop | Note


class JournalError(OSError):
    """Opening failed; `at` and `what` are the damage's if it is EILSEQ."""

    def __init__(self, code: int, at: int, what: str) -> None:
        super().__init__(code, f"{os.strerror(code)}: {what} at {at}")
        self.at = at
        self.what = what


class Journal:
    """An open journal; a context manager that closes it."""

    def __init__(self, path: Path | str) -> None:
        self.ffi, self.lib = compiled()
        self._out = self.ffi.new("struct xs_journal **")
        damage = self.ffi.new("struct xs_journal_damage *")
        code = self.lib.xs_journal_open(os.fsencode(path), self._out, damage)
        if code != 0:
            found = code == -errno.EILSEQ
            what = self.ffi.string(damage.what).decode() if found else ""
            raise JournalError(-code, int(damage.at), what)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _journal(self) -> Any:
        return self._out[0]

    def close(self) -> None:
        """Let the file go."""
        self.lib.xs_journal_close(self._journal)
        self._out[0] = self.ffi.NULL

    def empty(self) -> bool:
        """Whether nothing was committed."""
        return bool(self.lib.xs_journal_empty(self._journal))

    def size(self) -> int:
        """Bytes committed."""
        return int(self.lib.xs_journal_size(self._journal))

    def room(self, record: Record) -> int:
        """Bytes to reserve for a record."""
        match record:
            case Put(path, _, perms, value):
                sizes = (len(path), len(perms), len(value))
            case Note(_, data):
                sizes = (0, 0, len(data))
            case _:
                sizes = (len(record.path), 0, 0)
        return int(self.lib.xs_journal_room(*sizes))

    def reserve(self, size: int) -> None:
        """Have room for `size` bytes; raises OSError."""
        code = self.lib.xs_journal_reserve(self._journal, size)
        if code != 0:
            raise OSError(-code, os.strerror(-code))

    def append(self, record: Record) -> None:
        """Append without reserving."""
        match record:
            case Put(path, generation, perms, value):
                entries = self.ffi.new("struct xs_perm[]", [tuple(p) for p in perms])
                self.lib.xs_journal_put(
                    self._journal, path, len(path), generation,
                    entries, len(perms), value, len(value),
                )  # fmt: skip
            case Touch(path, generation):
                self.lib.xs_journal_touch(self._journal, path, len(path), generation)
            case Drop(path):
                self.lib.xs_journal_drop(self._journal, path, len(path))
            case Note(kind, data):
                self.lib.xs_journal_note(self._journal, kind, data, len(data))

    def commit(self, records: Iterable[Record] = ()) -> None:
        """Reserve room for `records` at once, append and commit them."""
        records = list(records)
        self.reserve(sum(self.room(record) for record in records))
        for record in records:
            self.append(record)
        self.commit_appended()

    def commit_appended(self) -> None:
        """Commit what `append` has appended."""
        self.lib.xs_journal_commit(self._journal)

    def replay(self, *, stop_at: Record | None = None) -> list[Record]:
        """Every committed record; EPERM is answered to `stop_at`, and raised."""
        ffi = self.ffi
        found: list[Record] = []

        def take(record: Record) -> int:
            found.append(record)
            return -errno.EPERM if record == stop_at else 0

        def text(data: Any, length: int) -> bytes:
            return bytes(ffi.buffer(data, length))

        @ffi.callback(  # type: ignore[untyped-decorator]
            "int(void *, const char *, size_t, uint64_t, const struct xs_perm *,"
            " uint32_t, const void *, size_t)"
        )
        def put(
            _: Any, path: Any, path_len: int, generation: int, perms: Any, count: int,
            value: Any, value_len: int,
        ) -> int:  # fmt: skip
            entries = tuple(Perm(p.domid, p.access, p.ignored) for p in perms[0:count])
            return take(
                Put(text(path, path_len), generation, entries, text(value, value_len))
            )

        @ffi.callback("int(void *, const char *, size_t, uint64_t)")  # type: ignore[untyped-decorator]
        def touch(_: Any, path: Any, path_len: int, generation: int) -> int:
            return take(Touch(text(path, path_len), generation))

        @ffi.callback("int(void *, const char *, size_t)")  # type: ignore[untyped-decorator]
        def drop(_: Any, path: Any, path_len: int) -> int:
            return take(Drop(text(path, path_len)))

        @ffi.callback("int(void *, uint32_t, const void *, size_t)")  # type: ignore[untyped-decorator]
        def note(_: Any, kind: int, data: Any, length: int) -> int:
            return take(Note(kind, text(data, length)))

        sink = ffi.new("struct xs_journal_sink *", [put, touch, drop, note])
        code = self.lib.xs_journal_replay(self._journal, sink, ffi.NULL)
        if code != 0:
            raise OSError(-code, os.strerror(-code))
        return found

    def rewrite(self) -> "Journal":
        """A shorter journal, to be written, and given to `replace` or `abandon`."""
        fresh = object.__new__(Journal)
        fresh.ffi, fresh.lib = self.ffi, self.lib
        fresh._out = self.ffi.new("struct xs_journal **")
        code = self.lib.xs_journal_rewrite(self._journal, fresh._out)
        if code != 0:
            raise OSError(-code, os.strerror(-code))
        return fresh

    def replace(self, fresh: "Journal") -> None:
        """Go on with `fresh`, which is used up."""
        code = self.lib.xs_journal_replace(self._out, fresh._journal)
        fresh._out[0] = self.ffi.NULL
        if code != 0:
            raise OSError(-code, os.strerror(-code))

    def abandon(self) -> None:
        """Give a shorter journal up."""
        self.lib.xs_journal_abandon(self._journal)
        self._out[0] = self.ffi.NULL


def compile_parts(output: Path, *more: Path | str) -> None:
    """Compile the parts with `more` files and options, all of gcc's.

    Under scripts/sanitize that is with the sanitizers that Python runs with.
    """
    sources = [NATIVE / "xenstore" / name for name in SOURCES]
    flags = ["-std=gnu11", "-O2", f"-I{NATIVE}", f"-I{NATIVE / 'xenstore'}"]
    if "libasan" in os.environ.get("XENVIRT_PRELOAD", ""):
        flags += ["-g", "-fsanitize=address,undefined"]
        flags += ["-fno-sanitize-recover=undefined"]
    command: list[Path | str] = ["gcc", *flags, *more, "-o", output, *sources]
    subprocess.run(command, check=True)


@cache
def compiled() -> tuple[FFI, Any]:
    """Build it, once a run; the library stays loaded when its file is gone."""
    ffi = FFI()
    text = "\n".join((NATIVE / "xenstore" / name).read_text() for name in HEADERS)
    ffi.cdef(re.sub(r"^#.*$", "", text, flags=re.MULTILINE))
    with tempfile.TemporaryDirectory() as directory:
        library = Path(directory) / "journal_shim.so"
        compile_parts(library, "-shared", "-fPIC")
        return ffi, ffi.dlopen(str(library))
