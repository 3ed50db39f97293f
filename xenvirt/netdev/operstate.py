"""Waiting for Linux to send by an interface: until then it drops the frames.

That the cable was plugged in is noted at once, and acted upon later, by a worker of the
kernel's that shares its lock with every change of an interface on the machine. Only
IFLA_OPERSTATE tells when (RFC 2863): IFF_RUNNING is set while that is not known yet.
"""

import errno
import select
import socket
import time
from collections.abc import Iterator
from typing import Final

from xenvirt.netdev import rtnetlink

_OPER_UP: Final = b"\x06"
_ANSWER_MAX: Final = 1 << 16


def wait_until_up(ifname: str, timeout_s: float) -> bool:
    """Return True once Linux sends by `ifname`, in the calling thread's namespace.

    False if it is down or gone, or has no carrier after `timeout_s`.
    """
    try:
        index = socket.if_nametoindex(ifname)
    except OSError:
        return False
    for flags, operstate in _states(index, time.monotonic() + timeout_s):
        if operstate == _OPER_UP:
            return True
        if not flags & rtnetlink.IFF_UP:
            return False
    return False


def _states(index: int, deadline: float) -> Iterator[tuple[int, bytes]]:
    """Yield flags and IFLA_OPERSTATE now and after every change, while there is one."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as sock:
        sock.bind((0, rtnetlink.RTMGRP_LINK))
        sock.send(rtnetlink.ask_link(index))
        # Not by select, which ends at descriptor 1023.
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        while (left_s := deadline - time.monotonic()) > 0:
            if not poll.poll(1000 * left_s):
                return
            try:
                answer = sock.recv(_ANSWER_MAX)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                # More has happened than the socket could keep.
                _drain(sock)
                sock.send(rtnetlink.ask_link(index))
                continue
            for message in rtnetlink.link_messages(answer):
                if message.index != index:
                    continue
                if message.gone:
                    return
                operstate = message.attributes.get(rtnetlink.IFLA_OPERSTATE, b"")
                yield message.flags, operstate


def _drain(sock: socket.socket) -> None:
    """Read all that a socket has; until then the kernel drops answers too."""
    while True:
        try:
            sock.recv(_ANSWER_MAX, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
