"""Archives that a kernel takes as an initramfs: cpio, newc.

Everything in them is root's, whoever writes them, and the kernel unpacks archives that
are put one behind another, into one tree.
"""

import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Final

_ALIGNMENT: Final = 4
_MAGIC: Final = b"070701"
_LAST: Final = "TRAILER!!!"


class Archive:
    """A new archive in `path`; a context manager, which ends it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._inode = 0

    def add_directory(self, name: str) -> None:
        """Add an empty directory, which may be in an earlier archive as well."""
        self._add(name, stat.S_IFDIR | 0o755)

    def add_file(self, name: str, content: bytes, *, executable: bool = False) -> None:
        """Add a file of that content."""
        self._add(name, stat.S_IFREG | (0o755 if executable else 0o644), content)

    def add_symlink(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def add_console(self, name: str) -> None:
        """Add the device that the kernel gives to init as its standard files."""
        self._add(name, stat.S_IFCHR | 0o600, device=(5, 1))

    def add_tree(self, top: Path, prefix: str = "") -> None:
        """Add what is in the directory `top`, as it would be in `prefix`."""
        for entry in sorted(os.scandir(top), key=lambda entry: entry.name):
            name = f"{prefix}/{entry.name}".lstrip("/")
            path = Path(entry.path)
            if entry.is_symlink():
                self.add_symlink(name, str(path.readlink()))
            elif entry.is_dir():
                self.add_directory(name)
                self.add_tree(path, name)
            elif entry.is_file():
                executable = os.access(path, os.X_OK)
                self.add_file(name, path.read_bytes(), executable=executable)

    def close(self) -> None:
        """Write the last entry, and no more after that."""
        self._add(_LAST, 0)
        self._file.close()

    def __enter__(self) -> "Archive":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _add(
        self,
        name: str,
        mode: int,
        content: bytes = b"",
        device: tuple[int, int] = (0, 0),
    ) -> None:
        self._inode += 1
        encoded = name.encode() + b"\0"
        uid = gid = mtime = checksum = 0
        # fmt: off
        fields = (
            self._inode, mode, uid, gid, 1, mtime, len(content),
            0, 0, *device, len(encoded), checksum,
        )
        # fmt: on
        header = _MAGIC + b"".join(b"%08X" % field for field in fields) + encoded
        for part in (header, content):
            self._file.write(part + b"\0" * (-len(part) % _ALIGNMENT))
