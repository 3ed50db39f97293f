"""What sets a vif's interface up, as messages of rtnetlink(7) that are built here.

A conversation of pyroute2's takes 2 ms and leaves some KiB behind, which a process
with a thousand vifs would pay for each of them.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

IFLA_ADDRESS: Final = 1
IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
IFLA_MASTER: Final = 10
IFLA_OPERSTATE: Final = 16
IFLA_IFALIAS: Final = 20
IFLA_AF_SPEC: Final = 26
IFLA_GSO_MAX_SIZE: Final = 41
IFLA_INET6_ADDR_GEN_MODE: Final = 8
"""Within AF_INET6, within IFLA_AF_SPEC."""

_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
RTMGRP_LINK: Final = 1
"""What a socket is bound to that wants to hear of every change of an interface."""
_RTM_NEWLINK: Final = 16
_RTM_DELLINK: Final = 17
_RTM_GETLINK: Final = 18
_RTM_NEWQDISC: Final = 36
_NLM_F_REQUEST: Final = 0x001
_NLM_F_ACK: Final = 0x004
_NLM_F_REPLACE: Final = 0x100
_NLM_F_DUMP: Final = 0x300
_NLM_F_CREATE: Final = 0x400
IFF_UP: Final = 1
_TC_H_ROOT: Final = 0xFFFFFFFF
_TCA_KIND: Final = 1

_HEADER: Final = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence number, port."""
_IFINFO: Final = struct.Struct("=BxHiII")
"""struct ifinfomsg: family, type, index, flags, which flags."""
_TCMSG: Final = struct.Struct("=BxxxiIII")
"""struct tcmsg: family, index, handle, parent, info."""
_ATTRIBUTE: Final = struct.Struct("=HH")
"""struct rtattr: length, type."""
_ERROR: Final = struct.Struct("=i")
"""struct nlmsgerr begins with it: 0, or an errno below 0."""
_ANSWER_MAX: Final = 4096
_DUMP_MAX: Final = 65536
"""Bytes of one datagram of a list; the kernel fills no more than 32 KiB."""


@dataclass(frozen=True, slots=True)
class LinkMessage:
    """What the kernel said of an interface; `attributes` are of the IFLA_ kinds.

    `gone`: it has left the network namespace, or was not there when asked about.
    """

    index: int
    flags: int
    attributes: dict[int, bytes]
    gone: bool


class Rtnetlink:
    """A socket in the network namespace of the thread that made it, until `close`."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
        self._sequence = 0

    def close(self) -> None:
        """Let go of the socket."""
        self._sock.close()

    def set_link(self, index: int, attributes: bytes, *, up: bool | None) -> None:
        """Change an interface; `up` None leaves it as it is. OSError if refused."""
        flags = (IFF_UP if up else 0, 0 if up is None else IFF_UP)
        body = _IFINFO.pack(socket.AF_UNSPEC, 0, index, *flags)
        self._request(_RTM_NEWLINK, 0, body + attributes)

    def set_qdisc(self, index: int, kind: str) -> None:
        """Put a root qdisc in place of the one that is there. OSError if refused."""
        body = _TCMSG.pack(socket.AF_UNSPEC, index, 0, _TC_H_ROOT, 0)
        body += text(_TCA_KIND, kind)
        self._request(_RTM_NEWQDISC, _NLM_F_CREATE | _NLM_F_REPLACE, body)

    def aliases(self) -> dict[str, str]:
        """Return the alias of each interface that has one, by name. OSError."""
        self._send(_RTM_GETLINK, _NLM_F_DUMP, _IFINFO.pack(0, 0, 0, 0, 0))
        found = {}
        for body in self._dump():
            values = dict(_attributes(body[_IFINFO.size :]))
            if IFLA_IFALIAS in values:
                name = values[IFLA_IFNAME].rstrip(b"\0").decode()
                alias = values[IFLA_IFALIAS].rstrip(b"\0").decode(errors="replace")
                found[name] = alias
        return found

    def _dump(self) -> Iterator[bytes]:
        """Yield the body of each message of the list that was asked for."""
        while True:
            for kind, body in _messages(self._sock.recv(_DUMP_MAX)):
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR:
                    _check(body)
                yield body

    def _request(self, kind: int, flags: int, body: bytes) -> None:
        self._send(kind, flags | _NLM_F_ACK, body)
        # Only the answer comes: the socket listens to no group.
        _check(self._sock.recv(_ANSWER_MAX)[_HEADER.size :])

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        length = _HEADER.size + len(body)
        flags |= _NLM_F_REQUEST
        header = _HEADER.pack(length, kind, flags, self._sequence, 0)
        self._sock.send(header + body)


def _check(body: bytes) -> None:
    """Raise what a struct nlmsgerr says, unless that is nothing."""
    (error,) = _ERROR.unpack_from(body)
    if error != 0:
        raise OSError(-error, os.strerror(-error))


def ask_link(index: int) -> bytes:
    """What asks for one interface: RTM_NEWLINK answers, or ENODEV."""
    length = _HEADER.size + _IFINFO.size
    header = _HEADER.pack(length, _RTM_GETLINK, _NLM_F_REQUEST, 0, 0)
    return header + _IFINFO.pack(socket.AF_UNSPEC, 0, index, 0, 0)


def link_messages(datagram: bytes) -> Iterator[LinkMessage]:
    """Yield what a datagram says of interfaces, asked for by `ask_link` or not."""
    for kind, body in _messages(datagram):
        gone = kind == _RTM_DELLINK
        if kind == _NLMSG_ERROR:
            gone = _ERROR.unpack_from(body)[0] == -errno.ENODEV
            # What was asked about is in the request, which follows.
            body = body[_ERROR.size + _HEADER.size :]
        if not gone and kind != _RTM_NEWLINK:
            continue
        family, _, index, flags, _ = _IFINFO.unpack_from(body)
        # A bridge tells of its ports in the same words.
        if family == socket.AF_UNSPEC:
            values = dict(_attributes(body[_IFINFO.size :]))
            yield LinkMessage(index, flags, values, gone)


def _messages(rest: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the messages of a datagram: kind, and what follows the header."""
    while len(rest) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(rest)
        if length < _HEADER.size:
            return
        yield kind, rest[_HEADER.size : length]
        rest = rest[_aligned(length) :]


def _attributes(rest: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the attributes that a message ends with: number, and value."""
    while len(rest) >= _ATTRIBUTE.size:
        length, number = _ATTRIBUTE.unpack_from(rest)
        if length < _ATTRIBUTE.size:
            return
        yield number, rest[_ATTRIBUTE.size : length]
        rest = rest[_aligned(length) :]


def _aligned(length: int) -> int:
    return length + -length % 4


def attribute(number: int, value: bytes) -> bytes:
    """An attribute, padded to where the next one may begin."""
    padding = b"\0" * (-len(value) % 4)
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), number) + value + padding


def number(kind: int, value: int) -> bytes:
    """An attribute that is an unsigned number of 32 bits."""
    return attribute(kind, struct.pack("=I", value))


def text(kind: int, value: str) -> bytes:
    """An attribute that is a string."""
    return attribute(kind, value.encode() + b"\0")
