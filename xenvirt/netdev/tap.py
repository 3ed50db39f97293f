"""A TAP device as both ends of a vif hold it: a descriptor a queue, one frame a read.

Every frame has a `struct virtio_net_hdr` of 10 bytes in front
(linux/if_tun.h, Documentation/networking/tuntap.rst). Offloads say what the
*reader* of the descriptor can take; the kernel segments and sums the rest.
"""

import contextlib
import errno
import fcntl
import os
import socket
import struct
from typing import Final

from xenvirt.errors import LocalError, NotPermittedError, XenvirtError
from xenvirt.netdev.ifname import check_ifname

VNET_HDR_SIZE: Final = 10
"""Bytes: struct virtio_net_hdr without `num_buffers`."""

_DEV_NET_TUN: Final = "/dev/net/tun"

_TUNSETIFF: Final = 0x400454CA
_TUNSETPERSIST: Final = 0x400454CB
_TUNSETOWNER: Final = 0x400454CC
_TUNSETOFFLOAD: Final = 0x400454D0
_TUNSETVNETHDRSZ: Final = 0x400454D8
_TUNSETCARRIER: Final = 0x400454E2
_TUNSETQUEUE: Final = 0x400454D9
_TUNGETIFF: Final = 0x800454D2

_IFF_TAP: Final = 0x0002
_IFF_NO_CARRIER: Final = 0x0040
_IFF_MULTI_QUEUE: Final = 0x0100
_IFF_ATTACH_QUEUE: Final = 0x0200
_IFF_DETACH_QUEUE: Final = 0x0400
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_IFREQ: Final = struct.Struct("16sH22x")

_TUN_F_CSUM: Final = 0x01
_TUN_F_TSO4: Final = 0x02
_TUN_F_TSO6: Final = 0x04


class TapHeldError(LocalError):
    """A TAP of that name is there, and a process has it open."""


_reserved: Final[list[int]] = []


def open_tap(
    name: str,
    *,
    persist: bool,
    owner_uid: int | None = None,
    owner: str = "",
    multi_queue: bool = False,
) -> int:
    """Open the TAP `name` of the calling thread's namespace, made if not there.

    Returns a non-blocking, close-on-exec descriptor that the caller owns, with
    offloads off. Without `persist` the interface goes when it is closed. The
    user `owner_uid`, else the caller, may open it again without CAP_NET_ADMIN.

    `multi_queue`: make one that `open_queue` can give further descriptors. One that
    exists stays of the kind that it is (`is_multi_queue`): making it anew would cost
    it its addresses and its bridge.

    An interface that exists is taken only if its alias says that it is of the
    daemon in `owner` (`links.alias`), or with "" of any daemon, so set the alias
    before the process can die: open with `persist=False`, then
    `links.configure(alias=…)`, then `set_persist`.

    Raises UsageError for a bad name, NotPermittedError, TapHeldError, and LocalError
    when the name is taken or there is no TUN driver.
    """
    check_ifname(name)
    _refuse_foreign(name, owner)
    fd = _open_tun()
    try:
        _attach(fd, name, multi_queue=multi_queue)
        fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("i", VNET_HDR_SIZE))
        set_offload(fd, csum=False, tso4=False, tso6=False)
        # Always: any user may attach to a persistent TAP that has no owner.
        uid = os.geteuid() if owner_uid is None else owner_uid
        fcntl.ioctl(fd, _TUNSETOWNER, uid)
        set_persist(fd, persist)
    except BaseException:
        os.close(fd)
        raise
    return fd


def is_multi_queue(fd: int) -> bool:
    """Say whether the descriptor's TAP can have several queues."""
    answer = fcntl.ioctl(fd, _TUNGETIFF, bytes(_IFREQ.size))
    _, flags = _IFREQ.unpack(answer)
    return bool(flags & _IFF_MULTI_QUEUE)


def is_there(fd: int) -> bool:
    """Say whether the descriptor's TAP is still there, in whichever namespace."""
    try:
        fcntl.ioctl(fd, _TUNGETIFF, bytes(_IFREQ.size))
    except OSError as error:
        if error.errno != errno.EBADFD:
            raise
        return False
    return True


def open_queue(name: str, *, carrier: bool) -> int:
    """Open one more queue of a multi-queue TAP that the caller holds.

    Returns a descriptor as `open_tap` does; owner, offloads and the size of the
    header are the TAP's. The queues' order is that in which they were opened.
    `carrier` says whether the cable is plugged in.
    """
    fd = _open_tun()
    try:
        _set_iff(fd, name, _IFF_MULTI_QUEUE | (0 if carrier else _IFF_NO_CARRIER))
        # Some Linux plugs it in here, does not know the flag, or heeds it alone.
        set_carrier(fd, carrier)
    except OSError as error:
        os.close(fd)
        raise _attach_error(name, error) from error
    return fd


def set_queue(fd: int, on: bool) -> None:
    """Attach a queue to its multi-queue TAP again as the last one, or detach it.

    A detached queue has no frames. Detaching one moves the last one to its place,
    so detach the last one first. It waits for an RCU grace period, milliseconds.
    """
    flags = _IFF_ATTACH_QUEUE if on else _IFF_DETACH_QUEUE
    fcntl.ioctl(fd, _TUNSETQUEUE, _IFREQ.pack(b"", flags))


def require_driver() -> None:
    """Raise what `open_tap` would, unless there is a TUN driver to open TAPs with."""
    os.close(_open_tun())


def set_offload(fd: int, *, csum: bool, tso4: bool, tso6: bool) -> None:
    """Say what the descriptor's reader takes: blank checksums, TCP frames to 64 KiB.

    Raises ValueError for segmentation without checksums, which Linux cannot do.
    """
    if (tso4 or tso6) and not csum:
        raise ValueError("tso4 and tso6 need csum")
    flags = csum * _TUN_F_CSUM | tso4 * _TUN_F_TSO4 | tso6 * _TUN_F_TSO6
    fcntl.ioctl(fd, _TUNSETOFFLOAD, flags)


def set_carrier(fd: int, on: bool) -> None:
    """Plug the cable in or pull it; the interface must be up to show it."""
    fcntl.ioctl(fd, _TUNSETCARRIER, struct.pack("i", on))


def set_persist(fd: int, on: bool) -> None:
    """Say whether the interface stays when the descriptor is closed."""
    fcntl.ioctl(fd, _TUNSETPERSIST, int(on))


def reserve(count: int) -> None:
    """Open the device `count` times ahead, for a process that is to lose root.

    Where only root may open it, CAP_NET_ADMIN alone makes no TAP. The descriptors
    belong to the calling thread's namespace. Where everybody may, none is opened.
    """
    with contextlib.suppress(OSError):
        if os.stat(_DEV_NET_TUN).st_mode & 0o006 != 0o006:
            _reserved.extend(_open_device() for _ in range(count))


def _open_device() -> int:
    return os.open(_DEV_NET_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def _open_tun() -> int:
    if _reserved:
        return _reserved.pop()
    try:
        return _open_device()
    except OSError as error:
        what = f"cannot open {_DEV_NET_TUN}"
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            raise LocalError(
                what,
                cause="there is no TUN/TAP driver here",
                hint="modprobe tun; or, in a container: mkdir -p /dev/net && "
                "mknod -m 666 /dev/net/tun c 10 200",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise NotPermittedError(
                what,
                cause=f"user {os.geteuid()} may not ({error.strerror})",
                hint="run it as root, with sudo; a container needs "
                "--device /dev/net/tun --cap-add NET_ADMIN",
            ) from error
        raise XenvirtError(what, cause=str(error.strerror)) from error


def _attach(fd: int, name: str, *, multi_queue: bool) -> None:
    wanted, other = _IFF_MULTI_QUEUE, 0
    if not multi_queue:
        wanted, other = other, wanted
    try:
        try:
            _set_iff(fd, name, wanted)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # There is one, of the other kind; or it is not a TAP at all.
            _set_iff(fd, name, other)
    except OSError as error:
        raise _attach_error(name, error) from error


def _set_iff(fd: int, name: str, flags: int) -> None:
    flags |= _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
    fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(name.encode(), flags))


def _attach_error(name: str, error: OSError) -> XenvirtError:
    what = f"cannot open TAP {name}"
    match error.errno:
        case errno.EPERM:
            return NotPermittedError(
                what,
                cause=f"user {os.geteuid()} has no CAP_NET_ADMIN in this network "
                "namespace, or the TAP belongs to another user",
                hint="run it as root, with sudo",
            )
        case errno.EBUSY:
            return TapHeldError(
                what,
                cause="another process holds it",
                hint=f"grep -l 'iff:.*{name}' /proc/[0-9]*/fdinfo/* tells which; "
                "end that one, or choose another name",
            )
        case errno.EINVAL:
            return LocalError(
                what,
                cause="an interface of that name exists and is not a TAP",
                hint=f"choose another name, or: ip link delete {name}",
            )
    return XenvirtError(what, cause=str(error.strerror))


def _refuse_foreign(name: str, owner: str) -> None:
    try:
        socket.if_nametoindex(name)
    except OSError:
        return
    # Only here, where the name is taken, is netlink worth its import: an alias
    # has no ioctl, and /sys may show another namespace.
    from xenvirt.netdev import links

    link = links.get(name)
    if link is None:
        return
    ours = links.alias(owner, "") if owner else links.ALIAS_PREFIX
    if link.alias.startswith(ours):
        # A multi-queue one would let anybody in as a further queue.
        if link.tap_queues > 0:
            raise _attach_error(name, OSError(errno.EBUSY, os.strerror(errno.EBUSY)))
        return
    whose = f"is of {link.alias}" if link.is_ours else "is not xenvirt's"
    raise LocalError(
        f"cannot open TAP {name}",
        cause=f"an interface of that name exists and {whose}",
        hint=f"choose another name, or: ip link delete {name}",
    )
