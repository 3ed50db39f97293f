"""A client that sends what it is told, bytes or requests, right or wrong."""

import select
import socket
from typing import Final

from xenvirt.abi.xs_wire import XsWire
from xenvirt.xenstore.framing import Message, MessageDecoder, encode

PATIENCE_S: Final = 30
CHUNK: Final = 1 << 16

Answer = bytes | str
"""A reply's payload, or an error's name as text."""


class RawClient:
    """A blocking connection; events are kept apart from replies."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.events: list[tuple[str, bytes]] = []
        self._decoder = MessageDecoder()
        self._replies: list[Message] = []
        sock.settimeout(PATIENCE_S)

    def send(self, data: bytes) -> None:
        """Bytes as they are."""
        self.sock.sendall(data)

    def request(self, type_: int, payload: bytes = b"", tx_id: int = 0) -> None:
        """A request whose reply is not waited for."""
        self.send(encode(type_, 1, tx_id, payload))

    def reply(self) -> Message:
        """The next reply; raises ConnectionError when the server has closed."""
        while not self._replies:
            data = self.sock.recv(CHUNK)
            if not data:
                raise ConnectionError("closed by the server")
            self._sort(data)
        return self._replies.pop(0)

    def _sort(self, data: bytes) -> None:
        for message in self._decoder.feed(data):
            if message.type == XsWire.WATCH_EVENT:
                path, token, end = message.payload.split(b"\0")
                assert end == b""
                self.events.append((path.decode(), token))
            else:
                self._replies.append(message)

    def result(self, type_: int, payload: bytes = b"", tx_id: int = 0) -> Answer:
        """One request's reply: its payload, or the error's name as text."""
        self.request(type_, payload, tx_id)
        return self.answer()

    def answer(self) -> Answer:
        """The next reply: its payload, or the error's name as text."""
        reply = self.reply()
        if reply.type == XsWire.ERROR:
            return reply.payload.removesuffix(b"\0").decode()
        return reply.payload

    def do(self, type_: int, payload: bytes = b"", tx_id: int = 0) -> None:
        """A request that succeeds with OK."""
        found = self.result(type_, payload, tx_id)
        assert found == b"OK\0", (XsWire(type_).name, payload[:80], found)

    def start(self) -> int:
        """A new transaction's id."""
        started = self.result(XsWire.TRANSACTION_START, b"\0")
        assert isinstance(started, bytes), started
        return int(started[:-1])

    def heard(self) -> list[str]:
        """The paths of all events up to now, taken away."""
        assert self.result(XsWire.GET_DOMAIN_PATH, b"0\0") == b"/local/domain/0\0"
        found = [path for path, _ in self.events]
        self.events.clear()
        return found

    def pipeline(
        self, data: bytes, replies: int, patience_s: float = PATIENCE_S
    ) -> list[Message]:
        """Send requests while reading; returns so many replies.

        Raises TimeoutError when nothing has moved for so long, and ConnectionError
        when the server has closed.
        """
        waiting = memoryview(data)
        found: list[Message] = []
        self.sock.setblocking(False)
        try:
            while len(found) < replies or waiting:
                wanted = [self.sock] if waiting else []
                readable, writable, _ = select.select(
                    [self.sock], wanted, [], patience_s
                )
                if not readable and not writable:
                    raise TimeoutError(f"{len(found)} of {replies} replies")
                if writable:
                    waiting = waiting[self.sock.send(waiting[:CHUNK]) :]
                if readable:
                    data = self.sock.recv(CHUNK)
                    if not data:
                        raise ConnectionError("closed by the server")
                    self._sort(data)
                    found += self._replies
                    self._replies.clear()
        finally:
            self.sock.settimeout(PATIENCE_S)
        return found

    def send_all_it_takes(self, data: bytes) -> int:
        """Repeat the bytes, reading nothing, until the server takes no more.

        That is: until it has taken nothing for a fifth of a second. Returns the bytes.
        """
        taken = 0
        self.sock.setblocking(False)
        while select.select([], [self.sock], [], 0.2)[1]:
            at = taken % len(data)
            taken += self.sock.send(memoryview(data)[at:])
        self.sock.settimeout(PATIENCE_S)
        return taken

    def is_closed(self) -> bool:
        """Whether the server ends the stream, after whatever waits; waits for it."""
        try:
            while data := self.sock.recv(CHUNK):
                self._sort(data)
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Close the socket; may be repeated."""
        self.sock.close()

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
