"""An end of an event channel, and the verbs of Xen's /dev/xen/evtchn."""

from dataclasses import dataclass

from xenvirt.native.extension import check, lib


@dataclass(frozen=True, slots=True)
class Evtchn:
    """One end of an event channel: two eventfds, or Xen's device with one port.

    On Xen `notify_fd` is `pending_fd`. Port 0, which is none of Xen's, means eventfds.
    """

    pending_fd: int
    notify_fd: int
    port: int = 0


def evtchn_bind_unbound_port(fd: int, remote_domid: int) -> int:
    """Bind /dev/xen/evtchn to a new port that `remote_domid` may bind; OSError."""
    return check(
        lib.xv_evtchn_bind_unbound_port(fd, remote_domid),
        f"event channel for domain {remote_domid}",
    )


def evtchn_bind_interdomain(fd: int, remote_domid: int, remote_port: int) -> int:
    """Bind /dev/xen/evtchn to a new port, connected to the remote one; OSError."""
    return check(
        lib.xv_evtchn_bind_interdomain(fd, remote_domid, remote_port),
        f"event channel {remote_port} of domain {remote_domid}",
    )


def evtchn_notify(fd: int, port: int) -> None:
    """Make the other end of Xen's event channel pending; OSError."""
    check(lib.xv_evtchn_notify(fd, port), f"notifying by port {port}")
