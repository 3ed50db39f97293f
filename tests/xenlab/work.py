"""The work directory: what is kept there, and what it was made from."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TextIO

from tests.xenlab.errors import LabError

ROOT: Final = Path(__file__).resolve().parent.parent.parent
"""The checkout."""


class Work:
    """A directory that is this process's alone for as long as it lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.debs = path / "debs"
        self.apt = path / "apt"
        self.host = path / "host"
        """What dom0 sees as /host."""
        self.results = self.host / "results"
        self.console = path / "console.log"
        self._cache = path / "cache"
        self._scratch = path / "scratch"
        for directory in (self.debs, self.apt, self.results, self._cache):
            directory.mkdir(parents=True, exist_ok=True)
        self._lock = self._locked()
        self.clear_scratch()
        link = path / "results"
        if not link.is_symlink():
            link.symlink_to(self.results.relative_to(path))

    @staticmethod
    def default() -> "Work":
        """$XENVIRT_LAB, or .xen-lab in the checkout."""
        return Work(Path(os.environ.get("XENVIRT_LAB") or ROOT / ".xen-lab").absolute())

    def scratch(self, name: str) -> Path:
        """Return a new, empty directory, which clear_scratch removes."""
        path = self._scratch / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def clear_scratch(self) -> None:
        """Remove the directories that `scratch` has made."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    def cached(self, name: str, key: str, make: Callable[[Path], None]) -> Path:
        """Return what `make` makes in the path it is given, as it was made before.

        It is made anew when the `key` is another; what was made from the last is
        removed.
        """
        made = self._cache / f"{key}-{name}"
        if made.exists():
            return made
        unfinished = self._scratch / "made" / name
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        make(unfinished)
        for old in self._cache.glob(f"*-{name}"):
            remove(old)
        unfinished.rename(made)
        return made

    def _locked(self) -> TextIO:
        lock = (self.path / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(
                f"another xen-lab is at work in {self.path}: wait for it to end, or "
                "give this one a directory of its own in XENVIRT_LAB"
            ) from None
        return lock


def key_of(parts: Iterable[str | bytes]) -> str:
    """Name a thing after all that it is made from."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:" % len(encoded))
        digest.update(encoded)
    return digest.hexdigest()[:16]


def remove(path: Path) -> None:
    """Remove a file or a directory with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
