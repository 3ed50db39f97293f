"""Whose of our own processes a vif is on Xen: a lock a vif, which ends with its holder.

Two backends for one vif would take its rings from each other. The second waits, and
takes over when the first has ended, however that ends.
"""

import asyncio
import fcntl
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from xenvirt.abi.ids import DomId

log = logging.getLogger(__name__)

LOCKS: Final = Path("/run/xenvirt-vifs")
"""Of the machine and not of a run directory: all of them share its vifs."""

_RETRY_S: Final = 0.1
"""Between two looks at a lock: nothing tells an event loop when it is free."""


@dataclass(slots=True)
class Claim:
    """A vif that is this process's alone until `release`.

    `waited`: somebody else had it, and may have left it in another state.
    """

    path: Path
    fd: int
    waited: bool

    def release(self) -> None:
        """Let others have it; again is harmless."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self.path.unlink(missing_ok=True)
            os.close(fd)


async def claim(domid: DomId, nodename: str, *, locks: Path = LOCKS) -> Claim:
    """Return the vif of a domain's node as ours, when nobody else has it; OSError."""
    path = locks / f"{domid}-{nodename.replace('/', '-')}"
    waited = False
    while (fd := _try_lock(path)) is None:
        if not waited:
            log.info("%s: %s serves it; waiting for its end", nodename, _holder(path))
        waited = True
        await asyncio.sleep(_RETRY_S)
    return Claim(path, fd, waited)


def _try_lock(path: Path) -> int | None:
    """Return the lock's open file, None while somebody has it."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever had it has removed the name, perhaps since it was opened here.
        if os.path.samestat(os.fstat(fd), os.stat(path)):
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _holder(path: Path) -> str:
    try:
        return f"process {path.read_text().strip()}"
    except FileNotFoundError:
        return "a process that ends"
