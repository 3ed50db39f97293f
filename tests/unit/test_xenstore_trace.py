"""The trace: from the store through its socket to lines and objects."""

import json
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from struct import pack

import pytest

from tests.helpers_xenstore import (
    RunningStore,
    listening,
    running_store,
)
from xenvirt.abi.xs_wire import XsWire
from xenvirt.errors import StoreError
from xenvirt.native.extension import ffi
from xenvirt.xenstore.trace import TraceDecoder, TraceKind, TraceRecord, as_json, line

BUFFER_SIZE = 4 * 1024 * 1024


class Reader:
    """One that has connected to the trace, and is known to the store."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._decoder = TraceDecoder()
        self._records: deque[TraceRecord] = deque()

    def next(self) -> TraceRecord:
        while not self._records:
            data = self.sock.recv(1 << 20)
            assert data, "the store closed the trace"
            self._records.extend(self._decoder.feed(data))
        return self._records.popleft()

    def until(self, kind: TraceKind) -> TraceRecord:
        """The next of that kind."""
        while (record := self.next()).kind != kind:
            pass
        return record


class Traced:
    """A store whose trace can be read."""

    def __init__(self, store: RunningStore, path: str, stack: ExitStack) -> None:
        self.store = store
        self._path = path
        self._stack = stack
        store.server.trace(listening(path))
        self._client = store.client()

    def reader(self) -> Reader:
        """One that gets everything from now on."""
        sock = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        sock.connect(self._path)
        sock.settimeout(10)
        reader = Reader(sock)
        # Whoever has connected is accepted before the second of these is served.
        self._client.ask(XsWire.READ, b"/\0", req_id=1)
        self._client.ask(XsWire.READ, b"/\0", req_id=2)
        while reader.until(TraceKind.REPLY).req_id != 2:
            pass
        return reader


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[Traced]:
    with ExitStack() as stack, running_store() as store:
        yield Traced(store, str(tmp_path / "trace"), stack)


def record(
    kind: TraceKind = TraceKind.REQUEST,
    type_: int = XsWire.READ,
    payload: bytes = b"",
    **fields: int,
) -> TraceRecord:
    return TraceRecord(
        time_ns=fields.get("time_ns", 1_000_000_123_456_789),
        conn_id=4,
        domid=1,
        kind=kind,
        type=type_,
        req_id=7,
        tx_id=fields.get("tx_id", 0),
        payload=payload,
    )


def encode(found: TraceRecord) -> bytes:
    return (
        pack("<QQII", found.time_ns, found.conn_id, found.domid, found.kind)
        + pack("<IIII", found.type, found.req_id, found.tx_id, len(found.payload))
        + found.payload
    )


# ---- what the store gives ----


def test_everything_comes_in_order_with_its_connection(traced: Traced) -> None:
    reader = traced.reader()
    with traced.store.client() as client:
        client.ask(XsWire.WATCH, b"/a\0token\0")
        assert client.receive() is not None
        client.ask(XsWire.WRITE, b"/a\0value", req_id=8)
        with pytest.raises(StoreError, match="ENOENT"):
            client.ask(XsWire.READ, b"/b\0", tx_id=5)
    found = [reader.next()]
    while found[-1].kind != TraceKind.DISCONNECT:
        found.append(reader.next())
    assert {(entry.conn_id, entry.domid) for entry in found} == {(found[0].conn_id, 0)}
    assert [(entry.kind, *entry[4:]) for entry in found] == [
        (TraceKind.CONNECT, 0, 0, 0, b""),
        (TraceKind.REQUEST, XsWire.WATCH, 7, 0, b"/a\0token\0"),
        (TraceKind.REPLY, XsWire.WATCH, 7, 0, b"OK\0"),
        (TraceKind.EVENT, XsWire.WATCH_EVENT, 0, 0, b"/a\0token\0"),
        (TraceKind.REQUEST, XsWire.WRITE, 8, 0, b"/a\0value"),
        (TraceKind.EVENT, XsWire.WATCH_EVENT, 0, 0, b"/a\0token\0"),
        (TraceKind.REPLY, XsWire.WRITE, 8, 0, b"OK\0"),
        (TraceKind.REQUEST, XsWire.READ, 7, 5, b"/b\0"),
        (TraceKind.REPLY, XsWire.ERROR, 7, 5, b"ENOENT\0"),
        (TraceKind.DISCONNECT, 0, 0, 0, b""),
    ]
    times = [entry.time_ns for entry in found]
    assert times == sorted(times)


def test_a_domain_is_named_as_such(traced: Traced) -> None:
    ring = traced.store.ring(2)
    reader = traced.reader()
    ring.ask(XsWire.GET_DOMAIN_PATH, b"2\0")
    asked, told = reader.until(TraceKind.REQUEST), reader.next()
    assert (asked.domid, told.domid) == (2, 2)
    assert (asked.payload, told.payload) == (b"2\0", b"/local/domain/2\0")


def test_readers_come_and_go(traced: Traced) -> None:
    first, second = traced.reader(), traced.reader()
    first.sock.close()
    client = traced.store.client()
    client.ask(XsWire.WRITE, b"/a\0v")
    assert second.until(TraceKind.REQUEST).payload == b"/a\0v"
    second.sock.close()
    assert client.ask(XsWire.READ, b"/a\0") == b"v"
    third = traced.reader()
    client.ask(XsWire.WRITE, b"/a\0w")
    assert third.until(TraceKind.REQUEST).payload == b"/a\0w"


def test_a_slow_reader_loses_records_and_is_told_how_many(traced: Traced) -> None:
    slow, quick = traced.reader(), traced.reader()
    client = traced.store.client()
    conn_id = quick.until(TraceKind.CONNECT).conn_id
    count = 1
    for number in range(1, BUFFER_SIZE // 4000 + 200):
        client.ask(XsWire.WRITE, b"/a\0%04d" % number + bytes(4000))
        count += len([quick.until(TraceKind.REQUEST), quick.until(TraceKind.REPLY)])
    kept = 0
    while (last := slow.next()).kind != TraceKind.LOST:
        kept += last.conn_id == conn_id
    assert last.lost > 100
    assert kept + last.lost == count
    # From then on it has everything again.
    client.ask(XsWire.WRITE, b"/a\0end")
    assert slow.until(TraceKind.REQUEST).payload == b"/a\0end"


def test_a_closed_store_ends_the_trace(traced: Traced) -> None:
    reader = traced.reader()
    traced.store.server.close()
    assert reader.next().kind == TraceKind.DISCONNECT
    with pytest.raises(AssertionError, match="closed the trace"):
        reader.until(TraceKind.LOST)


# ---- the decoder ----


def test_the_header_is_the_one_that_c_declares() -> None:
    assert ffi.sizeof("struct xv_xenstore_trace") == 40
    sent = record(tx_id=9, payload=b"/\0")
    decoded = ffi.from_buffer("struct xv_xenstore_trace *", encode(sent))
    assert (decoded.time_ns, decoded.conn_id) == (sent.time_ns, 4)
    assert (decoded.domid, decoded.kind) == (1, TraceKind.REQUEST)
    assert (decoded.msg.type, decoded.msg.req_id) == (XsWire.READ, 7)
    assert (decoded.msg.tx_id, decoded.msg.len) == (9, 2)


def test_every_cut_of_the_stream_gives_the_same_records() -> None:
    records = [
        record(TraceKind.CONNECT, 0),
        record(payload=b"/a\0"),
        record(TraceKind.REPLY, payload=bytes(100)),
    ]
    stream = b"".join(map(encode, records))
    for cut in range(len(stream)):
        decoder = TraceDecoder()
        found = decoder.feed(stream[:cut]) + decoder.feed(stream[cut:])
        assert found == records
    decoder = TraceDecoder()
    singly = [entry for byte in stream for entry in decoder.feed(bytes([byte]))]
    assert singly == records


# ---- for people and for programs ----


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (
            record(type_=XsWire.WRITE, payload=b"/a/b\x001"),
            'conn 4 dom 1 → WRITE req 7 tx 0 "/a/b" "1"',
        ),
        (
            record(type_=XsWire.WRITE, payload=b'/a\0\xff"\\\0\n'),
            r'conn 4 dom 1 → WRITE req 7 tx 0 "/a" "\xff\"\\\x00\x0a"',
        ),
        (record(type_=XsWire.WRITE, payload=b"/a\0"), None),
        (
            record(TraceKind.REPLY, payload=b"a\0b\0", tx_id=3),
            r'conn 4 dom 1 ← READ req 7 tx 3 "a\x00b\x00"',
        ),
        (
            record(TraceKind.REPLY, XsWire.DIRECTORY, b"a\0b\0"),
            'conn 4 dom 1 ← DIRECTORY req 7 tx 0 "a" "b"',
        ),
        (
            record(TraceKind.REPLY, XsWire.ERROR, b"ENOENT\0"),
            'conn 4 dom 1 ← ERROR req 7 tx 0 "ENOENT"',
        ),
        (
            record(TraceKind.EVENT, XsWire.WATCH_EVENT, b"/a\0token\0"),
            'conn 4 dom 1 ← WATCH_EVENT "/a" "token"',
        ),
        (record(type_=99, payload=b"cut"), 'conn 4 dom 1 → 99 req 7 tx 0 "cut"'),
        (record(TraceKind.CONNECT, 0), "conn 4 dom 1 connected"),
        (record(TraceKind.DISCONNECT, 0), "conn 4 dom 1 disconnected"),
        (record(TraceKind.LOST, 0, pack("<Q", 17)), "17 records lost"),
    ],
)
def test_a_record_is_one_line(found: TraceRecord, text: str | None) -> None:
    at, _, rest = line(found).partition(" ")
    assert rest == (text or 'conn 4 dom 1 → WRITE req 7 tx 0 "/a" ""')
    # 13:46:40.123456 in Greenwich; hours are local.
    assert at[2:3] == ":"
    assert at[5:] == ":40.123456"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            record(type_=XsWire.WRITE, payload=b"/a\0\xff\0", tx_id=2),
            {
                "kind": "request",
                "conn": 4,
                "domid": 1,
                "type": "WRITE",
                "req_id": 7,
                "tx_id": 2,
                "arguments": ["/a", "\udcff\0"],
            },
        ),
        (record(TraceKind.CONNECT, 0), {"kind": "connect", "conn": 4, "domid": 1}),
        (record(TraceKind.LOST, 0, pack("<Q", 17)), {"kind": "lost", "lost": 17}),
    ],
)
def test_a_record_is_one_object(
    found: TraceRecord, expected: dict[str, object]
) -> None:
    text = as_json(found)
    assert "\n" not in text
    assert text.isascii()
    assert json.loads(text) == {"time_ns": 1_000_000_123_456_789, **expected}
