"""What becomes of interfaces, as the kernel tells all who ask (rtnetlink(7)).

Somebody may rename, delete or move an interface that a vif has, or take it off its
bridge; the TAP's descriptor says nothing of most of it.
"""

import asyncio
import errno
import select
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from xenvirt.netdev import rtnetlink
from xenvirt.netdev.rtnetlink import LinkMessage

_INDEX: Final = struct.Struct("=I")
_MESSAGES_MAX: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class LinkState:
    """An interface as it is now; `master` is its bridge's index, 0 without one."""

    name: str
    master: int


Changed = Callable[[LinkState | None], None]
"""Called with None when the interface has left this network namespace."""


class LinkMonitor:
    """Follows interfaces of the namespace in which it is made, until `close`."""

    def __init__(self) -> None:
        self._followed: dict[int, Changed] = {}
        self._unsure: set[int] = set()
        self._sock = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK
        )
        self._sock.bind((0, rtnetlink.RTMGRP_LINK))
        # By way of one of its own: an error that waits, as ENOBUFS, is for uvloop the
        # end of a descriptor.
        self._poll = select.epoll()
        self._poll.register(self._sock, select.EPOLLIN)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._poll.fileno(), self._readable)

    def close(self) -> None:
        """Follow nothing any more."""
        self._loop.remove_reader(self._poll.fileno())
        self._poll.close()
        self._sock.close()

    def follow(self, index: int, changed: Changed) -> None:
        """Call `changed` from the loop with what the interface is now, and is then."""
        self._followed[index] = changed
        self._ask(index)

    def unfollow(self, index: int) -> None:
        """Call nobody about it; nothing happens if nobody was to be."""
        self._followed.pop(index, None)

    def _ask(self, index: int) -> None:
        self._sock.send(rtnetlink.ask_link(index))

    def _readable(self) -> None:
        while self._receive():
            if not self._unsure:
                return
        # One at a time: the answers about all would be more than the socket keeps.
        if self._unsure:
            self._ask(self._unsure.pop())

    def _receive(self) -> bool:
        """Take what the kernel has sent next; False if that is nothing."""
        try:
            data = self._sock.recv(_MESSAGES_MAX)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            # More has happened than the socket could keep. Until all that it has is
            # read, the kernel drops answers too.
            self._unsure = set(self._followed)
            return True
        for message in rtnetlink.link_messages(data):
            self._take(message)
        return True

    def _take(self, message: LinkMessage) -> None:
        changed = self._followed.get(message.index)
        if changed is None:
            return
        if message.gone:
            self.unfollow(message.index)
            changed(None)
        else:
            changed(_state(message.attributes))


def _state(attributes: dict[int, bytes]) -> LinkState:
    name = attributes.get(rtnetlink.IFLA_IFNAME, b"").rstrip(b"\0")
    master = attributes.get(rtnetlink.IFLA_MASTER, bytes(_INDEX.size))
    return LinkState(name.decode(errors="backslashreplace"), *_INDEX.unpack(master))
