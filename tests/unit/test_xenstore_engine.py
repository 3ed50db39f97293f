"""What each request answers: one table, run on the engine and through a socket."""

import asyncio
from contextlib import AsyncExitStack
from itertools import product

import pytest

from tests.helpers_xenstore import (
    FakeDomains,
    ask,
    connected,
    decode,
    result,
    run,
)
from xenvirt.abi.ids import DOMID_ANY
from xenvirt.abi.xs_wire import HEADER, XsWire
from xenvirt.xenstore.engine import Engine
from xenvirt.xenstore.framing import Message, MessageDecoder, encode
from xenvirt.xenstore.quota import Quotas

OK = b"OK\0"
X = XsWire

Answer = bytes | str
Step = tuple[int, bool, int, bytes, Answer]
"""domid, in its transaction?, message type, payload, reply or error's name."""


def in_dom0(*rows: tuple[int, bytes, Answer]) -> list[Step]:
    return [(0, False, *row) for row in rows]


DOMAIN_1_AT_HOME: list[Step] = in_dom0(
    (X.MKDIR, b"/local/domain/1\0", OK),
    (X.SET_PERMS, b"/local/domain/1\0n1\0", OK),
)

SEQUENCES: dict[str, list[Step]] = {
    "a fresh store has Xen's nodes": in_dom0(
        (X.DIRECTORY, b"/\0", b"tool\0"),
        (X.DIRECTORY, b"/tool\0", b"xenstored\0"),
        (X.READ, b"/tool/xenstored\0", b""),
        (X.GET_PERMS, b"/\0", b"n0\0"),
        (X.GET_PERMS, b"@introduceDomain\0", b"n0\0"),
        (X.GET_PERMS, b"@releaseDomain\0", b"n0\0r%d\0" % DOMID_ANY),
    ),
    "a value is read as it was written, whatever its bytes": in_dom0(
        (X.WRITE, b"/a/b/c\0one\0two\xff", OK),
        (X.READ, b"/a/b/c\0", b"one\0two\xff"),
        (X.READ, b"/a/b\0", b""),
        (X.WRITE, b"/a/b/c\0", OK),
        (X.READ, b"/a/b/c\0", b""),
        (X.DIRECTORY, b"/a\0", b"b\0"),
        (X.DIRECTORY, b"/a/b/c\0", b""),
    ),
    "a missing node is ENOENT": in_dom0(
        (X.READ, b"/a\0", "ENOENT"),
        (X.DIRECTORY, b"/a/b\0", "ENOENT"),
        (X.GET_PERMS, b"/a\0", "ENOENT"),
        (X.SET_PERMS, b"/a\0n0\0", "ENOENT"),
        (X.DIRECTORY_PART, b"/a\0" b"0\0", "ENOENT"),
    ),
    "mkdir keeps the value of an existing node": in_dom0(
        (X.WRITE, b"/a\0value", OK),
        (X.MKDIR, b"/a\0", OK),
        (X.READ, b"/a\0", b"value"),
    ),
    "rm takes a subtree; a missing node is fine where its parent is not missing":
    in_dom0(
        (X.WRITE, b"/a/b/c\0v", OK),
        (X.RM, b"/a/b\0", OK),
        (X.READ, b"/a/b/c\0", "ENOENT"),
        (X.DIRECTORY, b"/a\0", b""),
        (X.RM, b"/a/b\0", OK),
        (X.RM, b"/a/b/c\0", "ENOENT"),
        (X.RM, b"/\0", "EINVAL"),
    ),
    "relative paths are below the caller's own": [
        *DOMAIN_1_AT_HOME,
        (1, False, X.WRITE, b"data\0v", OK),
        (0, False, X.READ, b"/local/domain/1/data\0", b"v"),
        (0, False, X.WRITE, b"data\0v", OK),
        (0, False, X.READ, b"/local/domain/0/data\0", b"v"),
    ],
    "a malformed payload is EINVAL": in_dom0(
        (X.READ, b"", "EINVAL"),
        (X.READ, b"/", "EINVAL"),
        (X.READ, b"\0", "EINVAL"),
        (X.READ, b"/\0/\0", "EINVAL"),
        (X.READ, b"/a/\0", "EINVAL"),
        (X.READ, b"/local/domain/\0", "EINVAL"),
        (X.READ, b"/\xc3\xa9\0", "EINVAL"),
        (X.READ, b"@releaseDomain\0", "EINVAL"),
        (X.WRITE, b"/a", "EINVAL"),
        (X.DIRECTORY_PART, b"/\0", "EINVAL"),
        (X.DIRECTORY_PART, b"/\0-1\0", "EINVAL"),
        (X.DIRECTORY_PART, b"/\0x\0", "EINVAL"),
        (X.SET_PERMS, b"/\0", "EINVAL"),
        (X.SET_PERMS, b"/\0x0\0", "EINVAL"),
        (X.SET_PERMS, b"/\0n0", "EINVAL"),
        (X.WATCH, b"/\0", "EINVAL"),
        (X.WATCH, b"/\0t\0rest", "EINVAL"),
        (X.WATCH, b"/\0t\0" b"1\0x\0", "EINVAL"),
        (X.WATCH, b"/\0t\0-1\0", "EINVAL"),
        (X.WATCH, b"/\0t\0abc\0", "EINVAL"),
        (X.UNWATCH, b"/\0", "EINVAL"),
        (X.INTRODUCE, b"1\0" b"2\0", "EINVAL"),
        (X.INTRODUCE, b"0\0" b"2\0" b"3\0", "EINVAL"),
        (X.GET_DOMAIN_PATH, b"x\0", "EINVAL"),
        (X.GET_DOMAIN_PATH, b"65536\0", "EINVAL"),
        (X.CONTROL, b"", "EINVAL"),
        (X.CONTROL, b"nonsense\0", "EINVAL"),
    ),
    "an unknown type is ENOSYS": in_dom0(
        (X.WATCH_EVENT, b"\0", "ENOSYS"),
        (X.ERROR, b"\0", "ENOSYS"),
        (20, b"1\0", "ENOSYS"),
        (27, b"\0", "ENOSYS"),
        (X.INVALID, b"", "ENOSYS"),
        (0xFFFFFFFF, b"", "ENOSYS"),
    ),
    "only the privileged may": [
        (1, False, X.CONTROL, b"help\0", "EACCES"),
        (1, False, X.INTRODUCE, b"2\0" b"1\0" b"1\0", "EACCES"),
        (1, False, X.RELEASE, b"2\0", "EACCES"),
        (1, False, X.RESUME, b"2\0", "EACCES"),
        (1, False, X.SET_TARGET, b"1\0" b"2\0", "EACCES"),
        (1, False, X.IS_DOMAIN_INTRODUCED, b"0\0", "EACCES"),
        (1, False, X.GET_FEATURE, b"2\0", "EACCES"),
        (1, False, X.SET_FEATURE, b"1\0" b"0\0", "EACCES"),
        (1, False, X.GET_QUOTA, b"", "EACCES"),
        (1, False, X.SET_QUOTA, b"nodes\0" b"0\0", "EACCES"),
    ],
    "if dom0 makes a node, a domain has no access to it": [
        (0, False, X.WRITE, b"/a/b\0hello", OK),
        (1, False, X.READ, b"/a/b\0", "EACCES"),
        (1, False, X.WRITE, b"/a/b\0x", "EACCES"),
        (1, False, X.RM, b"/a/b\0", "EACCES"),
        (1, False, X.DIRECTORY, b"/a\0", "EACCES"),
        (1, False, X.GET_PERMS, b"/a/b\0", "EACCES"),
        (1, False, X.MKDIR, b"/a/c\0", "EACCES"),
        (1, False, X.RM, b"/\0", "EACCES"),
        (1, False, X.SET_PERMS, b"/\0n1\0", "EACCES"),
    ],
    "what is missing where a domain cannot read is EACCES, elsewhere ENOENT": [
        (0, False, X.WRITE, b"/hidden\0", OK),
        (0, False, X.WRITE, b"/shown\0", OK),
        (0, False, X.SET_PERMS, b"/shown\0r0\0", OK),
        (1, False, X.READ, b"/hidden/x/y\0", "EACCES"),
        (1, False, X.READ, b"/shown/x/y\0", "ENOENT"),
        (1, False, X.WRITE, b"/shown/x/y\0v", "EACCES"),
    ],
    "a domain owns what it creates, with the directory's other entries": [
        *DOMAIN_1_AT_HOME,
        (0, False, X.SET_PERMS, b"/local/domain/1\0r0\0b1\0", OK),
        (1, False, X.WRITE, b"data/x\0v", OK),
        (1, False, X.GET_PERMS, b"data\0", b"r1\0b1\0"),
        (1, False, X.GET_PERMS, b"data/x\0", b"r1\0b1\0"),
        (2, False, X.READ, b"/local/domain/1/data/x\0", b"v"),
        (2, False, X.WRITE, b"/local/domain/1/data/x\0v", "EACCES"),
    ],
    "an owner may change permissions but stays the owner": [
        *DOMAIN_1_AT_HOME,
        (1, False, X.SET_PERMS, b"/local/domain/1\0n1\0r2\0", OK),
        (1, False, X.SET_PERMS, b"/local/domain/1\0n2\0", "EPERM"),
        (2, False, X.READ, b"/local/domain/1\0", b""),
        (2, False, X.SET_PERMS, b"/local/domain/1\0n2\0", "EACCES"),
        (0, False, X.SET_PERMS, b"/local/domain/1\0n2\0", OK),
        (1, False, X.READ, b"/local/domain/1\0", "EACCES"),
    ],
    "a domain that does not exist is granted nothing, and cannot own": in_dom0(
        (X.WRITE, b"/a\0v", OK),
        (X.SET_PERMS, b"/a\0n77\0", "ENOENT"),
        (X.SET_PERMS, b"/a\0n0\0r77\0", OK),
        (X.GET_PERMS, b"/a\0", b"n0\0r77\0"),
    ),
    "transactions start, end and belong to one client": [
        (0, False, X.TRANSACTION_START, b"\0", b"1\0"),
        (0, True, X.TRANSACTION_START, b"\0", "EBUSY"),
        (0, True, X.WRITE, b"/a\0v", OK),
        (1, True, X.READ, b"/a\0", "ENOENT"),
        (0, False, X.TRANSACTION_END, b"T\0", "ENOENT"),
        (0, True, X.TRANSACTION_END, b"X\0", "EINVAL"),
        (0, True, X.TRANSACTION_END, b"T\0", OK),
        (0, True, X.TRANSACTION_END, b"T\0", "ENOENT"),
        (0, False, X.READ, b"/a\0", b"v"),
        (0, True, X.WATCH, b"/none\0t\0", OK),
        (0, True, X.UNWATCH, b"/none\0t\0", OK),
    ],
    "reset_watches within a transaction drops it": [
        (0, False, X.TRANSACTION_START, b"\0", b"1\0"),
        (0, True, X.RESET_WATCHES, b"\0", OK),
        (0, True, X.READ, b"/\0", "ENOENT"),
    ],
    "a watch is known by path and token": in_dom0(
        (X.WATCH, b"/a\0t\0", OK),
        (X.WATCH, b"/a\0t\0", "EEXIST"),
        (X.WATCH, b"/a\0u\0", OK),
        (X.UNWATCH, b"/a\0v\0", "ENOENT"),
        (X.UNWATCH, b"/a\0t\0", OK),
        (X.UNWATCH, b"/a\0t\0", "ENOENT"),
        (X.WATCH, b"a\0t\0", OK),
        (X.WATCH, b"/local/domain/0/a\0t\0", "EEXIST"),
    ),
    "domains are introduced, released and asked for": in_dom0(
        (X.IS_DOMAIN_INTRODUCED, b"0\0", b"T\0"),
        (X.IS_DOMAIN_INTRODUCED, b"1\0", b"F\0"),
        (X.INTRODUCE, b"1\0" b"5\0" b"3\0", OK),
        (X.INTRODUCE, b"1\0" b"5\0" b"3\0", OK),
        (X.INTRODUCE, b"77\0" b"5\0" b"3\0", "EINVAL"),
        (X.IS_DOMAIN_INTRODUCED, b"1\0", b"T\0"),
        (X.RESUME, b"1\0", OK),
        (X.RESUME, b"2\0", "ENOENT"),
        (X.SET_TARGET, b"1\0" b"2\0", "ENOENT"),
        (X.RELEASE, b"1\0", OK),
        (X.RELEASE, b"1\0", "ENOENT"),
        (X.RELEASE, b"0\0", "EINVAL"),
        (X.IS_DOMAIN_INTRODUCED, b"1\0", b"F\0"),
        (X.GET_DOMAIN_PATH, b"77\0", b"/local/domain/77\0"),
    ),
    "features are offered, and fewer of them before a domain is introduced": [
        (0, False, X.GET_FEATURE, b"", b"14\0"),
        (1, False, X.GET_FEATURE, b"\0", b"14\0"),
        (0, False, X.SET_FEATURE, b"1\0" b"1\0", "EINVAL"),
        (0, False, X.SET_FEATURE, b"1\0" b"2\0", OK),
        (0, False, X.GET_FEATURE, b"1\0", b"2\0"),
        (1, False, X.WATCH, b"/\0t\0" b"1\0", "EINVAL"),
        (0, False, X.INTRODUCE, b"1\0" b"5\0" b"3\0", OK),
        (0, False, X.SET_FEATURE, b"1\0" b"6\0", "EBUSY"),
    ],
    "quotas are read and set, for all or for one": in_dom0(
        (
            X.GET_QUOTA,
            b"",
            b"nodes watches transactions transaction-nodes node-permissions path-max"
            b" node-size outstanding memory\0",
        ),
        (X.GET_QUOTA, b"nodes\0", b"1000\0"),
        (X.GET_QUOTA, b"other\0", "EINVAL"),
        (X.SET_QUOTA, b"1\0nodes\0" b"5\0", "ENOENT"),
        (X.INTRODUCE, b"1\0" b"5\0" b"3\0", OK),
        (X.SET_QUOTA, b"1\0nodes\0" b"5\0", OK),
        (X.GET_QUOTA, b"1\0nodes\0", b"5\0"),
        (X.GET_QUOTA, b"nodes\0", b"1000\0"),
        (X.SET_QUOTA, b"nodes\0" b"7\0", OK),
        (X.GET_QUOTA, b"nodes\0", b"7\0"),
        (X.SET_QUOTA, b"nodes\0-1\0", "EINVAL"),
    ),
    "the server answers control commands": in_dom0(
        (X.CONTROL, b"check\0", OK),
        (X.CONTROL, b"help\0", b"check\nhelp\nlog\nmemreport\nprint\nquota\n\0"),
        (X.CONTROL, b"log\0", b"off\0"),
        (X.CONTROL, b"log\0on\0", OK),
        (X.CONTROL, b"log\0", b"on\0"),
        (X.CONTROL, b"log\0off\0", OK),
        (X.CONTROL, b"log\0maybe\0", "EINVAL"),
        (X.CONTROL, b"print\0hello\0", OK),
        (X.CONTROL, b"print\0", "EINVAL"),
        (X.CONTROL, b"quota\0set\0nodes\0" b"7\0", OK),
        (X.GET_QUOTA, b"nodes\0", b"7\0"),
        (X.CONTROL, b"quota\0set\0nodes\0", "EINVAL"),
    ),
    "a listing longer than a message comes in parts": [
        *in_dom0(*((X.MKDIR, b"/d/%s%d\0" % (b"n" * 99, i), OK) for i in range(60))),
        (0, False, X.DIRECTORY, b"/d\0", "E2BIG"),
        (0, False, X.READ, b"/d\0", b""),
    ],
}  # fmt: skip


@pytest.mark.parametrize("steps", SEQUENCES.values(), ids=SEQUENCES)
def test_engine(steps: list[Step]) -> None:
    engine = Engine(FakeDomains())
    conns = {domid: engine.connect(domid) for domid in (0, 1, 2)}
    for domid, in_transaction, type_, payload, expected in steps:
        reply = ask(engine, conns[domid], type_, payload, int(in_transaction))
        assert result(reply) == expected, (domid, type_, payload)
        assert reply[1:3] == (7, int(in_transaction))


@pytest.mark.parametrize("steps", SEQUENCES.values(), ids=SEQUENCES)
def test_the_same_through_sockets(steps: list[Step]) -> None:
    run(_through_sockets(steps))


async def _through_sockets(steps: list[Step]) -> None:
    engine = Engine(FakeDomains())
    async with AsyncExitStack() as stack:
        streams = {
            domid: await stack.enter_async_context(connected(engine, domid))
            for domid in (0, 1, 2)
        }
        for domid, in_transaction, type_, payload, expected in steps:
            reader, writer = streams[domid]
            writer.write(encode(type_, 7, int(in_transaction), payload))
            assert result(await _reply(reader)) == expected, (domid, type_, payload)


async def _reply(reader: asyncio.StreamReader) -> Message:
    """The next message that is not an event."""
    while True:
        header = await reader.readexactly(HEADER.size)
        body = await reader.readexactly(HEADER.unpack(header)[3])
        (message,) = MessageDecoder().feed(header + body)
        if message.type != X.WATCH_EVENT:
            return message


def test_parts_of_a_listing_make_the_whole() -> None:
    engine = Engine(FakeDomains())
    conn = engine.connect(0)
    names = [b"%s%d" % (b"n" * 99, i) for i in range(90)]
    for name in names:
        ask(engine, conn, X.MKDIR, b"/d/%b\0" % name)
    listing, parts = b"", 0
    while not listing.endswith(b"\0\0"):
        request = b"/d\0%d\0" % len(listing)
        reply = ask(engine, conn, X.DIRECTORY_PART, request).payload
        assert len(reply) <= 4096
        listing += reply.partition(b"\0")[2]
        parts += 1
    assert listing == b"\0".join(names) + b"\0\0"
    assert parts == 3


@pytest.mark.parametrize("first", [b"a", b"aa", b"aaa"])
def test_a_part_is_filled_and_never_longer_than_a_message(first: bytes) -> None:
    engine = Engine(FakeDomains())
    conn = engine.connect(0)
    ask(engine, conn, X.MKDIR, b"/d/%b\0" % first)
    for pair in product(b"0123456789abcdefghijklmnopqrstuvwxyzABCD", repeat=2):
        ask(engine, conn, X.MKDIR, b"/d/" + bytes(pair) + b"\0")
    reply = ask(engine, conn, X.DIRECTORY_PART, b"/d\x000\0").payload
    assert 4093 <= len(reply) < 4096


def test_parts_of_two_listings_are_not_mixed_up() -> None:
    engine = Engine(FakeDomains())
    conn = engine.connect(0)
    for name in (b"/a/x\0", b"/b/y\0"):
        ask(engine, conn, X.MKDIR, name)

    def names(path: bytes) -> bytes:
        reply = ask(engine, conn, X.DIRECTORY_PART, path + b"\x000\0")
        return reply.payload.partition(b"\0")[2]

    assert [names(p) for p in (b"/a", b"/b", b"/a")] == [b"x\0\0", b"y\0\0", b"x\0\0"]


def test_the_generation_of_a_listing_tells_of_a_change() -> None:
    engine = Engine(FakeDomains())
    conn = engine.connect(0)

    def generation() -> bytes:
        reply = ask(engine, conn, X.DIRECTORY_PART, b"/\x000\0")
        return reply.payload.partition(b"\0")[0]

    first = generation()
    assert generation() == first
    ask(engine, conn, X.MKDIR, b"/a\0")
    assert generation() != first


def test_a_reply_goes_before_the_events_that_it_caused() -> None:
    engine = Engine(FakeDomains())
    conn = engine.connect(0)
    engine.handle(conn, Message(X.WATCH, 1, 0, b"/a\0t\0"))
    engine.handle(conn, Message(X.MKDIR, 2, 0, b"/a/b\0"))
    assert [message.type for message in decode(conn.take())] == [
        X.WATCH, X.WATCH_EVENT, X.MKDIR, X.WATCH_EVENT,
    ]  # fmt: skip


def test_a_connection_is_woken_when_its_outbox_fills() -> None:
    engine = Engine(FakeDomains())
    watcher, writer = engine.connect(0), engine.connect(0)
    ask(engine, watcher, X.WATCH, b"/a\0t\0")
    watcher.take()
    wakes: list[int] = []
    watcher.wake = lambda: wakes.append(len(watcher.outbox))
    ask(engine, writer, X.WRITE, b"/a\0v")
    ask(engine, writer, X.WRITE, b"/a/b\0v")
    assert wakes == [1]
    watcher.take()
    ask(engine, writer, X.WRITE, b"/a/b\0v")
    assert wakes == [1, 1]


def test_a_client_that_never_reads_its_events_is_disconnected() -> None:
    engine = Engine(FakeDomains(), Quotas(memory=1000))
    guest, writer = engine.connect(1), engine.connect(0)
    ask(engine, writer, X.WRITE, b"/a\0")
    ask(engine, writer, X.SET_PERMS, b"/a\0r0\0")
    ask(engine, guest, X.WATCH, b"/a\0t\0")
    wakes: list[bool] = []
    guest.wake = lambda: wakes.append(guest.alive)
    for i in range(100):
        ask(engine, writer, X.WRITE, b"/a/%d\0v" % i)
    assert not guest.alive
    assert wakes == [False]
    assert len(b"".join(guest.outbox)) < 1100
    assert list(engine.connections) == [writer]
    engine.handle(guest, Message(X.READ, 1, 0, b"/a\0"))
    assert all(message.req_id != 1 for message in decode(guest.take()))
