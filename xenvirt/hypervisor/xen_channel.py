"""An end of one of Xen's event channels: /dev/xen/evtchn, open for one port alone."""

import errno
import os
from dataclasses import dataclass
from typing import Final, Self

from xenvirt.abi.ids import DomId, Port
from xenvirt.hypervisor.devices import EVTCHN, open_device
from xenvirt.hypervisor.errnos import refused
from xenvirt.native.evtchn import (
    Evtchn,
    evtchn_bind_interdomain,
    evtchn_bind_unbound_port,
    evtchn_notify,
)

_NOT_TO_BE_HAD: Final = (errno.EINVAL, errno.ESRCH, errno.ENOENT)
_FLAGS: Final = os.O_RDWR | os.O_NONBLOCK


@dataclass(slots=True)
class XenChannel:
    """A port and the open file that has it; `close` closes both."""

    port: Port
    fd: int

    @classmethod
    def unbound(cls, remote_domid: DomId) -> Self:
        """Return a new port for `remote_domid` to bind; HypercallError."""
        fd = open_device(EVTCHN, _FLAGS)
        try:
            return cls(Port(evtchn_bind_unbound_port(fd, remote_domid)), fd)
        except OSError as error:
            os.close(fd)
            raise refused(error) from error

    @classmethod
    def interdomain(cls, remote_domid: DomId, remote_port: Port) -> Self:
        """Return a new port, connected to an unbound remote one; HypercallError."""
        fd = open_device(EVTCHN, _FLAGS)
        try:
            return cls(Port(evtchn_bind_interdomain(fd, remote_domid, remote_port)), fd)
        except OSError as error:
            os.close(fd)
            why = f"event channel {remote_port} of domain {remote_domid}"
            if error.errno in _NOT_TO_BE_HAD:
                why += (
                    " is not there, or somebody has bound it: another backend, or the "
                    "kernel's; xl list, and lsevtchn of Xen's tools, show more"
                )
            else:
                why += f": {error.strerror}"
            raise refused(error, why) from error

    @property
    def evtchn(self) -> Evtchn:
        """The same for a queue."""
        return Evtchn(self.fd, self.fd, self.port)

    def notify(self) -> None:
        """Make the other end pending; OSError."""
        evtchn_notify(self.fd, self.port)

    def close(self) -> None:
        """Close the port; again is harmless."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
