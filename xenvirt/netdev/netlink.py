"""One netlink conversation at a time; the kernel's refusals in words."""

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Any

from xenvirt.errors import NotFoundError, NotPermittedError, XenvirtError


class NetlinkRefusedError(XenvirtError):
    """The kernel said no; `errno` is its number."""

    def __init__(self, what: str, number: int) -> None:
        super().__init__(what, cause=os.strerror(number))
        self.errno = number


def preload() -> None:
    """Import the library now, a tenth of a second, for all who are forked later."""
    import pyroute2.netlink.exceptions  # noqa: F401


@contextlib.contextmanager
def conversation(what: str) -> Iterator[Any]:
    """Open an IPRoute in the calling thread's network namespace, and close it.

    A refusal is raised as NotPermittedError or NetlinkRefusedError that says that
    `what`, a sentence such as "set xvif1i0", could not be done.
    """
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with refusals(what):
        try:
            with IPRoute() as ipr:
                yield ipr
        except NetlinkError as error:
            raise OSError(error.code, os.strerror(error.code)) from error


@contextlib.contextmanager
def refusals(what: str) -> Iterator[None]:
    """Raise an OSError of the block as `conversation` does a refusal of `what`."""
    try:
        yield
    except OSError as error:
        number = error.errno or errno.EIO
        if number in (errno.EPERM, errno.EACCES):
            raise NotPermittedError(
                f"cannot {what}",
                cause=f"user {os.geteuid()} has no CAP_NET_ADMIN in this network "
                "namespace",
                hint="run it as root, with sudo",
            ) from error
        raise NetlinkRefusedError(f"cannot {what}", number) from error


def link_index(ipr: Any, name: str) -> int:
    """Return the kernel's number of the interface; raise NotFoundError."""
    for index in ipr.link_lookup(ifname=name):
        return int(index)
    raise NotFoundError(f"there is no interface {name}")
