"""protocol.md 5.1, 5.8 and 5.9: bytes, sockets and ring pages, on every server.

What is no matter of one request and its reply, and so no row of the table.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance.differences import FEATURES, HEALED, RECONNECTION
from tests.conformance.ours import OurStore
from tests.conformance.servers import CXenstored, World
from tests.conformance.table import DOM0, DOM0_B, GUEST, OTHER, Domain, Who, z
from tests.conformance.wire import (
    CONNECTION,
    HEADER,
    REQ_CONS,
    REQ_PROD,
    RING_ERROR,
    RSP_CONS,
    SERVER_FEATURES,
    TIMEOUT_S,
    XS,
    Message,
    RingChannel,
    Wire,
)
from tests.peers import xenstored

MISSING = xenstored.missing()
NO_ERROR, COMM, RING_INDEX, PROTOCOL = range(4)

C_XENSTORED = pytest.param(
    "c_417", marks=pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
)
BY_RING = ("ours, by ring", C_XENSTORED)
EVERY = ("ours, by socket", *BY_RING)


def _open(name: str, directory: Path) -> World:
    if name == "c_417":
        directory.mkdir()
        return World(CXenstored(directory))
    return World(OurStore(rings=name == "ours, by ring"))


@pytest.fixture(params=EVERY)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Each server in turn."""
    world = _open(request.param, tmp_path / "server")
    yield world
    world.close()


@pytest.fixture(params=BY_RING)
def rings(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[str, World]]:
    """Each server whose domains come by ring, and its name."""
    world = _open(request.param, tmp_path / "server")
    yield request.param, world
    world.close()


CLIENTS = (DOM0, GUEST)


def _own(world: World, path: str, *entries: str) -> None:
    for type_, payload in (
        (XS.WRITE, z(path)),
        (XS.SET_PERMS, z(path, *(entries or ("n5",)))),
    ):
        assert world.wire(DOM0).ask(type_, payload).payload == b"OK\0"


def _request(type_: int, payload: bytes, req_id: int = 1, tx_id: int = 0) -> bytes:
    return HEADER.pack(type_, req_id, tx_id, len(payload)) + payload


def _still_serves(world: World) -> None:
    reply = world.wire(DOM0_B).ask(XS.READ, z("/"))
    assert reply.type == XS.READ


@pytest.mark.parametrize("who", CLIENTS)
def test_a_request_may_come_byte_by_byte(world: World, who: Who) -> None:
    wire = world.wire(who)
    for byte in _request(XS.GET_DOMAIN_PATH, z(5), 17):
        wire.channel.send(bytes([byte]))
    expected = Message(XS.GET_DOMAIN_PATH, 17, 0, z("/local/domain/5"))
    assert wire.receive() == expected


@pytest.mark.parametrize("who", CLIENTS)
def test_requests_may_come_at_once_and_are_answered_in_order(
    world: World, who: Who
) -> None:
    wire = world.wire(who)
    # As many replies as the ring holds, if nobody reads them yet.
    count = 30
    wire.channel.send(
        b"".join(_request(XS.GET_DOMAIN_PATH, z(i), i) for i in range(count))
    )
    assert [wire.receive().req_id for _ in range(count)] == list(range(count))


@pytest.mark.parametrize("who", CLIENTS)
def test_every_cut_of_two_requests_gives_the_same(world: World, who: Who) -> None:
    wire = world.wire(who)
    both = _request(XS.READ, z("/none"), 1) + _request(XS.GET_DOMAIN_PATH, z(7), 2)
    for cut in range(1, len(both)):
        wire.channel.send(both[:cut])
        wire.channel.send(both[cut:])
        assert [wire.receive().type for _ in range(2)] == [
            XS.ERROR,
            XS.GET_DOMAIN_PATH,
        ]


@pytest.mark.parametrize("who", CLIENTS)
@pytest.mark.parametrize("req_id", [0, 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_reply_has_its_requests_ids(world: World, who: Who, req_id: int) -> None:
    wire = world.wire(who)
    wire.send(XS.READ, z("/"), tx_id=4711, req_id=req_id)
    assert wire.receive() == Message(XS.ERROR, req_id, 4711, b"ENOENT\0")
    wire.send(27, b"", tx_id=4711, req_id=req_id)
    assert wire.receive() == Message(XS.ERROR, req_id, 4711, b"ENOSYS\0")


@pytest.mark.parametrize("who", CLIENTS)
def test_a_payload_of_4096_bytes_is_served(world: World, who: Who) -> None:
    _own(world, "/a")
    reply = world.wire(who).ask(XS.WRITE, z("/" + "b" * 2000) + bytes(2094))
    assert reply.type in (XS.WRITE, XS.ERROR)
    reply = world.wire(who).ask(XS.GET_DOMAIN_PATH, bytes(4096))
    assert reply.payload == b"EINVAL\0"


@pytest.mark.parametrize("length", [4097, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_a_longer_payload_closes_a_socket_xsa_420(world: World, length: int) -> None:
    wire = world.wire(DOM0)
    wire.channel.send(HEADER.pack(XS.READ, 1, 0, length))
    assert wire.is_closed()
    _still_serves(world)


def test_a_client_may_leave_in_a_message(world: World) -> None:
    whole = _request(XS.WRITE, z("/a", "v"))
    for cut in range(len(whole)):
        wire = world.server.connect(DOM0)
        wire.channel.send(whole[:cut])
        wire.close()
    _still_serves(world)
    assert world.wire(DOM0).ask(XS.READ, z("/a")).payload == b"ENOENT\0"


def test_a_client_that_leaves_takes_its_transaction_along(world: World) -> None:
    wire = world.wire(DOM0)
    leaver = world.server.connect(DOM0_B)
    tx_id = int(leaver.ask(XS.TRANSACTION_START, z("")).payload[:-1])
    assert leaver.ask(XS.WRITE, z("/a", "v"), tx_id).payload == b"OK\0"
    leaver.close()
    assert wire.ask(XS.READ, z("/a")).payload == b"ENOENT\0"
    assert wire.ask(XS.TRANSACTION_END, z("T"), tx_id).payload == b"ENOENT\0"


def test_a_client_that_never_reads_stops_nobody(world: World) -> None:
    silent, wire = world.wire(GUEST), world.wire(DOM0)
    # Its own nodes would count as what it uses, and 4.17 refuses them then.
    _own(world, "/a", "n0", "r5")
    assert silent.ask(XS.WATCH, z("/a", "t")).payload == b"OK\0"
    for i in range(2000):
        reply = wire.ask(XS.WRITE, z(f"/a/{'n' * 1000}/{i}"))
        assert reply.payload == b"OK\0"
    _still_serves(world)


def test_an_event_that_waits_is_not_queued_twice(world: World) -> None:
    reader, wire = world.wire(GUEST), world.wire(DOM0)
    _own(world, "/a")
    assert reader.ask(XS.WATCH, z("/a", "t")).payload == b"OK\0"
    reader.settle()
    # Until the way to the reader is full, events are sent at once.
    filler = [f"/a/{'n' * 1000}{i}" for i in range(600)]
    for path in (*filler, "/a/x", "/a/y", "/a/x", "/a/x", "/a/y"):
        assert wire.ask(XS.WRITE, z(path)).payload == b"OK\0"
    events = [message.payload.split(b"\0")[0] for message in reader.settle()]
    assert [path.decode() for path in events] == [*filler, "/a/x", "/a/y"]


def test_a_special_event_that_waits_is_queued_again(rings: tuple[str, World]) -> None:
    _, world = rings
    reader, wire = world.wire(GUEST), world.wire(DOM0)
    _own(world, "/a")
    grant = wire.ask(XS.SET_PERMS, z("@introduceDomain", "n0", "r5"))
    assert grant.payload == b"OK\0"
    for path in ("/a", "@introduceDomain"):
        assert reader.ask(XS.WATCH, z(path, "t")).payload == b"OK\0"
    reader.settle()
    for i in range(10):
        assert wire.ask(XS.WRITE, z(f"/a/{'n' * 1000}{i}")).payload == b"OK\0"
    for _ in range(3):
        assert wire.ask(XS.INTRODUCE, z(7, 1, 1)).payload == b"OK\0"
        assert wire.ask(XS.RELEASE, z(7)).payload == b"OK\0"
    events = [message.payload for message in reader.settle()]
    assert events[10:] == [z("@introduceDomain", "t")] * 3


def test_a_domains_watches_go_with_it(world: World) -> None:
    _own(world, "/a")
    assert world.wire(GUEST).ask(XS.WATCH, z("/a", "t")).payload == b"OK\0"
    world.domain(*Domain("destroy", 5))
    assert world.wire(DOM0).ask(XS.WRITE, z("/a")).payload == b"OK\0"
    _still_serves(world)


def _channel(wire: Wire) -> RingChannel:
    assert isinstance(wire.channel, RingChannel)
    return wire.channel


def _until(world: World, true: Callable[[], bool]) -> None:
    """Wait for what the server does on its own, while it serves another client."""
    deadline = time.monotonic() + TIMEOUT_S
    while not true():
        assert time.monotonic() < deadline
        _still_serves(world)


def test_a_message_longer_than_the_ring(rings: tuple[str, World]) -> None:
    _, world = rings
    _own(world, "/a")
    value = bytes(range(256)) * 7
    wire = world.wire(GUEST)
    for _ in range(5):
        assert wire.ask(XS.WRITE, z("/a") + value).payload == b"OK\0"
        assert wire.ask(XS.READ, z("/a")).payload == value


def test_twenty_requests_may_be_outstanding(rings: tuple[str, World]) -> None:
    _, world = rings
    _own(world, "/a")
    wire, dom0 = world.wire(GUEST), world.wire(DOM0)
    assert wire.ask(XS.WRITE, z("/a") + bytes(1100)).payload == b"OK\0"
    # The first reply does not fit into the ring, so all replies wait behind it.
    wire.channel.send(
        _request(XS.READ, z("/a"))
        + b"".join(_request(XS.MKDIR, z(f"/a/{i:02}")) for i in range(30))
    )

    def served() -> int:
        return 1 + dom0.ask(XS.DIRECTORY, z("/a")).payload.count(b"\0")

    _until(world, lambda: served() >= 20)
    for _ in range(20):
        _still_serves(world)
    assert served() == 20
    assert [wire.receive().type for _ in range(31)] == [XS.READ] + [XS.MKDIR] * 30
    assert served() == 31


def test_the_page_tells_the_servers_features(rings: tuple[str, World]) -> None:
    name, world = rings
    expected = FEATURES.c_417 if name == "c_417" else FEATURES.ours
    assert str(_channel(world.wire(GUEST)).word(SERVER_FEATURES)) == expected


def test_a_payload_too_long_for_the_protocol_is_error_3(
    rings: tuple[str, World],
) -> None:
    _, world = rings
    channel = _channel(world.wire(GUEST))
    channel.send(HEADER.pack(XS.READ, 1, 0, 4097))
    _until(world, lambda: channel.word(RING_ERROR) == PROTOCOL)
    _still_serves(world)


def test_more_requests_than_the_ring_holds_is_error_2(rings: tuple[str, World]) -> None:
    _, world = rings
    channel = _channel(world.wire(GUEST))
    channel.set_word(REQ_PROD, channel.word(REQ_CONS) + 1025)
    channel.notify()
    _until(world, lambda: channel.word(RING_ERROR) == RING_INDEX)
    _still_serves(world)


def test_a_reply_read_before_it_came_is_error_2(rings: tuple[str, World]) -> None:
    _, world = rings
    channel = _channel(world.wire(GUEST))
    channel.set_word(RSP_CONS, channel.word(RSP_CONS) + 5)
    channel.send(_request(XS.READ, z("/")))
    _until(world, lambda: channel.word(RING_ERROR) == RING_INDEX)
    _still_serves(world)


def test_a_domain_with_a_broken_ring_can_go_xsa_325(rings: tuple[str, World]) -> None:
    _, world = rings
    channel = _channel(world.wire(GUEST))
    channel.set_word(REQ_PROD, channel.word(REQ_CONS) + 4000)
    channel.notify()
    _until(world, lambda: channel.word(RING_ERROR) == RING_INDEX)
    wire = world.wire(DOM0)
    assert wire.ask(XS.WATCH, z("@releaseDomain", "t")).payload == b"OK\0"
    wire.settle()
    world.domain("destroy", 5)
    wire.ask(XS.READ, z("/"))
    assert wire.arrived[0].payload == z("@releaseDomain", "t")
    assert world.wire(OTHER).ask(XS.GET_DOMAIN_PATH, z(5)).type == XS.GET_DOMAIN_PATH


def test_introduce_again_and_a_broken_ring(rings: tuple[str, World]) -> None:
    name, world = rings
    channel = _channel(world.wire(GUEST))
    channel.send(HEADER.pack(XS.READ, 1, 0, 4097))
    _until(world, lambda: channel.word(RING_ERROR) == PROTOCOL)
    assert world.wire(DOM0).ask(XS.INTRODUCE, z(5, 1, 1)).payload == b"OK\0"
    healed = channel.word(RING_ERROR) == NO_ERROR
    assert ("yes" if healed else "no") == (
        HEALED.c_417 if name == "c_417" else HEALED.ours
    )


def test_a_client_that_asks_for_reconnection(rings: tuple[str, World]) -> None:
    name, world = rings
    _own(world, "/a")
    channel = _channel(world.wire(GUEST))
    assert world.wire(GUEST).ask(XS.WATCH, z("/a", "t")).payload == b"OK\0"
    channel.set_word(CONNECTION, 1)
    channel.notify()
    if name == "c_417":
        # It does not offer that, and takes no notice: what it would do it has done
        # when it has answered another one.
        _still_serves(world)
        assert (channel.word(CONNECTION) == 0) == (RECONNECTION.c_417 == "yes")
        return
    _until(world, lambda: channel.word(CONNECTION) == 0)
    assert RECONNECTION.ours == "yes"
    fresh = Wire(channel)
    assert fresh.ask(XS.UNWATCH, z("/a", "t")).payload == b"ENOENT\0"
