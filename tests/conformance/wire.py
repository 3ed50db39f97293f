"""Bytes of the XenStore protocol to and from a server, with nothing of xenvirt's."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap

HEADER: Final = struct.Struct("<IIII")

TIMEOUT_S: Final = 10.0
"""Longer than any server may take for anything but an unread event's time-out."""

RING_SIZE: Final = 1024
REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD = range(2048, 2064, 4)
SERVER_FEATURES, CONNECTION, RING_ERROR, EVTCHN_PORT = range(2064, 2080, 4)


class XS(IntEnum):
    """Message types, as xs_wire.h numbers them."""

    CONTROL = 0
    DIRECTORY = 1
    READ = 2
    GET_PERMS = 3
    WATCH = 4
    UNWATCH = 5
    TRANSACTION_START = 6
    TRANSACTION_END = 7
    INTRODUCE = 8
    RELEASE = 9
    GET_DOMAIN_PATH = 10
    WRITE = 11
    MKDIR = 12
    RM = 13
    SET_PERMS = 14
    WATCH_EVENT = 15
    ERROR = 16
    IS_DOMAIN_INTRODUCED = 17
    RESUME = 18
    SET_TARGET = 19
    RESTRICT = 20
    RESET_WATCHES = 21
    DIRECTORY_PART = 22
    GET_FEATURE = 23
    SET_FEATURE = 24
    GET_QUOTA = 25
    SET_QUOTA = 26


class Message(NamedTuple):
    """One message as it crossed the wire."""

    type: int
    req_id: int
    tx_id: int
    payload: bytes


class Closed(Exception):
    """The server has closed the connection."""


class Channel(Protocol):
    """A way for bytes to a server and back."""

    def send(self, data: bytes) -> None:
        """Send everything, or raise TimeoutError; Closed when nobody is there."""

    def receive(self, timeout_s: float) -> bytes:
        """What has come, at least one byte; TimeoutError, Closed."""

    def close(self) -> None:
        """Leave."""


class SocketChannel:
    """A Unix stream socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    @classmethod
    def to(cls, path: str) -> SocketChannel:
        """Connect to a server's path."""
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        return cls(sock)

    def send(self, data: bytes) -> None:
        """See Channel."""
        self._sock.settimeout(TIMEOUT_S)
        try:
            self._sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed from error

    def receive(self, timeout_s: float) -> bytes:
        """See Channel."""
        self._sock.settimeout(timeout_s)
        try:
            data = self._sock.recv(65536)
        except ConnectionResetError as error:
            raise Closed from error
        if not data:
            raise Closed
        return data

    def close(self) -> None:
        """See Channel."""
        self._sock.close()


class RingChannel:
    """The guest's half of a ring page, with a descriptor that the server wakes.

    `notify` tells the server; whatever is readable on `wake_fd` is read and dropped.
    """

    def __init__(
        self,
        page: mmap | memoryview,
        wake_fd: int,
        notify: Callable[[], None],
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.page = memoryview(page)
        # Words are read and written in one piece, which struct does not promise.
        self._words = self.page.cast("I")
        self._wake_fd = wake_fd
        self._notify = notify
        self._on_close = on_close

    def word(self, offset: int) -> int:
        """One of the words behind the two rings."""
        return self._words[offset // 4]

    def set_word(self, offset: int, value: int) -> None:
        """Write one; the server is not told."""
        self._words[offset // 4] = value & 0xFFFFFFFF

    def notify(self) -> None:
        """Send the server an event."""
        self._notify()

    def _wait(self, deadline: float) -> None:
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not select.select([self._wake_fd], [], [], remaining)[0]:
            raise TimeoutError
        os.read(self._wake_fd, 4096)

    def send(self, data: bytes) -> None:
        """See Channel."""
        deadline = time.monotonic() + TIMEOUT_S
        while data:
            prod, cons = self.word(REQ_PROD), self.word(REQ_CONS)
            free = RING_SIZE - ((prod - cons) & 0xFFFFFFFF)
            start = prod % RING_SIZE
            chunk = data[: min(free, RING_SIZE - start)]
            if not chunk:
                self._wait(deadline)
                continue
            self.page[start : start + len(chunk)] = chunk
            self.set_word(REQ_PROD, prod + len(chunk))
            self._notify()
            data = data[len(chunk) :]

    def receive(self, timeout_s: float) -> bytes:
        """See Channel."""
        deadline = time.monotonic() + timeout_s
        while True:
            cons = self.word(RSP_CONS)
            count = (self.word(RSP_PROD) - cons) & 0xFFFFFFFF
            if count:
                break
            self._wait(deadline)
        start = RING_SIZE + cons % RING_SIZE
        data = bytes(self.page[start : min(start + count, 2 * RING_SIZE)])
        self.set_word(RSP_CONS, cons + len(data))
        self._notify()
        return data

    def close(self) -> None:
        """See Channel."""
        self._on_close()


class Wire:
    """One connection: requests out, replies and events in, in the order they come."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._buffer = b""
        self._next_req_id = 1
        self.arrived: deque[Message] = deque()
        """Every message that came and that nobody has taken."""

    def send(
        self, type_: int, payload: bytes, tx_id: int = 0, req_id: int | None = None
    ) -> int:
        """Send one request; returns its req_id."""
        if req_id is None:
            req_id, self._next_req_id = self._next_req_id, self._next_req_id + 1
        self.channel.send(HEADER.pack(type_, req_id, tx_id, len(payload)) + payload)
        return req_id

    def receive(self, timeout_s: float = TIMEOUT_S) -> Message:
        """The next message of any kind."""
        deadline = time.monotonic() + timeout_s
        while (message := self._cut()) is None:
            self._buffer += self.channel.receive(deadline - time.monotonic())
        return message

    def _cut(self) -> Message | None:
        if len(self._buffer) < HEADER.size:
            return None
        type_, req_id, tx_id, length = HEADER.unpack_from(self._buffer)
        end = HEADER.size + length
        if len(self._buffer) < end:
            return None
        payload, self._buffer = self._buffer[HEADER.size : end], self._buffer[end:]
        return Message(type_, req_id, tx_id, payload)

    def ask(self, type_: int, payload: bytes, tx_id: int = 0) -> Message:
        """Send a request and wait for its reply, which stays in `arrived` too."""
        req_id = self.send(type_, payload, tx_id)
        while True:
            message = self.receive()
            self.arrived.append(message)
            if message.type != XS.WATCH_EVENT and message.req_id == req_id:
                return message

    def settle(self) -> list[Message]:
        """Everything that was sent before now, and take it away.

        A server sends in order, so what it had to say has come when it answers.
        """
        self.ask(XS.GET_DOMAIN_PATH, b"0\0")
        self.arrived.pop()
        messages = list(self.arrived)
        self.arrived.clear()
        return messages

    def is_closed(self, timeout_s: float = TIMEOUT_S) -> bool:
        """Whether the server closes the connection within the time."""
        try:
            while True:
                self.receive(timeout_s)
        except Closed:
            return True
        except TimeoutError:
            return False

    def close(self) -> None:
        """Leave without a word."""
        self.channel.close()
