"""Named network namespaces, as iproute2 keeps them: `ip netns` sees them all.

A namespace is a file in /run/netns on which the kernel's namespace is mounted.
What switches is the calling *thread*, so that a worker thread can look into a
domain while the rest of the process stays at home.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from xenvirt.errors import LocalError, NotFoundError, NotPermittedError, XenvirtError
from xenvirt.netdev import rtnetlink
from xenvirt.netdev.rtnetlink import Rtnetlink

NETNS_DIR: Final = Path("/run/netns")

CLONE_NEWNET: Final = 0x40000000
_MS_BIND: Final = 4096
_MS_REC: Final = 16384
_MS_SHARED: Final = 1 << 20
_MNT_DETACH: Final = 2
THREAD_NETNS: Final = "/proc/thread-self/ns/net"

_LOOPBACK_INDEX: Final = 1
"""In every namespace: it is the first interface there."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_void_p,
)


def create(
    name: str, alias: str = "", put: Callable[[Path], None] | None = None
) -> None:
    """Make the namespace, its loopback interface up and with `alias`, if one is given.

    It has its name only when it has that alias.

    `put` mounts one on a file; None: `put_new`. Raises
    LocalError if the name is taken or not valid, NotPermittedError. Nothing is left
    behind when it fails.
    """
    path = _path(name)
    with errors(f"cannot create network namespace {name}"):
        _share_directory()
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o444))
        except FileExistsError as error:
            raise LocalError(
                f"network namespace {name} exists already",
                hint=f"choose another name, or: ip netns delete {name}",
            ) from error
        try:
            (put or partial(put_new, alias=alias))(path)
        except BaseException:
            path.unlink()
            raise


def delete(name: str) -> None:
    """Remove the name; nothing happens if there is none.

    The namespace itself goes, with its virtual interfaces, when the last process
    in it has ended and the last descriptor that refers to it is closed.
    """
    path = _path(name)
    what = f"cannot delete network namespace {name}"
    with errors(what), contextlib.suppress(FileNotFoundError):
        _unmount(path)
        path.unlink()


def exists(name: str) -> bool:
    """Say whether there is a namespace of that name."""
    return _path(name).exists()


def list_names() -> list[str]:
    """Name all named namespaces of the host, whoever made them, in order."""
    try:
        return sorted(os.listdir(NETNS_DIR))
    except FileNotFoundError:
        return []


def enter(name: str) -> None:
    """Move the calling thread into the namespace, for good.

    Threads that it starts later are there too. Raises NotFoundError.
    """
    with errors(f"cannot enter network namespace {name}"):
        fd = open_named(name)
        try:
            setns(fd, CLONE_NEWNET)
        finally:
            os.close(fd)


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """Run the block with the calling thread in the namespace, then come back.

    Sockets and TAPs that are opened in the block stay in it. The block must not
    `await`: other tasks of the thread would find themselves in the namespace.
    """
    home = os.open(THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(name)
        try:
            yield
        finally:
            setns(home, CLONE_NEWNET)
    finally:
        os.close(home)


def _path(name: str) -> Path:
    if name in ("", ".", "..") or "/" in name or "\0" in name or len(name) > 255:
        raise LocalError(
            f"network namespace {name!r} cannot be named so",
            cause="it is a file name, of 1 to 255 characters without '/'",
        )
    return NETNS_DIR / name


def open_named(name: str) -> int:
    """Open the namespace; the caller owns the descriptor. NotFoundError, OSError."""
    try:
        return os.open(_path(name), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"there is no network namespace {name}", hint="ip netns lists all"
        ) from error


def _share_directory() -> None:
    """Make mounts in the directory seen by all mount namespaces, as iproute2 does.

    Without it a namespace that one mount namespace deletes would live on in
    those that were split off in the meantime.
    """
    NETNS_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
    fd = os.open(NETNS_DIR, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            _mount(None, NETNS_DIR, _MS_SHARED | _MS_REC)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            _mount(NETNS_DIR, NETNS_DIR, _MS_BIND | _MS_REC)
            _mount(None, NETNS_DIR, _MS_SHARED | _MS_REC)
    finally:
        os.close(fd)


def put_new(path: Path, alias: str) -> None:
    """Mount a new namespace on the file `path`, as `unshare` makes it; OSError."""
    _in_new_thread(lambda: _unshare_onto(path, alias))


def _unshare_onto(path: Path, alias: str) -> None:
    """Put the calling thread into a new namespace and mount that on `path`."""
    unshare(CLONE_NEWNET, alias)
    put(Path(THREAD_NETNS), path)


def unshare(flags: int, alias: str) -> None:
    """Put the calling thread into new namespaces, one of them of the network; OSError.

    Its loopback interface is up, and has `alias` unless that is empty.
    """
    _check(_libc.unshare(flags))
    attributes = rtnetlink.text(rtnetlink.IFLA_IFALIAS, alias) if alias else b""
    with contextlib.closing(Rtnetlink()) as kernel:
        kernel.set_link(_LOOPBACK_INDEX, attributes, up=True)


def put(namespace: Path, path: Path) -> None:
    """Mount a namespace, a file that stands for it, on the file `path`; OSError."""
    _mount(namespace, path, _MS_BIND)


def _in_new_thread(function: Callable[[], None]) -> None:
    """Run `function` in a thread that then ends, and its namespace with it."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="netns")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def setns(fd: int, kind: int) -> None:
    """Move the calling thread into a namespace of that kind; OSError."""
    _check(_libc.setns(fd, kind))


def _mount(source: Path | None, target: Path, flags: int) -> None:
    _check(
        _libc.mount(
            os.fsencode(source) if source else b"none",
            os.fsencode(target),
            b"none",
            flags,
            None,
        )
    )


def _unmount(path: Path) -> None:
    try:
        _check(_libc.umount2(os.fsencode(path), _MNT_DETACH))
    except OSError as error:
        # A name without a namespace, such as a crash can leave.
        if error.errno != errno.EINVAL:
            raise


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextlib.contextmanager
def errors(what: str) -> Iterator[None]:
    """Raise an OSError of the block in words: `what` could not be done."""
    try:
        yield
    except PermissionError as error:
        raise NotPermittedError(
            what,
            cause=f"user {os.geteuid()} has no CAP_SYS_ADMIN",
            hint="run it as root, with sudo",
        ) from error
    except OSError as error:
        raise XenvirtError(what, cause=str(error.strerror)) from error
