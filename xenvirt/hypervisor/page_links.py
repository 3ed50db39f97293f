"""Statistics pages on Xen: links in the run directory to a process's open pages.

`published/DOMID-DEVID-SIDE-QUEUE` leads to /proc/PID/fd/N, a descriptor that stays
open until another page takes its place. When the process is gone, the link leads
nowhere.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from xenvirt.abi.ids import DevId, DomId
from xenvirt.errors import HypercallError
from xenvirt.hypervisor.published import check_page

_NAME: Final = re.compile(r"\d+-\d+-(?P<side>front|back)-(?P<queue>\d+)", re.ASCII)
_TARGET: Final = re.compile(r"/proc/(?P<pid>\d+)/fd/\d+", re.ASCII)


@dataclass(frozen=True, slots=True)
class LinkedPage:
    """A queue's page that some process shows; `fd` is the receiver's to close."""

    side: str
    queue: int
    pid: int
    fd: int


class PageLinks:
    """The links of one run directory."""

    def __init__(self, run_dir: Path) -> None:
        self._directory = run_dir / "published"
        self._added: dict[Path, int] = {}

    def add(self, domid: DomId, devid: DevId, side: str, queue: int, fd: int) -> None:
        """Show an open page, in place of what is there; `fd` stays the caller's."""
        self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        link = self._directory / f"{domid}-{devid}-{side}-{queue}"
        self._remove(link)
        own = os.dup(fd)
        self._added[link] = own
        link.unlink(missing_ok=True)
        link.symlink_to(f"/proc/{os.getpid()}/fd/{own}")

    def remove(self, domid: DomId, devid: DevId, side: str) -> None:
        """Show a vif's pages no longer."""
        for link in [*self._added]:
            if link.name.startswith(f"{domid}-{devid}-{side}-"):
                self._remove(link)

    def remove_all(self) -> None:
        """Remove what `add` made, unless another process has taken its place."""
        for link in [*self._added]:
            self._remove(link)

    def _remove(self, link: Path) -> None:
        own = self._added.pop(link, None)
        if own is None:
            return
        os.close(own)
        if link.is_symlink() and os.readlink(link) == f"/proc/{os.getpid()}/fd/{own}":
            link.unlink()

    def pages(self, domid: DomId, devid: DevId) -> Iterator[LinkedPage]:
        """Open every page of a vif that a living process shows."""
        for link in sorted(self._directory.glob(f"{domid}-{devid}-*")):
            name = _NAME.fullmatch(link.name)
            target = _TARGET.fullmatch(os.readlink(link)) if link.is_symlink() else None
            fd = _open_page(target[0]) if name and target else None
            if name and target and fd is not None:
                yield LinkedPage(
                    name["side"], int(name["queue"]), int(target["pid"]), fd
                )


def _open_page(path: str) -> int | None:
    """Open /proc/PID/fd/N if it is such a page: the number may be another's by now."""
    try:
        if not os.readlink(path).startswith("/memfd:"):
            return None
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        check_page(fd)
    except HypercallError:
        os.close(fd)
        return None
    return fd
