"""A store without a hypervisor: its sockets have names, its domains are only said.

For who tests a XenStore client: no root, no Xen, no daemon. `run` answers what needs a
hypervisor: the domains that were said are introduced, and can be again; there is no
other whose ring page could be served.
"""

import errno
import fcntl
import logging
import os
import select
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Self

from xenvirt.abi.xs_wire import XsWire
from xenvirt.errors import LocalError, UsageError
from xenvirt.xenstore import requests
from xenvirt.xenstore.framing import encode
from xenvirt.xenstore.server import StoreServer, Upcall, UpcallKind

_SUN_PATH_MAX: Final = 107
"""Bytes of a Unix socket's path (unix(7)), less the NUL."""

_BACKLOG: Final = 128

log = logging.getLogger(__name__)


class StandaloneStore:
    """A StoreServer behind sockets at paths; a context manager.

    With a `state` file the nodes are what they were when it was used last. LocalError
    when that is in use or damaged, when something listens at a path already, or when
    a socket cannot be there.
    """

    def __init__(self, state: Path | None = None) -> None:
        self._stack = ExitStack()
        self._domains: set[int] = set()
        try:
            self._server = StoreServer(state)
        except OSError as error:
            raise LocalError(
                f"cannot use the state file {state}", cause=_why(error)
            ) from error
        self._stack.callback(self._server.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End every connection and remove the sockets; the state file stays."""
        self._stack.close()

    def listen(self, path: Path) -> None:
        """Serve privileged clients, as domain 0, at `path` (mode 0600)."""
        self._server.listen(self._stack.enter_context(_named_socket(path)))

    def trace(self, path: Path) -> None:
        """Give the trace to who connects to `path` (mode 0600)."""
        self._server.trace(self._stack.enter_context(_named_socket(path)))

    def add_domain(self, domid: int, path: Path) -> None:
        """Have a domain, introduced, whose clients connect to `path` (mode 0600)."""
        sock = self._stack.enter_context(_named_socket(path))
        self._domains.add(domid)
        self._server.domain_created(domid)
        if not self._server.is_introduced(domid):
            self._introduce(domid)
        self._server.listen(sock, domid, privileged=False)

    def run(self, stop_fd: int) -> None:
        """Answer what needs a hypervisor until `stop_fd` is readable."""
        while True:
            self._answer_all()
            if stop_fd in _readable(self._server.upcall_fd, stop_fd):
                return

    def _introduce(self, domid: int) -> None:
        """Have it introduced as a toolstack would, with a ring that nobody serves."""
        request = requests.introduce(domid, 1, 1)
        ours, theirs = socket.socketpair()
        with ours:
            self._server.adopt(theirs, 0, privileged=True)
            ours.sendall(encode(XsWire.INTRODUCE, 1, 0, request.payload))
            replied = False
            while not replied:
                readable = _readable(self._server.upcall_fd, ours.fileno())
                self._answer_all()
                replied = ours.fileno() in readable

    def _answer_all(self) -> None:
        while (upcall := self._server.next_upcall()) is not None:
            self._server.answer(upcall.conn_id, self._outcome(upcall))

    def _outcome(self, upcall: Upcall) -> int:
        match upcall.kind:
            case UpcallKind.INTRODUCE if upcall.domid not in self._domains:
                log.warning(
                    "INTRODUCE %d refused: there is no hypervisor here, and no "
                    "--domain %d=PATH",
                    upcall.domid,
                    upcall.domid,
                )
                return errno.EINVAL
            case UpcallKind.LIVE_UPDATE:
                log.warning("live-update refused: a stand-alone store is not replaced")
                return errno.ENOSYS
        return 0


def _readable(*fds: int) -> set[int]:
    """Wait until some are readable. Not by select, which ends at descriptor 1023."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll()}


@contextmanager
def _named_socket(path: Path) -> Iterator[socket.socket]:
    """A listening socket, whoever uses it; its name is removed at the end."""
    _check_length(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _only_one_binds(path):
            _remove_stale(path)
            _bind(sock, path)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise LocalError(f"cannot listen at {path}", cause=_why(error)) from error
    except BaseException:
        sock.close()
        raise
    ours = path.stat()
    try:
        yield sock
    finally:
        sock.close()
        # Somebody else may have taken the name since.
        if path.exists() and os.path.samestat(path.stat(), ours):
            path.unlink()


@contextmanager
def _only_one_binds(path: Path) -> Iterator[None]:
    """Keep two who start at once from removing each other's socket."""
    directory = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _remove_stale(path: Path) -> None:
    """Remove the socket of a store that was killed; LocalError if it is not one."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise LocalError(f"cannot listen at {path}", cause="a file is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise LocalError(
        f"cannot listen at {path}",
        cause="another store serves there",
        hint="end that one, or name another path",
    )


def _bind(sock: socket.socket, path: Path) -> None:
    # Not chmod after bind, which would leave it open to all for a moment.
    previous = os.umask(0o177)
    try:
        sock.bind(str(path))
    finally:
        os.umask(previous)


def _check_length(path: Path) -> None:
    length = len(os.fsencode(path))
    if length > _SUN_PATH_MAX:
        raise UsageError(
            f"the path {path} is too long for a socket",
            cause=f"it has {length} bytes, {_SUN_PATH_MAX} is the most",
        )


def _why(error: OSError) -> str:
    match error.errno:
        case errno.EBUSY:
            return "another store uses it"
        case errno.EILSEQ:
            return "it is damaged, or not a store's"
    return error.strerror or str(error)
