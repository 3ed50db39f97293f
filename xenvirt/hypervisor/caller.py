"""Who is on the other end of a hypercall socket: SO_PEERCRED's uid tells."""

import os
import socket
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

from xenvirt.abi.ids import DOM0, DOMID_FIRST_RESERVED, DomId
from xenvirt.errors import HypercallError, UsageError
from xenvirt.hypervisor.session import Session

UID_BASE_VARIABLE: Final = "XENVIRT_UID_BASE"
DEFAULT_UID_BASE: Final = 0x58560000
DAEMON_UID_OFFSET: Final = 0x7FF2
"""DOMID_XEN: the daemon's own uid is no domain's."""
CALLERS_GID_OFFSET: Final = 0x7FF1
"""DOMID_IO: the group of all ends, who may call, is no domain's either."""

_UCRED: Final = Struct("iII")


def uid_base() -> int:
    """Return the uid of domain 0's processes; UsageError for one that cannot be."""
    text = os.environ.get(UID_BASE_VARIABLE, str(DEFAULT_UID_BASE))
    try:
        base = int(text, 0)
    except ValueError:
        base = -1
    if not 1 <= base < 2**32 - 0x8000:
        raise UsageError(
            f"{UID_BASE_VARIABLE}={text}", cause="not a number of 1 to 0xffff7fff"
        )
    return base


def daemon_uid() -> int:
    """Return the uid to which a daemon that was started as root drops."""
    return uid_base() + DAEMON_UID_OFFSET


def callers_gid() -> int:
    """Return the group that may open a root's hypercall socket: all ends are in it."""
    return uid_base() + CALLERS_GID_OFFSET


def peer_credentials(sock: socket.socket) -> tuple[int, int]:
    """Return the pid and uid of the process that connected."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _ = _UCRED.unpack(raw)
    return pid, uid


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a request is; `owner` is what its ports and pages go with.

    `serial` is the session's own number of the call, if it has one. `again` says that
    it may have been carried out before, by a daemon that was killed.
    """

    domid: DomId
    privileged: bool
    pid: int
    owner: Session
    serial: int | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class Identities:
    """How a uid becomes a domain."""

    base: int
    privileged_uids: frozenset[int] = field(default_factory=frozenset)

    def identify(self, uid: int) -> tuple[DomId, bool]:
        """Return the domid and whether it is privileged; EPERM for a stranger."""
        if uid in self.privileged_uids:
            return DOM0, True
        domid = uid - self.base
        if 0 <= domid < DOMID_FIRST_RESERVED:
            return DomId(domid), False
        raise HypercallError("EPERM", f"uid {uid} is no domain's; call as root")
