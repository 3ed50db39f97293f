"""A hypercall on the socket: one SEQPACKET packet, JSON and descriptors beside it.

A packet from the other side is only data until `receive` has returned it: sizes are
bounded, and the descriptors of a packet that is refused are closed.
"""

import contextlib
import json
import os
import socket
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from xenvirt.errors import HypercallError

MAX_REQUEST: Final = 4096
MAX_REPLY: Final = 65536
MAX_FDS: Final = 253
"""SCM_MAX_FD: the kernel takes no more with one packet."""

_INT_LEN: Final = array("i").itemsize

JSON_TYPE: Final = {
    dict: "an object", list: "an array", str: "a string", bool: "a truth value",
    int: "a number", float: "a number", type(None): "null",
}  # fmt: skip
"""What JSON calls the types that it makes."""


@dataclass(slots=True)
class Packet:
    """A request or a reply; whoever holds it owns the descriptors."""

    body: dict[str, object]
    fds: list[int] = field(default_factory=list)


def close_fds(fds: Iterable[int]) -> None:
    """Close descriptors of which each may be closed already."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def encode(body: dict[str, object], limit: int) -> bytes:
    """Return a packet's bytes; E2BIG if they are more than `limit`."""
    data = json.dumps(body, separators=(",", ":")).encode("ascii")
    if len(data) > limit:
        raise HypercallError(
            "E2BIG", f"a packet of {len(data)} bytes is over the limit of {limit}"
        )
    return data


def decode(data: bytes, limit: int) -> dict[str, object]:
    """Return the object in a packet; EINVAL, in words, for anything else."""
    if len(data) > limit:
        raise HypercallError("EINVAL", f"a packet has more than {limit} bytes")
    try:
        # Not UTF-8, not JSON and a number too long are ValueError.
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise HypercallError("EINVAL", f"a packet is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise HypercallError(
            "EINVAL", f"a packet is {JSON_TYPE[type(body)]}, not an object"
        )
    return body


def send(sock: socket.socket, data: bytes, fds: Sequence[int] = ()) -> None:
    """Send one packet whole; BlockingIOError if the other side does not read."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
    sock.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)


def receive(sock: socket.socket, limit: int) -> Packet | None:
    """Receive one packet; None when the other side has closed.

    Raises HypercallError, with nothing left open, for a packet that is malformed;
    the connection is still good. BlockingIOError and ConnectionError are the
    socket's own.
    """
    # Not socket.recv_fds, which ignores its flags in CPython 3.11.
    data, messages, flags, _ = sock.recvmsg(
        limit + 1, socket.CMSG_SPACE(MAX_FDS * _INT_LEN), socket.MSG_CMSG_CLOEXEC
    )
    fds = _descriptors(messages)
    try:
        if flags & socket.MSG_CTRUNC:
            raise HypercallError("EMFILE", "descriptors of a packet were lost")
        if not data and not fds:
            return None
        return Packet(decode(data, limit), fds)
    except HypercallError:
        close_fds(fds)
        raise


def _descriptors(messages: Iterable[tuple[int, int, bytes]]) -> list[int]:
    fds = array("i")
    for level, kind, data in messages:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            # Cut to whole numbers: a truncated message may end within one.
            fds.frombytes(data[: len(data) - len(data) % _INT_LEN])
    return list(fds)
