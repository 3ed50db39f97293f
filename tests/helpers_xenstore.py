"""Around the store in tests: a ring page in memory, a run of one, raw clients."""

import asyncio
import contextlib
import errno
import mmap
import os
import select
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import uvloop

from xenvirt.abi.xs_wire import HEADER, XENSTORE_RING_SIZE, XsWire
from xenvirt.errors import RingIndexError, StoreError
from xenvirt.xenstore.framing import Message, MessageDecoder, encode
from xenvirt.xenstore.server import StoreServer, Upcall, UpcallKind

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine as the daemon would, on uvloop, for at most 10 s."""
    return uvloop.run(asyncio.wait_for(main, 10))


class EventChannel:
    """One end of an event channel that is two eventfds."""

    def __init__(self, fd: int, peer_fd: int) -> None:
        self.fd = fd
        self.peer_fd = peer_fd

    def notify(self) -> None:
        os.eventfd_write(self.peer_fd, 1)


@contextlib.contextmanager
def event_channel() -> Iterator[tuple[EventChannel, EventChannel]]:
    """Both ends of an event channel."""
    flags = os.EFD_NONBLOCK | os.EFD_CLOEXEC
    one, other = os.eventfd(0, flags), os.eventfd(0, flags)
    try:
        yield EventChannel(one, other), EventChannel(other, one)
    finally:
        os.close(one)
        os.close(other)


class RawClient:
    """A socket to the store, message by message; every wait ends after 10 s."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.events: list[Message] = []
        self._decoder = MessageDecoder()
        self._messages: deque[Message] = deque()
        sock.settimeout(10)

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def receive(self) -> Message | None:
        """The next reply or event; None at the end of the stream."""
        while not self._messages:
            data = self.sock.recv(65536)
            if not data:
                return None
            self._messages.extend(self._decoder.feed(data))
        return self._messages.popleft()

    def ask(self, type_: int, payload: bytes, tx_id: int = 0, req_id: int = 7) -> bytes:
        """The reply's payload; StoreError for an ERROR. Events go to `events`."""
        self.sock.sendall(encode(type_, req_id, tx_id, payload))
        return self.reply(req_id)

    def reply(self, req_id: int) -> bytes:
        """The payload of the next reply, which must be to `req_id`."""
        while True:
            message = self.receive()
            assert message is not None, "the store closed the connection"
            if message.type != XsWire.WATCH_EVENT:
                break
            self.events.append(message)
        assert message.req_id == req_id
        if message.type == XsWire.ERROR:
            raise StoreError(message.payload.rstrip(b"\0").decode())
        return message.payload


class RawRing:
    """A domain's ring, served by the store, and its raw other end."""

    def __init__(self, memory: mmap.mmap, channel: "EventChannel") -> None:
        self.memory = memory
        self.page = MemoryRingPage(memory, "client")
        self.channel = channel

    def wait(self) -> None:
        """Until the store notifies; fails after 10 s."""
        assert is_readable(self.channel.fd, 10), "the store has not notified"
        os.eventfd_read(self.channel.fd)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for notifications until the condition holds."""
        while not condition():
            self.wait()

    def notified(self) -> bool:
        """Whether the store has notified since somebody waited or asked last."""
        try:
            return os.eventfd_read(self.channel.fd) > 0
        except BlockingIOError:
            return False

    def send(self, data: bytes) -> None:
        """Write as there is room, notifying after each piece."""
        while True:
            written = self.page.write(data)
            data = data[written:]
            self.channel.notify()
            if not data:
                return
            self.wait()

    def receive(self, length: int) -> bytes:
        """Read so many bytes, notifying after each piece."""
        received = b""
        while True:
            piece = self.page.read(length - len(received))
            received += piece
            if piece:
                self.channel.notify()
            if len(received) == length:
                return received
            self.wait()

    def message(self) -> Message:
        """The next reply or event."""
        header = self.receive(HEADER.size)
        type_, req_id, tx_id, length = HEADER.unpack(header)
        return Message(type_, req_id, tx_id, self.receive(length))

    def ask(self, type_: int, payload: bytes, tx_id: int = 0) -> Message:
        """One request and the message that comes next."""
        self.send(encode(type_, 7, tx_id, payload))
        return self.message()


class RunningStore:
    """A StoreServer and ways to it. Made by `running_store`."""

    def __init__(self, server: StoreServer, path: str) -> None:
        self.server = server
        self.path = path
        self._stack = contextlib.ExitStack()

    def close(self) -> None:
        """Close the store, then every client that was handed out."""
        self.server.close()
        self._stack.close()

    def socket(
        self, domid: int = 0, *, privileged: bool | None = None
    ) -> socket.socket:
        """A socket to the store that speaks as `domid`; domain 0 is privileged."""
        ours, theirs = socket.socketpair()
        self._stack.callback(ours.close)
        self.server.adopt(
            theirs, domid, privileged=domid == 0 if privileged is None else privileged
        )
        return ours

    def client(self, domid: int = 0, *, privileged: bool | None = None) -> RawClient:
        """The same, message by message."""
        return RawClient(self.socket(domid, privileged=privileged))

    def listen(self, path: str, domid: int, *, privileged: bool = False) -> None:
        """Serve a path as `domid`."""
        self.server.listen(listening(path), domid, privileged=privileged)

    def ring(self, domid: int, *, first_index: int = 0xFFFFFFF0) -> RawRing:
        """A ring page of plain memory, served; its indices begin anywhere."""
        memory = mmap.mmap(-1, 4096)
        server_end, client_end = self._stack.enter_context(event_channel())
        memory[:2048] = os.urandom(2048)
        ring = RawRing(memory, client_end)
        for index in (_REQ_CONS, _REQ_PROD, _RSP_CONS, _RSP_PROD):
            ring.page.set_word(index, first_index)
        self.serve_ring(domid, memory, server_end)
        return ring

    def serve_ring(
        self,
        domid: int,
        memory: mmap.mmap,
        channel: "EventChannel",
        *,
        served: bool = False,
    ) -> None:
        """Serve the page that somebody else has made."""
        self.server.add_ring(
            domid, memoryview(memory), channel.fd, channel.peer_fd, served=served
        )

    def upcall(self) -> Upcall:
        """The next one; fails after 10 s."""
        while (upcall := self.server.next_upcall()) is None:
            assert is_readable(self.server.upcall_fd, 10), "there was no upcall"
        return upcall


def is_readable(fd: int, timeout_s: float = 0) -> bool:
    """Whether something can be read, now or within the time; of any number."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def listening(path: str) -> socket.socket:
    """A socket that listens at a path."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(path)
    sock.listen(128)
    return sock


@contextlib.contextmanager
def running_store(
    journal: Path | None = None, *, domains: Iterable[int] = (1, 2, 3)
) -> Iterator[RunningStore]:
    """A store with some domains and a privileged socket at `path`."""
    with tempfile.TemporaryDirectory() as directory:
        store = RunningStore(StoreServer(journal), f"{directory}/socket")
        try:
            store.server.listen(listening(store.path))
            for domid in domains:
                store.server.domain_created(domid)
            yield store
        finally:
            store.close()


@contextlib.contextmanager
def running_server(path: str) -> Iterator[StoreServer]:
    """A store at `path` that lets every domain be introduced."""
    server = StoreServer()
    server.listen(listening(path))
    stop = os.eventfd(0, os.EFD_CLOEXEC)
    thread = threading.Thread(target=_answer_all, args=(server, stop))
    thread.start()
    try:
        yield server
    finally:
        os.eventfd_write(stop, 1)
        thread.join(10)
        os.close(stop)
        server.close()


def _answer_all(server: StoreServer, stop: int) -> None:
    poll = select.poll()
    poll.register(server.upcall_fd, select.POLLIN)
    poll.register(stop, select.POLLIN)
    while stop not in dict(poll.poll()):
        while (upcall := server.next_upcall()) is not None:
            error = errno.ENOSYS if upcall.kind == UpcallKind.LIVE_UPDATE else 0
            server.answer(upcall.conn_id, error)


def until(condition: Callable[[], bool]) -> None:
    """Look again and again until the condition holds; fails after 10 s."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        os.sched_yield()


_SIZE = XENSTORE_RING_SIZE
_REQ_CONS, _REQ_PROD, _RSP_CONS, _RSP_PROD = 2048, 2052, 2056, 2060


def _word(offset: int) -> property:
    def get(page: "MemoryRingPage") -> int:
        return page.word(offset)

    def put(page: "MemoryRingPage", value: int) -> None:
        page.set_word(offset, value)

    return property(get, put)


class MemoryRingPage:
    """One end of a ring page in a shared buffer; x86 keeps its stores in order."""

    server_features = _word(2064)
    connection = _word(2068)
    error = _word(2072)

    def __init__(
        self, buffer: bytearray | mmap.mmap, role: Literal["server", "client"]
    ) -> None:
        self._buffer = buffer
        requests = (0, _REQ_PROD, _REQ_CONS)
        responses = (_SIZE, _RSP_PROD, _RSP_CONS)
        self._in = requests if role == "server" else responses
        self._out = responses if role == "server" else requests

    def word(self, offset: int) -> int:
        with memoryview(self._buffer) as view, view.cast("I") as words:
            return words[offset // 4]

    def set_word(self, offset: int, value: int) -> None:
        # In one store: Struct.pack_into zeroes first, and the server may look then.
        with memoryview(self._buffer) as view, view.cast("I") as words:
            words[offset // 4] = value & 0xFFFFFFFF

    def _indices(self, prod_at: int, cons_at: int) -> tuple[int, int]:
        prod, cons = self.word(prod_at), self.word(cons_at)
        if (prod - cons) & 0xFFFFFFFF > _SIZE:
            raise RingIndexError(f"ring indices {prod} and {cons}")
        return prod, cons

    def read(self, limit: int) -> bytes:
        base, prod_at, cons_at = self._in
        prod, cons = self._indices(prod_at, cons_at)
        count = min(limit, (prod - cons) & 0xFFFFFFFF)
        data = bytes(self._buffer[base + (cons + i) % _SIZE] for i in range(count))
        self.set_word(cons_at, cons + count)
        return data

    def write(self, data: bytes | memoryview) -> int:
        base, prod_at, cons_at = self._out
        prod, cons = self._indices(prod_at, cons_at)
        count = min(len(data), _SIZE - ((prod - cons) & 0xFFFFFFFF))
        for i in range(count):
            self._buffer[base + (prod + i) % _SIZE] = data[i]
        self.set_word(prod_at, prod + count)
        return count
