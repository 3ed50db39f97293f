"""A live update: one process leaves its clients to the next, which it becomes."""

import contextlib
import errno
import mmap
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers_xenstore import (
    RawClient,
    RawRing,
    RunningStore,
    event_channel,
    listening,
    running_store,
)
from xenvirt.abi.xs_wire import XsWire
from xenvirt.errors import StoreError
from xenvirt.xenstore.framing import encode
from xenvirt.xenstore.server import StoreServer, UpcallKind
from xenvirt.xenstore.trace import TraceDecoder

# Serves domain 1's ring, and becomes itself again at each request for it.
PROGRAM = """
import mmap, os, select, sys
from pathlib import Path
from xenvirt.xenstore.server import StoreServer, UpcallKind

journal, memory, pending, notify, listen, trace, state, conn_id = sys.argv[1:]
page = mmap.mmap(int(memory), 4096)
if state == "-":
    import socket
    server = StoreServer(Path(journal))
    server.domain_created(1)
    server.listen(socket.socket(fileno=int(listen)))
    server.trace(socket.socket(fileno=int(trace)))
else:
    server = StoreServer.restore(int(state), Path(journal))
    os.close(int(state))
server.add_ring(1, memoryview(page), int(pending), int(notify))
if state != "-":
    server.answer(int(conn_id))
while True:
    select.select([server.upcall_fd], [], [])
    while (upcall := server.next_upcall()) is not None:
        if upcall.kind != UpcallKind.LIVE_UPDATE:
            server.answer(upcall.conn_id)
            continue
        try:
            fd = server.save(force="-F" in upcall.parameters)
        except OSError as error:
            server.answer(upcall.conn_id, error.errno)
            continue
        os.set_inheritable(fd, True)
        again = [*sys.argv[:-2], str(fd), str(upcall.conn_id)]
        os.execv(sys.executable, [sys.executable, *again])
"""


class Updated:
    """A process that serves a path, a trace and a ring."""

    def __init__(
        self, path: str, trace: str, ring: RawRing, stack: contextlib.ExitStack
    ) -> None:
        self.path = path
        self.trace = trace
        self.ring = ring
        self._stack = stack

    def client(self) -> RawClient:
        sock = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        sock.connect(self.path)
        return RawClient(sock)

    def update(self, client: RawClient, options: bytes = b"") -> bytes:
        return client.ask(XsWire.CONTROL, b"live-update\0-s\0" + options)


@pytest.fixture
def updated(tmp_path: Path) -> Iterator[Updated]:
    path, trace = str(tmp_path / "socket"), str(tmp_path / "trace")
    memory_fd = os.memfd_create("ring", 0)
    os.truncate(memory_fd, 4096)
    with (
        event_channel() as (server_end, client_end),
        listening(path) as sock,
        listening(trace) as trace_sock,
        mmap.mmap(memory_fd, 4096) as memory,
        contextlib.ExitStack() as stack,
    ):
        fds = [memory_fd, server_end.fd, server_end.peer_fd]
        fds += [sock.fileno(), trace_sock.fileno()]
        program = tmp_path / "program.py"
        program.write_text(PROGRAM)
        arguments = [str(tmp_path / "journal"), *map(str, fds), "-", "0"]
        process = subprocess.Popen(
            [sys.executable, str(program), *arguments],
            pass_fds=fds,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        try:
            yield Updated(path, trace, RawRing(memory, client_end), stack)
        finally:
            process.kill()
            process.wait(10)
            os.close(memory_fd)


def test_no_client_notices(updated: Updated) -> None:
    operator, client, slow = (updated.client() for _ in range(3))
    operator.ask(XsWire.MKDIR, b"/local/domain/1\0")
    operator.ask(XsWire.SET_PERMS, b"/local/domain/1\0n1\0")
    client.ask(XsWire.WATCH, b"/a\0token\0")
    assert client.receive() is not None
    slow.ask(XsWire.WRITE, b"/big\0" + bytes(4000))
    slow.sock.sendall(encode(XsWire.READ, 9, 0, b"/big\0") * 500)
    ring = updated.ring
    assert ring.ask(XsWire.WATCH, b"x\0t\0").payload == b"OK\0"
    assert ring.message().payload == b"x\0t\0"
    request = encode(XsWire.READ, 8, 0, b"/a\0")
    client.sock.sendall(request[:18])
    ring.send(request[:18])
    operator.ask(XsWire.READ, b"/\0")

    for number in range(3):
        value = b"%d" % number
        assert updated.update(operator) == b"OK\0"
        operator.ask(XsWire.WRITE, b"/a\0" + value)
        client.sock.sendall(request[18:] + request[:18])
        assert client.reply(8) == value
        assert [event.payload for event in client.events] == [b"/a\0token\0"]
        client.events.clear()
        ring.send(request[18:] + request[:18])
        assert ring.message().payload == b"EACCES\0"
        operator.ask(XsWire.WRITE, b"/local/domain/1/x\0v")
        assert ring.message().payload == b"x\0t\0"
    for _ in range(500):
        assert slow.reply(9) == bytes(4000)
    with updated.client() as late:
        assert late.ask(XsWire.READ, b"/a\0") == b"2"


def test_the_trace_goes_on(updated: Updated) -> None:
    with socket.socket(socket.AF_UNIX) as reader, updated.client() as client:
        reader.connect(updated.trace)
        reader.settimeout(10)
        for number in range(2):
            client.ask(XsWire.WRITE, b"/a\0before %d" % number)
        updated.update(client)
        client.ask(XsWire.WRITE, b"/a\0after")
        decoder, seen = TraceDecoder(), []
        while b"/a\0after" not in seen:
            seen += [record.payload for record in decoder.feed(reader.recv(65536))]
        assert b"/a\0before 1" in seen


def test_an_update_waits_for_the_end_of_transactions(updated: Updated) -> None:
    with updated.client() as operator, updated.client() as client:
        tx_id = int(client.ask(XsWire.TRANSACTION_START, b"\0")[:-1])
        client.ask(XsWire.WRITE, b"/a\0v", tx_id)
        with pytest.raises(StoreError, match="EBUSY"):
            updated.update(operator)
        client.ask(XsWire.TRANSACTION_END, b"T\0", tx_id)
        assert updated.update(operator) == b"OK\0"
        assert operator.ask(XsWire.READ, b"/a\0") == b"v"


def test_a_forced_update_ends_transactions(updated: Updated) -> None:
    with updated.client() as operator, updated.client() as client:
        tx_id = int(client.ask(XsWire.TRANSACTION_START, b"\0")[:-1])
        client.ask(XsWire.WRITE, b"/a\0v", tx_id)
        assert updated.update(operator, b"-F\0") == b"OK\0"
        with pytest.raises(StoreError, match="ENOENT"):
            client.ask(XsWire.TRANSACTION_END, b"T\0", tx_id)
        with pytest.raises(StoreError, match="ENOENT"):
            client.ask(XsWire.READ, b"/a\0")


def test_a_broken_ring_stays_broken_until_it_is_mended(updated: Updated) -> None:
    ring = updated.ring
    with updated.client() as operator:
        ring.page.set_word(2052, ring.page.word(2048) + 1025)
        ring.channel.notify()
        ring.until(lambda: ring.page.error == 2)
        updated.update(operator)
        assert ring.page.error == 2
        ring.page.connection = 1
        ring.channel.notify()
        ring.until(lambda: ring.page.connection == 0)
        reply = ring.ask(XsWire.GET_DOMAIN_PATH, b"1\0")
        assert reply.payload == b"/local/domain/1\0"


@pytest.fixture
def store() -> Iterator[RunningStore]:
    with running_store() as running:
        yield running


def test_a_store_that_was_saved_may_go_on(store: RunningStore) -> None:
    client = store.client()
    client.ask(XsWire.WATCH, b"/a\0token\0")
    ring = store.ring(1)
    state = store.server.save()
    client.sock.sendall(encode(XsWire.WRITE, 1, 0, b"/a\0v"))
    store.server.resume()
    os.close(state)
    assert client.reply(1) == b"OK\0"
    assert ring.ask(XsWire.GET_DOMAIN_PATH, b"1\0").payload == b"/local/domain/1\0"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(store.path)


def test_a_store_that_was_saved_by_force_has_its_transactions(
    store: RunningStore,
) -> None:
    client = store.client()
    tx_id = int(client.ask(XsWire.TRANSACTION_START, b"\0")[:-1])
    client.ask(XsWire.WRITE, b"/a\0v", tx_id)
    os.close(store.server.save(force=True))
    store.server.resume()
    client.ask(XsWire.TRANSACTION_END, b"T\0", tx_id)
    assert client.ask(XsWire.READ, b"/a\0") == b"v"


def test_a_store_that_was_saved_may_be_closed(store: RunningStore) -> None:
    client = store.client()
    os.close(store.server.save())
    store.server.close()
    assert client.receive() is None


def test_a_store_that_cannot_be_saved_goes_on(store: RunningStore) -> None:
    client = store.client()
    client.sock.sendall(encode(XsWire.INTRODUCE, 1, 0, b"1\0005\0006\0"))
    upcall = store.upcall()
    assert upcall.kind == UpcallKind.INTRODUCE
    with pytest.raises(OSError, match=os.strerror(errno.EBUSY)):
        store.server.save()
    store.server.answer(upcall.conn_id)
    assert client.reply(1) == b"OK\0"


@pytest.mark.parametrize(
    "state", [b"", b"nonsense" * 100, b"xvstate1", b"xvstate1" * 9]
)
def test_a_damaged_state_is_refused(state: bytes) -> None:
    fd = os.memfd_create("state")
    with contextlib.closing(open(fd, "wb", buffering=0)) as file:
        file.write(state)
        with pytest.raises(OSError, match="saved state is damaged") as damaged:
            StoreServer.restore(fd)
        assert damaged.value.errno == errno.EILSEQ
