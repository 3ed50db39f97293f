"""Test doubles around the store: a hypervisor, a ring page in memory, a run of one."""

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from queue import Queue
from struct import Struct
from typing import Any, Literal, TypeVar

import uvloop

from xenvirt.abi.ids import DomId, Gfn, Port
from xenvirt.abi.xs_wire import XENSTORE_RING_SIZE, XsWire
from xenvirt.errors import RingIndexError, StoreError
from xenvirt.xenstore.connection import Connection
from xenvirt.xenstore.engine import Engine
from xenvirt.xenstore.framing import Message, MessageDecoder
from xenvirt.xenstore.ring import RingServerTransport
from xenvirt.xenstore.server import attach_socket, serve

T = TypeVar("T")


@dataclass
class FakeDomains:
    """A hypervisor with the domains that a test says exist."""

    existing: set[int] = field(default_factory=lambda: {1, 2, 3})
    served: dict[int, tuple[int, int]] = field(default_factory=dict)

    def exists(self, domid: DomId) -> bool:
        return domid in self.existing

    def introduce(self, domid: DomId, gfn: Gfn, port: Port) -> None:
        if domid not in self.existing:
            raise StoreError("EINVAL")
        self.served[domid] = (gfn, port)

    def release(self, domid: DomId) -> None:
        del self.served[domid]


def decode(messages: list[bytes]) -> list[Message]:
    return MessageDecoder().feed(b"".join(messages))


def ask(
    engine: Engine, conn: Connection, type_: int, payload: bytes, tx_id: int = 0
) -> Message:
    """One request on the engine; returns the reply, leaves events in the outbox."""
    before = len(conn.outbox)
    engine.handle(conn, Message(type_, 7, tx_id, payload))
    return decode([conn.outbox.pop(before)])[0]


def result(reply: Message) -> bytes | str:
    """A reply's payload, or an error's name as text."""
    if reply.type == XsWire.ERROR:
        return reply.payload.rstrip(b"\0").decode()
    return reply.payload


def events(conn: Connection) -> list[tuple[str, str]]:
    """The (path, token) of every event that waits, taken away."""
    messages = decode(conn.take())
    assert all(message.type == XsWire.WATCH_EVENT for message in messages)
    assert all(message[1:3] == (0, 0) for message in messages)
    found = []
    for message in messages:
        path, token, end = message.payload.split(b"\0")
        assert end == b""
        found.append((path.decode(), token.decode()))
    return found


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine as the daemon would, on uvloop, for at most 10 s."""
    return uvloop.run(asyncio.wait_for(main, 10))


async def client_socket(
    engine: Engine, domid: int = 0, *, privileged: bool = True
) -> socket.socket:
    """The far end of a socket that the engine serves."""
    ours, theirs = socket.socketpair()
    await attach_socket(engine, theirs, domid, privileged=privileged)
    return ours


@contextlib.asynccontextmanager
async def connected(
    engine: Engine, domid: int = 0
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Raw streams to the engine, closed at the end."""
    sock = await client_socket(engine, domid, privileged=domid == 0)
    reader, writer = await asyncio.open_unix_connection(sock=sock)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


@contextlib.contextmanager
def running_server(path: str) -> Iterator[None]:
    """A server at `path` in a thread of its own, for clients that block."""
    started: Queue[Callable[[], object]] = Queue()

    async def main() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        server = await serve(Engine(FakeDomains()), path)
        started.put(lambda: loop.call_soon_threadsafe(stop.set))
        await stop.wait()
        await server.close()

    thread = threading.Thread(target=uvloop.run, args=(main(),))
    thread.start()
    stop = started.get(timeout=10)
    try:
        yield
    finally:
        stop()
        thread.join(10)


class EventChannel:
    """One end of an event channel that is two eventfds."""

    def __init__(self, fd: int, peer_fd: int) -> None:
        self.fd = fd
        self._peer_fd = peer_fd

    def notify(self) -> None:
        os.eventfd_write(self._peer_fd, 1)


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


@contextlib.contextmanager
def served_ring(
    engine: Engine, domid: int, buffer: bytearray, channel: EventChannel
) -> Iterator[None]:
    """Serve the ring page in the buffer."""
    page = MemoryRingPage(buffer, "server")
    server = RingServerTransport(engine, domid, page, channel)
    try:
        yield
    finally:
        server.close()


_WORD = Struct("<I")
_SIZE = XENSTORE_RING_SIZE
_REQ_CONS, _REQ_PROD, _RSP_CONS, _RSP_PROD = 2048, 2052, 2056, 2060


def _word(offset: int) -> property:
    def get(page: "MemoryRingPage") -> int:
        return page.word(offset)

    def put(page: "MemoryRingPage", value: int) -> None:
        page.set_word(offset, value)

    return property(get, put)


class MemoryRingPage:
    """One end of a ring page in a buffer that both ends share; without barriers."""

    server_features = _word(2064)
    connection = _word(2068)
    error = _word(2072)

    def __init__(self, buffer: bytearray, role: Literal["server", "client"]) -> None:
        self._buffer = buffer
        requests = (0, _REQ_PROD, _REQ_CONS)
        responses = (_SIZE, _RSP_PROD, _RSP_CONS)
        self._in = requests if role == "server" else responses
        self._out = responses if role == "server" else requests

    def word(self, offset: int) -> int:
        value: int = _WORD.unpack_from(self._buffer, offset)[0]
        return value

    def set_word(self, offset: int, value: int) -> None:
        _WORD.pack_into(self._buffer, offset, value & 0xFFFFFFFF)

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
