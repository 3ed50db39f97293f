"""The launcher: the process that stays root, starts the others and outlives them.

It forks the daemon, again if that dies, and keeps for it what a new one needs to go
on: the listening sockets, and records with descriptors (shelf.py). It makes network
namespaces and forks the ends, having imported what they need once, so that an end
is up in milliseconds and shares its code pages. It has no event loop and takes
orders from the daemon alone, over a SEQPACKET socketpair. When the daemon has ended
in order, or dies too often, it takes down everything that it made.
"""

import contextlib
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from xenvirt.errors import HypercallError
from xenvirt.hypervisor import arguments, wire
from xenvirt.toolstack.ends import Ends
from xenvirt.toolstack.hands import Hands
from xenvirt.toolstack.orders import Order, carry_out
from xenvirt.toolstack.processes import STOP_SIGNALS, fork, signal_socket
from xenvirt.toolstack.remedies import remedy
from xenvirt.toolstack.revival import Revival
from xenvirt.toolstack.rundir import RunDir, Sockets, close_other_fds
from xenvirt.toolstack.shelf import Shelf
from xenvirt.toolstack.supervisor import describe_exit

STOP_TIMEOUT_S: Final = 5.0
"""From SIGTERM to SIGKILL when the daemon is gone."""

REFUSED_BACKOFF_S: Final = 1.0
"""Until the next try to start a daemon for which the kernel has no room."""

_log = logging.getLogger(__name__)

RunDaemon = Callable[[socket.socket, bool], int]
"""Is the daemon, in a process of its own; returns its exit status.

It owns the socket to the launcher; with True it runs the code that is on disk now.
"""


@dataclass(slots=True)
class _Daemon:
    """The daemon's process; `ready` is when it began to serve (monotonic seconds)."""

    pid: int
    sock: socket.socket
    from_disk: bool
    ready: float | None = None


class Launcher:
    """Runs the daemon until it has ended for good.

    `make_hands` is called once the first daemon is under way. `uid_base` is added to a
    domid to give its processes' uid and gid. A line is written to `ready_fd` when
    the first daemon serves; the launcher owns that and the sockets. `keep_fds` stay
    open in the daemon too.
    """

    def __init__(
        self,
        run_dir: RunDir,
        run_daemon: RunDaemon,
        make_hands: Callable[[], Hands],
        sockets: Sockets,
        *,
        uid_base: int,
        keep_fds: tuple[int, ...] = (),
        ready_fd: int | None = None,
        revival: Revival | None = None,
        stop_timeout_s: float = STOP_TIMEOUT_S,
    ) -> None:
        self._run_dir = run_dir
        self._run_daemon = run_daemon
        self._make_hands = make_hands
        self._sockets = sockets
        self._uid_base = uid_base
        self._keep_fds = keep_fds
        self._ready_fd = ready_fd
        self._revival = revival or Revival()
        self._stop_timeout_s = stop_timeout_s
        self._shelf = Shelf()
        self._ends: Ends | None = None
        self._daemon: _Daemon | None = None
        self._due: float | None = None
        self._from_disk = False
        self._has_served = False
        self._last_death: str | None = None
        self._refused: str | None = None
        self._stopping = False
        self._over = False
        self._status = 0
        self._orders: dict[str, Order] = {
            "hello": Order(self._hello),
            "ready": Order(self._ready, {"from_disk": arguments.flag}, answered=False),
            "stopping": Order(self._daemon_stops, answered=False),
            "updating": Order(self._updating, answered=False),
            "keep": Order(
                self._keep,
                {"key": arguments.text, "value": arguments.mapping},
                answered=False,
                takes_fds=True,
            ),
            "drop": Order(self._drop, {"key": arguments.text}, answered=False),
        }

    def run(self) -> int:
        """Run and serve daemons, then take down what is left; return the status."""
        with signal_socket() as wakeup:
            try:
                self._start_daemon()
                self._ends = Ends(
                    self._run_dir,
                    self._make_hands(),
                    uid_base=self._uid_base,
                )
                self._orders.update(self._ends.orders)
                while not self._over:
                    self._turn(wakeup)
            except Exception:
                _log.exception("the launcher failed")
                self._status = 1
            self._take_down(wakeup)
        return self._status

    def _turn(self, wakeup: socket.socket) -> None:
        poll = select.poll()
        poll.register(wakeup, select.POLLIN)
        if self._daemon is not None and self._daemon.sock.fileno() >= 0:
            poll.register(self._daemon.sock, select.POLLIN)
        timeout_ms = None
        if self._due is not None:
            timeout_ms = max(0.0, self._due - time.monotonic()) * 1000
        ready = {fd for fd, _ in poll.poll(timeout_ms)}
        if wakeup.fileno() in ready:
            self._signalled(wakeup)
        elif ready and self._daemon is not None:
            self._serve_one(self._daemon, heard=True)
        elif self._due is not None and time.monotonic() >= self._due:
            self._start_daemon()

    def _signalled(self, wakeup: socket.socket) -> None:
        numbers = set(wakeup.recv(4096))
        for sig in numbers.intersection(STOP_SIGNALS):
            self._stop(signal.Signals(sig))
        self._reap()

    def _stop(self, sig: signal.Signals) -> None:
        """Have the daemon take everything down; again hurries it."""
        self._stopping = True
        if self._daemon is None:
            _log.info("%s: stopping", sig.name)
            self._over = True
        else:
            os.kill(self._daemon.pid, signal.SIGTERM)

    # The daemon's life.

    def _start_daemon(self) -> None:
        self._due = None
        try:
            self._fork_daemon()
        except OSError as error:
            if not self._has_served:
                raise
            self._due = time.monotonic() + REFUSED_BACKOFF_S
            self._say_refused(error.strerror or str(error))
        else:
            self._refused = None

    def _fork_daemon(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                pid = fork()
            except OSError:
                ours.close()
                raise
            if pid == 0:
                self._become_daemon(theirs)
        self._daemon = _Daemon(pid, ours, self._from_disk)

    def _say_refused(self, why: str) -> None:
        # Once, however long it lasts.
        if why != self._refused:
            self._refused = why
            _log.error(
                "process %d cannot start the daemon again: %s; links go on without it, "
                "and there is a new try every %.1f s; %s",
                os.getpid(), why, REFUSED_BACKOFF_S, remedy(why),
            )  # fmt: skip

    def _become_daemon(self, sock: socket.socket) -> NoReturn:
        status = 1
        try:
            close_other_fds(
                {0, 1, 2, sock.fileno(), *self._sockets.fds(), *self._keep_fds}
            )
            status = self._run_daemon(sock, self._from_disk)
        except BaseException:
            _log.exception("the daemon failed")
        finally:
            logging.shutdown()
            # Not an exception: the launcher's own frames are below this one.
            os._exit(status)

    def _hello(self) -> dict[str, object]:
        """Hand over to a daemon that begins, or to its next image."""
        for key, kept in self._shelf:
            self._send({"kept": key, "value": kept.value}, kept.fds)
        if self._ends is not None:
            for body in self._ends.described():
                self._send(body)
        return {"after": self._last_death, "pid": os.getpid()}

    def _ready(self, from_disk: bool) -> dict[str, object]:
        assert self._daemon is not None
        self._daemon.ready = time.monotonic()
        self._daemon.from_disk = self._from_disk = from_disk
        self._has_served = True
        self._last_death = None
        if self._ready_fd is not None:
            # Whoever wanted to know may have been interrupted.
            with contextlib.suppress(BrokenPipeError):
                os.write(self._ready_fd, b"\n")
            self._close_ready_fd()
        return {}

    def _daemon_stops(self) -> dict[str, object]:
        self._stopping = True
        self._sockets.refuse()
        return {}

    def _updating(self) -> dict[str, object]:
        assert self._daemon is not None
        self._daemon.ready = None
        self._daemon.from_disk = True
        return {}

    def _daemon_ended(self, daemon: _Daemon, status: int) -> None:
        # What it has sent is there; a child of its own may still hold its end.
        if daemon.sock.fileno() >= 0:
            daemon.sock.setblocking(False)
        while daemon.sock.fileno() >= 0:
            self._serve_one(daemon, heard=False)
        self._daemon = None
        sig = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        if self._stopping or sig in STOP_SIGNALS:
            self._over = True
            self._status = 0 if sig else os.waitstatus_to_exitcode(status)
        elif not self._has_served:
            self._over = True
            self._status = 1 if sig else os.waitstatus_to_exitcode(status) or 1
        else:
            self._last_death = describe_exit(status)
            self._revive(daemon, sig)

    def _revive(self, daemon: _Daemon, sig: int) -> None:
        now = time.monotonic()
        served_s = None if daemon.ready is None else now - daemon.ready
        if served_s is None and daemon.from_disk and sig != signal.SIGKILL:
            _log.error("the daemon on disk does not start; going on with the old one")
            self._from_disk = False
        delay_s = self._revival.died(sig, served_s=served_s)
        if delay_s is None:
            self._give_up()
            return
        if delay_s or served_s is None:
            _log.error(
                "the daemon %s; starting it again in %.1f s", self._last_death, delay_s
            )
        self._due = now + delay_s

    def _give_up(self) -> None:
        _log.critical(
            "the daemon %s, for the %dth time in a row: taking everything down",
            self._last_death, self._revival.failures,
        )  # fmt: skip
        aside = self._run_dir.set_journal_aside()
        if aside is not None:
            _log.error("what XenStore held is in %s", aside)
        self._over = True
        self._status = 1

    # What the daemon says.

    def _serve_one(self, daemon: _Daemon, *, heard: bool) -> None:
        try:
            packet = wire.receive(daemon.sock, wire.MAX_REPLY)
        except BlockingIOError:
            packet = None
        except ConnectionResetError:
            # It died with something unread; what it had sent before comes next.
            return
        except HypercallError as error:
            _log.error("the daemon sends what is no order: %s", error)
            return
        if packet is None:
            daemon.sock.close()
            return
        reply = carry_out(self._orders, packet, heard=heard)
        if reply is not None:
            self._send(reply)

    def _send(
        self, body: Mapping[str, object], fds: list[int] | tuple[()] = ()
    ) -> None:
        # A daemon that is gone is noticed when its process is reaped.
        if self._daemon is not None and self._daemon.sock.fileno() >= 0:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                data = wire.encode(dict(body), wire.MAX_REPLY)
                wire.send(self._daemon.sock, data, fds)

    def _keep(
        self, key: str, value: dict[str, object], fds: list[int]
    ) -> dict[str, object]:
        self._shelf.put(key, value, fds)
        return {}

    def _drop(self, key: str) -> dict[str, object]:
        self._shelf.drop(key)
        return {}

    # Who has ended, and the end of all.

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._daemon is not None and pid == self._daemon.pid:
                self._daemon_ended(self._daemon, status)
            elif self._ends is not None and self._ends.ended(pid):
                self._send({"event": "exited", "pid": pid, "status": status})

    def _take_down(self, wakeup: socket.socket) -> None:
        self._stopping = True
        self._sockets.refuse()
        if self._ends:
            _log.warning(
                "the daemon is gone; taking down %d processes", len(self._ends)
            )
        for sig in (signal.SIGTERM, signal.SIGKILL):
            if self._daemon is not None:
                os.kill(self._daemon.pid, sig)
            if self._ends is not None:
                self._ends.kill(sig)
            self._wait_for_all(wakeup)
        if self._ends is not None:
            self._ends.clean_up()
        self._run_dir.remove_sockets()
        if self._status == 0:
            self._run_dir.remove_store()
        self._shelf.clear()
        self._close_ready_fd()

    def _wait_for_all(self, wakeup: socket.socket) -> None:
        deadline = time.monotonic() + self._stop_timeout_s
        while self._ends or self._daemon is not None:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([wakeup], [], [], left_s)[0]:
                return
            wakeup.recv(4096)
            self._reap()

    def _close_ready_fd(self) -> None:
        fd, self._ready_fd = self._ready_fd, None
        if fd is not None:
            os.close(fd)
