"""The run directory: where everything of one daemon is, and whether it is alive."""

import contextlib
import fcntl
import json
import logging
import os
import socket
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from xenvirt.errors import LocalError, NotPermittedError, UsageError

RUN_DIR_VARIABLE: Final = "XENVIRT_RUN_DIR"

_SUN_PATH_MAX: Final = 107
"""Bytes of a Unix socket's path (unix(7)), less the NUL."""

_ROOM: Final = 1 << 20
"""Bytes that a daemon with some links takes: its journal and its log."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Record:
    """What the launcher made for a domain: its namespace, or TAPs in the host's."""

    name: str
    netns: str | None
    host_taps: bool


@dataclass(frozen=True, slots=True)
class RunDir:
    """The paths of one daemon; making the object touches nothing."""

    path: Path

    @classmethod
    def find(cls, override: str | Path | None = None) -> "RunDir":
        """Return `override`, `XENVIRT_RUN_DIR`, or the default for this user.

        UsageError if there is no default because XDG_RUNTIME_DIR is not set.
        """
        chosen = override or os.environ.get(RUN_DIR_VARIABLE)
        if chosen:
            return cls(Path(chosen).absolute())
        if os.geteuid() == 0:
            return cls(Path("/run/xenvirt"))
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        if not runtime:
            raise UsageError(
                "no run directory",
                cause="XDG_RUNTIME_DIR is not set",
                hint=f"name one with --run-dir or {RUN_DIR_VARIABLE}",
            )
        return cls(Path(runtime) / "xenvirt")

    @property
    def hypervisor_socket(self) -> Path:
        """SOCK_SEQPACKET, hypercalls."""
        return self.path / "hypervisor.sock"

    @property
    def xenstored_socket(self) -> Path:
        """SOCK_STREAM, xs_wire: what XENSTORED_PATH names."""
        return self.path / "xenstored" / "socket"

    @property
    def trace_socket(self) -> Path:
        """SOCK_STREAM: whoever connects gets XenStore's trace."""
        return self.xenstored_socket.with_name("trace")

    @property
    def journal(self) -> Path:
        """XenStore's nodes, over a crash; in a directory that is the daemon's."""
        return self.path / "store" / "journal"

    @property
    def log(self) -> Path:
        """Every process's lines."""
        return self.path / "log"

    @property
    def lock(self) -> Path:
        """Held with flock by the launcher and its daemon."""
        return self.path / "lock"

    def domain_record(self, name: str) -> Path:
        """Return the file of one domain's `Record`."""
        return self.path / "domains" / f"{name}.json"

    def create(self) -> None:
        """Make the directories; those that are there stay as they are.

        UsageError for a path too long for a socket, NotPermittedError if it cannot
        be made or is another user's, who could then put files of his own there.
        """
        length = len(os.fsencode(self.xenstored_socket))
        if length > _SUN_PATH_MAX:
            raise UsageError(
                f"the run directory {self.path} is too deep",
                cause=f"a socket's path has at most {_SUN_PATH_MAX} bytes, "
                f"{self.xenstored_socket} has {length}",
            )
        try:
            # Whatever the caller's umask: the ends are other users.
            with _umask(0o022):
                for directory, mode in (
                    (self.path, 0o755),
                    (self.xenstored_socket.parent, 0o755),
                    (self.domain_record("x").parent, 0o700),
                ):
                    directory.mkdir(mode, parents=True, exist_ok=True)
                    _check_owner(directory)
            if os.geteuid() == 0:
                _check_reachable(self.path)
        except OSError as error:
            raise NotPermittedError(
                f"cannot use the run directory {self.path}",
                cause=error.strerror or "",
                hint="name another one with --run-dir",
            ) from error

    def create_store(self, uid: int) -> None:
        """Make the journal's directory, which is of user `uid` alone; OSError.

        Another user's is our group's too: root without CAP_DAC_OVERRIDE may clear it.
        """
        directory = self.journal.parent
        directory.mkdir(mode=0o700, exist_ok=True)
        if uid != os.geteuid():
            os.chown(directory, uid, os.getegid(), follow_symlinks=False)
            directory.chmod(0o770)

    def remove_store(self) -> None:
        """Remove the journal: nothing that is in it exists any more."""
        for path in self.journal.parent.glob("*"):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                # The daemon's own directory: it may have put anything there.
                _log.error("cannot remove %s: %s", path, error.strerror)

    def set_journal_aside(self) -> Path | None:
        """Let the next daemon begin without the journal; return where it is now."""
        aside = self.journal.with_suffix(".bad")
        try:
            self.journal.rename(aside)
        except FileNotFoundError:
            return None
        return aside

    def is_full(self) -> bool:
        """Whether its file system has no room for what a daemon writes."""
        info = os.statvfs(self.path)
        return info.f_bavail * info.f_frsize < _ROOM

    def open_log(self) -> int:
        """Open the log to append; the caller owns the descriptor."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with _umask(0o022):
            return os.open(self.log, flags, 0o640)

    def try_lock(self) -> int | None:
        """Take the daemon's lock, or return None if somebody has it.

        The lock lasts until the last copy of the descriptor is closed, in whichever
        process. Whose end is the end of it all writes its pid into the file, see
        `lock_holder`.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self.lock, flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        os.ftruncate(fd, 0)
        return fd

    def lock_holder(self) -> int | None:
        """Return the pid of who has the lock, None if it is not known."""
        text = self.lock.read_text().strip()
        return int(text) if text.isdigit() else None

    def listen(self, callers_gid: int | None = None) -> "Sockets":
        """Open all sockets in place of stale ones; only for the lock's holder.

        `callers_gid` is the group that may make hypercalls; None: our own.
        """
        with contextlib.ExitStack() as undo:
            xenstored = _listen(self.xenstored_socket, socket.SOCK_STREAM, 0o600)
            undo.callback(xenstored.close)
            trace = _listen(self.trace_socket, socket.SOCK_STREAM, 0o600)
            undo.callback(trace.close)
            # Last: who finds it there counts on the others.
            hypervisor = _listen(
                self.hypervisor_socket, socket.SOCK_SEQPACKET, 0o660, callers_gid
            )
            undo.pop_all()
        self._read_only_socket.unlink(missing_ok=True)
        self._read_only_socket.symlink_to(self.xenstored_socket.name)
        return Sockets(hypervisor, xenstored, trace)

    def remove_sockets(self) -> None:
        """Remove the sockets' names; only for the lock's holder."""
        for path in (
            self.hypervisor_socket,
            self.xenstored_socket,
            self._read_only_socket,
            self.trace_socket,
        ):
            path.unlink(missing_ok=True)

    @property
    def _read_only_socket(self) -> Path:
        # Older clients ask for it; it has been the same as the other for long.
        return self.xenstored_socket.with_name("socket_ro")

    def write_record(self, record: Record) -> None:
        """Write a domain's record, whole or not at all; LocalError if not."""
        path = self.domain_record(record.name)
        temporary = path.with_suffix(".new")
        body = {"netns": record.netns, "host_taps": record.host_taps}
        try:
            temporary.write_text(json.dumps(body) + "\n")
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise LocalError(
                f"cannot write {path}", cause=error.strerror or ""
            ) from error

    def remove_record(self, name: str) -> None:
        """Remove a domain's record, if there is one."""
        self.domain_record(name).unlink(missing_ok=True)

    def records(self) -> Iterator[Record]:
        """Yield what the launcher of this or an earlier daemon has made."""
        for path in sorted(self.domain_record("x").parent.glob("*.json")):
            try:
                body = json.loads(path.read_text())
                yield Record(path.stem, body["netns"], bool(body["host_taps"]))
            except (ValueError, KeyError, TypeError) as error:
                _log.warning("%s is not readable: %s; ignored", path, error)


@dataclass(frozen=True, slots=True)
class Sockets:
    """The listening sockets; whoever was handed them closes them."""

    hypervisor: socket.socket
    xenstored: socket.socket
    trace: socket.socket

    def __iter__(self) -> Iterator[socket.socket]:
        return iter((self.hypervisor, self.xenstored, self.trace))

    def fds(self) -> tuple[int, ...]:
        """Return their descriptors, as `of_fds` takes them."""
        return tuple(sock.fileno() for sock in self)

    @classmethod
    def of_fds(cls, fds: Iterable[int]) -> Self:
        """Return the sockets of these descriptors, and own them."""
        return cls(*(socket.socket(fileno=fd) for fd in fds))

    def refuse(self) -> None:
        """Close them and refuse clients, whoever else has them open."""
        for sock in self:
            if sock.fileno() >= 0:
                sock.shutdown(socket.SHUT_RDWR)
                sock.close()

    def close(self) -> None:
        """Close all; again is harmless."""
        for sock in self:
            sock.close()


def close_other_fds(keep: set[int]) -> None:
    """Close every descriptor of the process but those in `keep`."""
    low = 0
    for fd in sorted(keep):
        # CPython takes the empty range (0, 0) for all descriptors.
        if low < fd:
            os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def _listen(path: Path, kind: int, mode: int, gid: int | None = None) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        path.unlink(missing_ok=True)
        # Not chmod after bind, which would leave it open to all for a moment.
        with _umask(0o777 & ~mode):
            sock.bind(str(path))
        if gid is not None:
            os.chown(path, -1, gid, follow_symlinks=False)
        sock.listen(socket.SOMAXCONN)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise LocalError(
            f"cannot listen on {path}", cause=error.strerror or ""
        ) from error
    return sock


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    old = os.umask(mask)
    try:
        yield
    finally:
        os.umask(old)


def _check_reachable(path: Path) -> None:
    """The ends are users of their own: they must get to the socket."""
    for directory in (path, *path.resolve().parents):
        if not directory.stat().st_mode & stat.S_IXOTH:
            raise PermissionError(
                0, f"{directory} is closed to other users, as which the ends run"
            )


def _check_owner(directory: Path) -> None:
    info = directory.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
        raise PermissionError(
            0, f"{directory} is no directory of user {os.geteuid()} alone"
        )
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(0, f"others may write to {directory}")
