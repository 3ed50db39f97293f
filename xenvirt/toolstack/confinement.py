"""What each process may still do once it has started; docs/security.md says why."""

import logging
import os
from collections.abc import Callable
from typing import Final

from xenvirt.errors import UsageError
from xenvirt.native.seccomp import filter_calls_of_daemon, filter_calls_of_end

SECCOMP_VARIABLE: Final = "XENVIRT_SECCOMP"

LAUNCHER_CAPABILITIES: Final = (
    "CAP_KILL",
    "CAP_NET_ADMIN",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
)
"""To end processes of other users, delete TAPs, have children become other users with
an empty bounding set, and make, mount and enter network namespaces."""

END_CAPABILITIES: Final = ("CAP_NET_ADMIN",)
"""What an end keeps, to make further TAPs when vifs are plugged in."""

_log = logging.getLogger(__name__)


def is_filtering() -> bool:
    """Whether system calls are to be filtered: `XENVIRT_SECCOMP`, `on` or `off`.

    UsageError for another value.
    """
    text = os.environ.get(SECCOMP_VARIABLE, "on")
    if text not in ("on", "off"):
        raise UsageError(f"{SECCOMP_VARIABLE}={text}", cause="neither on nor off")
    return text == "on"


def filter_end() -> None:
    """Have this process make the system calls of an end only, if that is wanted."""
    _filter(filter_calls_of_end)


def filter_daemon() -> None:
    """Have this process make no dangerous system call, if that is wanted.

    An image of it that was there before may have done the same: both hold.
    """
    _filter(filter_calls_of_daemon)


def _filter(install: Callable[[], None]) -> None:
    if not is_filtering():
        _log.warning("runs without a seccomp filter: %s=off", SECCOMP_VARIABLE)
        return
    try:
        install()
    except OSError as error:
        _log.warning("runs without a seccomp filter: %s", error.strerror)
