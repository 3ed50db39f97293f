"""A domain's end of a XenStore ring page, with every word of it in the test's hands."""

import mmap
import os
import select
import time
from collections.abc import Callable
from typing import Final

from xenvirt.abi.xs_wire import XENSTORE_RING_SIZE, XsWire
from xenvirt.xenstore.framing import Message, MessageDecoder, encode

PATIENCE_S: Final = 30
PAGE_SIZE: Final = 4096
SIZE: Final = XENSTORE_RING_SIZE
REQ_CONS: Final = 2048
REQ_PROD: Final = 2052
RSP_CONS: Final = 2056
RSP_PROD: Final = 2060
FEATURES: Final = 2064
CONNECTION: Final = 2068
ERROR: Final = 2072

Answer = bytes | str


class RawRing:
    """The page, and the two eventfds of its event channel.

    `to_server` is what the server waits on, `to_client` what it notifies.
    """

    def __init__(self, start: int = 0) -> None:
        self.memory_fd = os.memfd_create("ring", os.MFD_CLOEXEC)
        os.ftruncate(self.memory_fd, PAGE_SIZE)
        self._map = mmap.mmap(self.memory_fd, PAGE_SIZE)
        self._words = memoryview(self._map).cast("I")
        flags = os.EFD_NONBLOCK | os.EFD_CLOEXEC
        self.to_server = os.eventfd(0, flags)
        self.to_client = os.eventfd(0, flags)
        self.events: list[tuple[str, bytes]] = []
        self.start_anew(start)
        self._poll = select.poll()
        self._poll.register(self.to_client, select.POLLIN)

    @staticmethod
    def map(fd: int) -> memoryview:
        """The page, for who serves it."""
        return memoryview(mmap.mmap(fd, PAGE_SIZE))

    def start_anew_here(self) -> None:
        """Remember nothing of what came, as after a reconnection."""
        self._decoder = MessageDecoder()
        self._replies: list[Message] = []

    def start_anew(self, start: int = 0) -> None:
        """The same with the indices of an idle ring, from `start`."""
        self.start_anew_here()
        for offset in (REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD):
            self.set_word(offset, start)

    def word(self, offset: int) -> int:
        """A word of the page."""
        return self._words[offset // 4]

    def set_word(self, offset: int, value: int) -> None:
        """Overwrite a word of the page, in one store.

        Not by Struct.pack_into, which zeroes the bytes first: the server might look.
        """
        self._words[offset // 4] = value & 0xFFFFFFFF

    def notify(self) -> None:
        """Wake the server."""
        os.eventfd_write(self.to_server, 1)

    def wait_until(self, condition: Callable[[], bool], patience_s: float) -> bool:
        """Wait for notifications until the condition holds, or for so long."""
        deadline = time.monotonic() + patience_s
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if self._poll.poll(min(left, 0.1) * 1000):
                os.eventfd_read(self.to_client)
        return True

    def put(self, data: bytes) -> int:
        """Produce as much as there is room for and notify; returns the bytes taken."""
        prod, cons = self.word(REQ_PROD), self.word(REQ_CONS)
        count = min(len(data), SIZE - (prod - cons) % 2**32)
        at = prod % SIZE
        first = min(count, SIZE - at)
        self._map[at : at + first] = data[:first]
        self._map[: count - first] = data[first:count]
        self.set_word(REQ_PROD, prod + count)
        self.notify()
        return count

    def get(self, limit: int = SIZE) -> bytes:
        """Consume up to so many bytes of what is there, and notify."""
        prod, cons = self.word(RSP_PROD), self.word(RSP_CONS)
        count = (prod - cons) % 2**32
        assert count <= SIZE, "the server's indices are wrong"
        count = min(count, limit)
        at = SIZE + cons % SIZE
        first = min(count, 2 * SIZE - at)
        data = self._map[at : at + first] + self._map[SIZE : SIZE + count - first]
        if count:
            self.set_word(RSP_CONS, cons + count)
            self.notify()
        return data

    def send(self, data: bytes) -> None:
        """All the bytes, reading replies whenever the ring is full."""
        while data:
            taken = self.put(data)
            data = data[taken:]
            if not taken:
                self._sort(self.get())
                has_moved = self.wait_until(
                    lambda: self.room() > 0 or self.has_reply(), PATIENCE_S
                )
                assert has_moved, "the server does not read"

    def room(self) -> int:
        """Bytes that can be produced now."""
        return SIZE - (self.word(REQ_PROD) - self.word(REQ_CONS)) % 2**32

    def has_reply(self) -> bool:
        """Whether there are bytes to consume."""
        return self.word(RSP_PROD) != self.word(RSP_CONS)

    def request(self, type_: int, payload: bytes = b"", tx_id: int = 0) -> None:
        """A request whose reply is not waited for."""
        self.send(encode(type_, 1, tx_id, payload))

    def reply(self) -> Message:
        """The next reply; raises ConnectionError if the server has given up."""
        while not self._replies:
            self.wait_until(
                lambda: self.has_reply() or self.word(ERROR) != 0, PATIENCE_S
            )
            if not self.has_reply():
                raise ConnectionError(f"ring error {self.word(ERROR)}")
            self._sort(self.get())
        return self._replies.pop(0)

    def _sort(self, data: bytes) -> None:
        for message in self._decoder.feed(data):
            if message.type == XsWire.WATCH_EVENT:
                path, token, _ = message.payload.split(b"\0")
                self.events.append((path.decode(), token))
            else:
                self._replies.append(message)

    def result(self, type_: int, payload: bytes = b"", tx_id: int = 0) -> Answer:
        """One request's reply: its payload, or the error's name as text."""
        self.request(type_, payload, tx_id)
        reply = self.reply()
        if reply.type == XsWire.ERROR:
            return reply.payload.removesuffix(b"\0").decode()
        return reply.payload

    def do(self, type_: int, payload: bytes = b"", tx_id: int = 0) -> None:
        """A request that succeeds with OK."""
        found = self.result(type_, payload, tx_id)
        assert found == b"OK\0", (XsWire(type_).name, payload[:80], found)

    def fails_with(self, error: int) -> bool:
        """Whether the server gives the ring up with that error; waits for it."""
        return self.wait_until(lambda: self.word(ERROR) == error, PATIENCE_S)

    def close(self) -> None:
        """Unmap the page, close the descriptors; may be repeated."""
        if not self._map.closed:
            self._words.release()
            self._map.close()
            for fd in (self.memory_fd, self.to_server, self.to_client):
                os.close(fd)

    def __enter__(self) -> "RawRing":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
