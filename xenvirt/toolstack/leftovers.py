"""What is left of a daemon that was killed with its launcher, and its removal.

The run directory's records say what there was. Where they are gone too, as after a
machine was reset, the kernel's objects tell themselves whose they are: interfaces by
their alias, namespaces by that of their loopback interface, processes by the files of
the run directory that they have open. A container's have the same names, and are not
the same files.
"""

import contextlib
import logging
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from xenvirt.errors import XenvirtError
from xenvirt.hypervisor.caller import DAEMON_UID_OFFSET, uid_base
from xenvirt.netdev import links, namespaces
from xenvirt.toolstack.rundir import RunDir

REMOVED: Final = "removed what a crashed run had left"

KILL_TIMEOUT_S: Final = 5.0

_RETRY_S: Final = 0.02
_STDOUT: Final = 1
_DELETED: Final = " (deleted)"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Pids, and names of namespaces and of the host's interfaces."""

    processes: list[int]
    namespaces: list[str]
    interfaces: list[str]

    def __bool__(self) -> bool:
        return bool(self.processes or self.namespaces or self.interfaces)


def clean(run_dir: RunDir, *, timeout_s: float = 0.0) -> bool:
    """Remove what is left, if anything; return whether something was. As root only.

    Nothing is touched while a daemon, or another command, has the directory's lock,
    which is waited for up to `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while find(run_dir) or any(run_dir.records()):
        run_dir.create()
        lock_fd = run_dir.try_lock()
        if lock_fd is not None:
            try:
                remove(run_dir)
            finally:
                os.close(lock_fd)
            return True
        if time.monotonic() > deadline:
            break
        # flock has no timeout.
        time.sleep(_RETRY_S)
    return False


def find(run_dir: RunDir) -> Leftovers:
    """Look for what is provably of a daemon in `run_dir`, be it alive or not."""
    owner = str(run_dir.path)
    return Leftovers(
        [pid for pid in _pids() if _is_of(run_dir, pid)],
        [name for name in namespaces.list_names() if _is_marked(owner, name)],
        links.owned(owner),
    )


def remove(run_dir: RunDir) -> None:
    """Remove all of it; for the lock's holder. What cannot be is logged, and stays."""
    found = find(run_dir)
    records = list(run_dir.records())
    _kill(found.processes)
    for name in found.interfaces:
        _attempt(f"interface {name}", partial(links.delete, name))
    recorded = [record.netns for record in records if record.netns is not None]
    for name in dict.fromkeys([*found.namespaces, *recorded]):
        if not _attempt(f"network namespace {name}", partial(namespaces.delete, name)):
            # Its record stays: the next command tries again.
            records = [record for record in records if record.netns != name]
    for record in records:
        run_dir.remove_record(record.name)


def _attempt(what: str, work: Callable[[], None]) -> bool:
    _log.warning("removing %s, which a killed daemon left", what)
    try:
        work()
    except XenvirtError as error:
        _log.error("cannot remove %s: %s", what, error)
        return False
    return True


def _kill(pids: list[int]) -> None:
    """End processes of which nobody is left to look after, and wait for their end."""
    deadline = time.monotonic() + KILL_TIMEOUT_S
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            fd = os.pidfd_open(pid)
            try:
                _log.warning("killing process %d, which outlives its daemon", pid)
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                left_s = max(0.0, deadline - time.monotonic())
                if not select.select([fd], [], [], left_s)[0]:
                    _log.error("process %d does not end", pid)
            finally:
                os.close(fd)


def _is_marked(owner: str, name: str) -> bool:
    """Whether a namespace's loopback interface says that `owner` made it."""
    with contextlib.suppress(XenvirtError, OSError), namespaces.inside(name):
        return links.aliases().get("lo") == links.netns_alias(owner, name)
    return False


def _pids() -> Iterator[int]:
    own = os.getpid()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != own:
            yield int(name)


def _is_of(run_dir: RunDir, pid: int) -> bool:
    """Whether a process is an end, whose output is the log, or a launcher.

    That one is found by the lock that it holds once the file has been removed; before,
    nobody gets here while it does.
    """
    base = uid_base()
    process = Path(f"/proc/{pid}")
    fds = process / "fd"
    with contextlib.suppress(OSError):
        uid = _uid(process)
        if base <= uid <= base + DAEMON_UID_OFFSET:
            output = fds / str(_STDOUT)
            return _is(output, run_dir.log) or _was(output, run_dir.log, process)
        if uid == 0 and (process / "comm").read_text() == "launcher\n":
            return any(_was(fd, run_dir.lock, process) for fd in fds.iterdir())
    return False


def _is(fd: Path, path: Path) -> bool:
    """Whether a descriptor's file is the one at `path`."""
    with contextlib.suppress(OSError):
        return fd.samefile(path)
    return False


def _was(fd: Path, path: Path, process: Path) -> bool:
    """Whether a descriptor's file was at `path`, from which it has been removed.

    Its name alone does not tell: a container has files of the same names.
    """
    name = os.path.realpath(path)
    if _target(fd) != name + _DELETED:
        return False
    # What is still there of its path must be the same for the process as for us.
    return os.path.samestat(_left_of(name, ""), _left_of(name, f"{process}/root"))


def _left_of(path: str, root: str) -> os.stat_result:
    """Stat the path in `root`, or the nearest directory above that is there."""
    while True:
        try:
            return os.stat(root + path)
        except FileNotFoundError:
            if path == "/":
                raise
        path = os.path.dirname(path)


def _uid(process: Path) -> int:
    # Not the owner of its files in /proc: of one that was root that is root still.
    status = (process / "status").read_text()
    return int(status.partition("\nUid:")[2].split()[0])


def _target(link: Path) -> str | None:
    try:
        return os.readlink(link)
    except OSError:
        return None
