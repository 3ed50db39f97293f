"""Network namespaces of which each belongs to a user namespace of its own.

CAP_NET_ADMIN of a process in one is then none in any other. Without that, who has it
somewhere needs no more than another process's pid to change that one's network by
rtnetlink (IFLA_TARGET_NETNSID). Root goes in and out as ever: see ADR 10.
"""

import contextlib
import errno
import fcntl
import logging
import os
import signal
import socket
from pathlib import Path
from typing import Final, NoReturn

from xenvirt.netdev import namespaces
from xenvirt.netdev.namespaces import delete

__all__ = ["create", "delete", "enter"]

_CLONE_NEWUSER: Final = 0x10000000
_NS_GET_USERNS: Final = 0xB701
_OWN_USERNS: Final = "/proc/self/ns/user"

_log = logging.getLogger(__name__)


class _NoUserNamespaceError(OSError):
    """The kernel has none (EINVAL), allows no more (ENOSPC) or none to us (EPERM)."""


def create(name: str, ids: range, alias: str = "") -> None:
    """Make the namespace as `namespaces.create`; for processes of users `ids`.

    These are users and groups, the same inside and outside. Where there can be no
    user namespace, it belongs to the one of the caller, and the log says so.
    """

    def put(path: Path) -> None:
        try:
            _put_owned(path, ids, alias)
        except _NoUserNamespaceError as error:
            _log.warning(
                "CAP_NET_ADMIN in network namespace %s is so in all others: "
                "there is no user namespace for it: %s",
                name, error.strerror,
            )  # fmt: skip
            namespaces.put_new(path, alias)

    namespaces.create(name, alias, put)


def enter(name: str) -> None:
    """Move the process, of one thread, into the namespace and its owner, for good.

    It has all capabilities there, and none elsewhere. Raises NotFoundError.
    """
    what = f"cannot enter network namespace {name}"
    with namespaces.errors(what), contextlib.ExitStack() as stack:
        fd = namespaces.open_named(name)
        stack.callback(os.close, fd)
        owner_fd = fcntl.ioctl(fd, _NS_GET_USERNS)
        stack.callback(os.close, owner_fd)
        if not os.path.samestat(os.fstat(owner_fd), os.stat(_OWN_USERNS)):
            namespaces.setns(owner_fd, _CLONE_NEWUSER)
        namespaces.setns(fd, namespaces.CLONE_NEWNET)


def _put_owned(path: Path, ids: range, alias: str) -> None:
    """Mount on `path` what a child makes, as only a whole process can."""
    ours, theirs = socket.socketpair()
    # A signal for the child must not end up where the parent waits for signals.
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _be_the_first(ours, theirs, alias)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)
    theirs.close()
    try:
        with ours:
            answer, fds, _, _ = socket.recv_fds(ours, 1, 1)
            if not fds:
                number = answer[0] if answer else errno.EIO
                raise _NoUserNamespaceError(number, os.strerror(number))
            try:
                for kind in ("uid_map", "gid_map"):
                    line = f"{ids.start} {ids.start} {len(ids)}\n"
                    Path(f"/proc/{pid}/{kind}").write_text(line)
                namespaces.put(Path(f"/proc/self/fd/{fds[0]}"), path)
            finally:
                os.close(fds[0])
    finally:
        os.waitpid(pid, 0)


def _be_the_first(ours: socket.socket, theirs: socket.socket, alias: str) -> NoReturn:
    """Make both namespaces, and stay until the parent has what it needs of them."""
    try:
        ours.close()
        namespaces.unshare(_CLONE_NEWUSER | namespaces.CLONE_NEWNET, alias)
        fd = os.open(namespaces.THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC)
        socket.send_fds(theirs, [b"\0"], [fd])
        theirs.recv(1)
    except OSError as error:
        theirs.send(bytes([error.errno or errno.EIO]))
    finally:
        os._exit(0)
