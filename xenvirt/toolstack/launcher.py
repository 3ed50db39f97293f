"""The launcher: the daemon's child that stays root, and all that needs root.

It makes network namespaces and forks the ends, having imported what they need once,
so that an end is up in milliseconds and shares its code pages. It has no event loop
and takes orders from the daemon alone, over a SEQPACKET socketpair: requests, each
answered in order, and `exited` events in between. When the daemon's end closes, it
takes down everything that it made.
"""

import contextlib
import gc
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol

from xenvirt import log
from xenvirt.abi.ids import DomId
from xenvirt.errors import HypercallError, XenvirtError
from xenvirt.hypervisor import arguments, wire
from xenvirt.hypervisor.domains import DOM0_NAME, check_name
from xenvirt.toolstack.rundir import Record, RunDir, close_other_fds

STOP_TIMEOUT_S: Final = 5.0
"""From SIGTERM to SIGKILL when the daemon is gone."""

END_CAPABILITIES: Final = ("CAP_NET_ADMIN",)
"""What an end keeps, to make further TAPs when vifs are plugged in."""

RESERVED_TAPS: Final = 64
"""Vifs that an end can have where only root may open /dev/net/tun."""

_ROLES: Final = ("frontend", "backend")
_SIGNALS: Final = (signal.SIGTERM, signal.SIGKILL)
_PID_MAX: Final = 1 << 22

_log = logging.getLogger(__name__)


class Namespaces(Protocol):
    """What the launcher needs of `netdev.namespaces`."""

    def create(self, name: str) -> None:
        """Make a namespace; LocalError if the name is taken."""

    def delete(self, name: str) -> None:
        """Remove a namespace, if there is one."""

    def enter(self, name: str) -> None:
        """Move the calling thread into a namespace."""


class Taps(Protocol):
    """What the launcher needs of `netdev.links`."""

    def owned(self, owner: str) -> list[str]:
        """Name the host's interfaces that the daemon in `owner` had made."""

    def delete(self, name: str) -> None:
        """Delete an interface, if there is one."""


@dataclass(frozen=True, slots=True)
class Hands:
    """What the launcher does its work with.

    `reserve_taps(count)`, `drop_privileges(uid, gid, capabilities)` and
    `die_with_parent(signal)` are called in the child, then
    `run_end(role, domid, name, run_dir)`, which blocks and returns an exit status.
    """

    namespaces: Namespaces
    taps: Taps
    reserve_taps: Callable[[int], None]
    drop_privileges: Callable[[int, int, tuple[str, ...]], None]
    die_with_parent: Callable[[int], None]
    run_end: Callable[[str, int, str, str], int]


def system_hands() -> Hands:
    """Import what an end needs; for the launcher's process, before its first fork."""
    from xenvirt.native import drop_privileges, set_parent_death_signal
    from xenvirt.netdev import links, namespaces, netlink, tap
    from xenvirt.vif.main import run_end

    netlink.preload()
    return Hands(
        namespaces,
        links,
        tap.reserve,
        drop_privileges,
        set_parent_death_signal,
        run_end,
    )


@dataclass(frozen=True, slots=True)
class _Op:
    handler: Callable[..., dict[str, object]]
    args: Mapping[str, arguments.Check]


def _name(argument: str, value: object) -> str:
    name = arguments.text(argument, value)
    check_name(name)
    return name


def _name_of_any(argument: str, value: object) -> str:
    return DOM0_NAME if value == DOM0_NAME else _name(argument, value)


def _name_or_none(argument: str, value: object) -> str | None:
    return None if value is None else _name(argument, value)


def _role(argument: str, value: object) -> str:
    if value not in _ROLES:
        raise HypercallError("EINVAL", f"{argument} is none of {', '.join(_ROLES)}")
    return str(value)


def _signal(argument: str, value: object) -> int:
    for sig in _SIGNALS:
        if value == sig:
            return sig
    raise HypercallError("EINVAL", f"{argument} is neither SIGTERM nor SIGKILL")


_pid: Final = arguments.number(1, _PID_MAX)


class Launcher:
    """Runs until the other end of `sock` is closed.

    `uid_base` is added to a domid to give its processes' uid and gid.
    """

    def __init__(
        self,
        sock: socket.socket,
        run_dir: RunDir,
        hands: Hands,
        *,
        uid_base: int,
        stop_timeout_s: float = STOP_TIMEOUT_S,
    ) -> None:
        self._sock = sock
        self._run_dir = run_dir
        self._hands = hands
        self._uid_base = uid_base
        self._stop_timeout_s = stop_timeout_s
        self._pid = os.getpid()
        self._ends: set[int] = set()
        self._made: dict[str, Record] = {}
        self._ops: Final[Mapping[str, _Op]] = {
            "netns_create": _Op(self._netns_create, {"name": _name}),
            "netns_delete": _Op(self._netns_delete, {"name": _name}),
            "spawn": _Op(
                self._spawn,
                {
                    "role": _role,
                    "domid": arguments.domid,
                    "name": _name_of_any,
                    "netns": _name_or_none,
                },
            ),
            "signal": _Op(self._signal, {"pid": _pid, "sig": _signal}),
        }

    def run(self) -> None:
        """Serve the daemon, then take down what is left."""
        with _child_signals() as wakeup:
            poll = select.poll()
            poll.register(self._sock, select.POLLIN)
            poll.register(wakeup, select.POLLIN)
            connected = True
            while connected:
                ready = {fd for fd, _ in poll.poll()}
                if wakeup.fileno() in ready:
                    self._reap(wakeup)
                if self._sock.fileno() in ready:
                    connected = self._serve_one()
            self._take_down(wakeup)

    def _serve_one(self) -> bool:
        try:
            packet = wire.receive(self._sock, wire.MAX_REQUEST)
            if packet is None:
                return False
            wire.close_fds(packet.fds)
            reply: dict[str, object] = {"ok": self._perform(packet.body)}
        except ConnectionError:
            return False
        except HypercallError as error:
            reply = {"error": error.errno_name, "why": error.what}
        except (XenvirtError, OSError) as error:
            reply = {"error": "EIO", "why": str(error)}
        except Exception as error:
            _log.exception("the launcher could not do what it was told")
            reply = {"error": "EIO", "why": f"{type(error).__name__} in the launcher"}
        self._send(reply)
        return True

    def _perform(self, request: dict[str, object]) -> dict[str, object]:
        name = str(request.pop("op", None))
        op = self._ops.get(name)
        if op is None:
            raise HypercallError("ENOSYS", f"the launcher knows no {name!r}")
        return op.handler(**arguments.parse(name, request, op.args))

    def _netns_create(self, name: str) -> dict[str, object]:
        self._hands.namespaces.create(name)
        try:
            self._note(Record(name, netns=name, host_taps=False))
        except OSError:
            self._hands.namespaces.delete(name)
            raise
        return {}

    def _netns_delete(self, name: str) -> dict[str, object]:
        record = self._made.get(name)
        if record is None or record.netns is None:
            raise HypercallError(
                "EPERM", f"network namespace {name} was not made by this launcher"
            )
        self._hands.namespaces.delete(name)
        del self._made[name]
        self._run_dir.remove_record(name)
        return {}

    def _spawn(
        self, role: str, domid: DomId, name: str, netns: str | None
    ) -> dict[str, object]:
        if role == "backend" and netns is None:
            self._note_host_taps(name)
        # What is there now is shared with the end until the collector writes to it.
        gc.freeze()
        pid = os.fork()
        if pid == 0:
            self._become_end(role, domid, name, netns)
        self._ends.add(pid)
        return {"pid": pid}

    def _signal(self, pid: int, sig: int) -> dict[str, object]:
        # One of this process's own children that has not been reaped: the pid
        # cannot have become anybody else's.
        if pid not in self._ends:
            raise HypercallError("ESRCH", f"process {pid} is no end")
        os.kill(pid, sig)
        return {}

    def _become_end(
        self, role: str, domid: DomId, name: str, netns: str | None
    ) -> NoReturn:
        status = 1
        try:
            _forget_signals()
            close_other_fds({0, 1, 2})
            if netns is not None:
                self._hands.namespaces.enter(netns)
            self._hands.reserve_taps(RESERVED_TAPS)
            uid = self._uid_base + domid
            self._hands.drop_privileges(uid, uid, END_CAPABILITIES)
            # After the drop, which would clear it.
            self._hands.die_with_parent(signal.SIGTERM)
            if os.getppid() == self._pid:
                status = self._hands.run_end(role, domid, name, str(self._run_dir.path))
        except BaseException:
            _log.exception("the %s of domain %d (%s) failed", role, domid, name)
        finally:
            logging.shutdown()
            # Not an exception: the launcher's own frames are below this one.
            os._exit(status)

    def _note(self, record: Record) -> None:
        self._run_dir.write_record(record)
        self._made[record.name] = record

    def _note_host_taps(self, name: str) -> None:
        if name not in self._made:
            self._note(Record(name, netns=None, host_taps=True))

    def _reap(self, wakeup: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while wakeup.recv(4096):
                pass
        while self._ends:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if pid in self._ends:
                self._ends.discard(pid)
                self._send({"event": "exited", "pid": pid, "status": status})

    def _send(self, body: dict[str, object]) -> None:
        # A daemon that is gone is noticed where the socket is read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            wire.send(self._sock, wire.encode(body, wire.MAX_REPLY))

    def _take_down(self, wakeup: socket.socket) -> None:
        if self._ends:
            _log.warning(
                "the daemon is gone; taking down %d processes", len(self._ends)
            )
        for sig, timeout_s in (
            (signal.SIGTERM, self._stop_timeout_s),
            (signal.SIGKILL, self._stop_timeout_s),
        ):
            for pid in self._ends:
                os.kill(pid, sig)
            self._wait_for_ends(wakeup, timeout_s)
        for record in list(self._made.values()):
            self._undo(record)
        self._run_dir.remove_sockets()

    def _wait_for_ends(self, wakeup: socket.socket, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self._ends:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([wakeup], [], [], left_s)[0]:
                return
            self._reap(wakeup)

    def _undo(self, record: Record) -> None:
        try:
            clean_up(record, self._run_dir, self._hands.namespaces, self._hands.taps)
        except XenvirtError as error:
            # The record stays: the next daemon tries again.
            _log.error("cannot clean up after %s: %s", record.name, error)
            return
        self._run_dir.remove_record(record.name)


def clean_up(
    record: Record, run_dir: RunDir, namespaces: Namespaces, taps: Taps
) -> None:
    """Delete what was made for a domain."""
    if record.netns is not None:
        namespaces.delete(record.netns)
    if record.host_taps:
        for name in taps.owned(str(run_dir.path)):
            taps.delete(name)


def fork_launcher(
    run_dir: RunDir,
    make_hands: Callable[[], Hands],
    *,
    uid_base: int,
    keep_fds: Collection[int] = (),
    stop_timeout_s: float = STOP_TIMEOUT_S,
) -> tuple[socket.socket, int]:
    """Fork the launcher; return the daemon's end of its socket, and its pid.

    Call it before any thread or event loop is started. `keep_fds` stay open in the
    launcher, such as the lock, which then lasts until it has cleaned up. The
    caller owns the socket; when it is closed the launcher ends.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid:
        theirs.close()
        return ours, pid
    status = 1
    try:
        # Away from the terminal, whose ^C is for the daemon alone.
        os.setsid()
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(sig, signal.SIG_IGN)
        close_other_fds({0, 1, 2, theirs.fileno(), *keep_fds})
        log.setup("launcher", debug=_log.isEnabledFor(logging.DEBUG))
        hands = make_hands()
        Launcher(
            theirs, run_dir, hands, uid_base=uid_base, stop_timeout_s=stop_timeout_s
        ).run()
        status = 0
    except BaseException:
        _log.exception("the launcher failed")
    finally:
        logging.shutdown()
        os._exit(status)


@contextlib.contextmanager
def _child_signals() -> Iterator[socket.socket]:
    """Yield a socket that is readable when a child may have ended."""
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield reader
        finally:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _forget_signals() -> None:
    signal.set_wakeup_fd(-1)
    for sig in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sig, signal.SIG_DFL)
