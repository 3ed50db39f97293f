"""The ring page from both sides, and from the side of a domain that lies."""

import asyncio
import contextlib
import mmap
import os
from collections.abc import Iterator

import pytest

from tests.helpers_xenstore import (
    MemoryRingPage,
    RawClient,
    RawRing,
    RunningStore,
    event_channel,
    run,
    running_store,
    until,
)
from xenvirt.abi.xs_wire import (
    HEADER,
    RingConnection,
    RingError,
    ServerFeature,
    XsWire,
)
from xenvirt.xenstore.client import Client
from xenvirt.xenstore.errors import StoreConnectionError
from xenvirt.xenstore.framing import Message, encode

REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD = 2048, 2052, 2056, 2060
INDICES = (REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD)
ASK_PATH = encode(XsWire.GET_DOMAIN_PATH, 1, 0, b"1\0")
PATH = encode(XsWire.GET_DOMAIN_PATH, 1, 0, b"/local/domain/1\0")


@pytest.fixture
def store() -> Iterator[RunningStore]:
    with running_store() as running:
        yield running


@pytest.fixture
def dom0(store: RunningStore) -> RawClient:
    """A privileged client; domain 1 has a directory of its own."""
    client = store.client()
    client.ask(XsWire.MKDIR, b"/local/domain/1\0")
    client.ask(XsWire.SET_PERMS, b"/local/domain/1\0n1\0")
    return client


@pytest.fixture
def ring(store: RunningStore, dom0: RawClient) -> RawRing:
    """The ring of domain 1, its indices about to wrap."""
    ring = store.ring(1)
    ring.notified()
    return ring


def settle(ring: RawRing, store: RunningStore) -> None:
    """Notify, and let the store do all that it does about it."""
    ring.channel.notify()
    # What is asked after the notification is served in that turn, or a later one;
    # the second time it is a later one.
    with store.client() as client:
        for _ in range(2):
            client.ask(XsWire.READ, b"/\0")


# ---- how a ring is served ----


def test_the_page_tells_what_the_server_offers(ring: RawRing) -> None:
    assert ring.page.server_features == (
        ServerFeature.RECONNECTION
        | ServerFeature.ERROR
        | ServerFeature.WATCH_DEPTH
        | ServerFeature.DOMID_ANY
    )
    assert ring.page.connection == RingConnection.CONNECTED
    assert ring.page.error == RingError.NONE


def test_a_domain_is_offered_only_the_features_that_it_was_given(
    store: RunningStore, dom0: RawClient
) -> None:
    dom0.ask(XsWire.SET_FEATURE, b"2\0002\0")
    ring = store.ring(2)
    assert ring.page.server_features == ServerFeature.ERROR
    ring.page.connection = RingConnection.RECONNECT
    assert ring.ask(XsWire.GET_DOMAIN_PATH, b"2\0").payload == b"/local/domain/2\0"
    assert ring.page.connection == RingConnection.RECONNECT


def test_a_reply_comes_across_the_wrap_of_the_indices(ring: RawRing) -> None:
    ring.send(ASK_PATH)
    assert ring.receive(len(PATH)) == PATH
    assert ring.page.word(RSP_PROD) == 16


def test_the_server_notifies_for_room_as_for_replies(
    store: RunningStore, ring: RawRing
) -> None:
    ring.send(ASK_PATH[:10])
    ring.wait()
    ring.send(ASK_PATH[10:])
    ring.wait()
    settle(ring, store)
    assert not ring.notified()


def test_requests_that_were_there_before_the_server_are_served(
    store: RunningStore,
) -> None:
    memory = mmap.mmap(-1, 4096)
    with event_channel() as (server_end, client_end):
        ring = RawRing(memory, client_end)
        ring.page.write(ASK_PATH)
        store.serve_ring(1, memory, server_end)
        assert ring.receive(len(PATH)) == PATH
        store.server.remove_ring(1)


def test_messages_longer_than_the_ring_pass_both_ways(ring: RawRing) -> None:
    value = os.urandom(2000)
    assert ring.ask(XsWire.WRITE, b"x\0" + value).payload == b"OK\0"
    assert ring.ask(XsWire.READ, b"x\0").payload == value


def test_a_request_in_single_bytes_is_answered(ring: RawRing) -> None:
    for byte in ASK_PATH:
        ring.send(bytes([byte]))
    assert ring.receive(len(PATH)) == PATH


def test_unread_replies_keep_requests_in_the_ring(
    store: RunningStore, dom0: RawClient, ring: RawRing
) -> None:
    dom0.ask(XsWire.WRITE, b"/local/domain/1/x\0" + b"v" * 1000)
    requests = encode(XsWire.READ, 1, 0, b"x\0") * 50
    taken = -len(requests)
    while ring.page.write(requests) == len(requests):
        taken += len(requests)
        settle(ring, store)
    settle(ring, store)
    assert ring.page.write(requests) < len(requests)
    assert taken < 8192
    for _ in range(20):
        assert ring.message() == Message(XsWire.READ, 1, 0, b"v" * 1000)


def test_events_reach_an_idle_domain(dom0: RawClient, ring: RawRing) -> None:
    assert ring.ask(XsWire.WATCH, b"x\0t\0").payload == b"OK\0"
    first = ring.message()
    dom0.ask(XsWire.WRITE, b"/local/domain/1/x\0v")
    assert ring.message() == first == Message(XsWire.WATCH_EVENT, 0, 0, b"x\0t\0")


def test_domain_zeros_ring_is_privileged(store: RunningStore) -> None:
    ring = store.ring(0)
    assert ring.ask(XsWire.WRITE, b"/a\0v").payload == b"OK\0"
    assert ring.ask(XsWire.IS_DOMAIN_INTRODUCED, b"3\0").payload == b"F\0"


def test_requests_that_came_while_one_waits_need_no_further_event(
    store: RunningStore,
) -> None:
    ring = store.ring(0)
    ring.send(encode(XsWire.INTRODUCE, 1, 0, b"1\0005\0006\0"))
    upcall = store.upcall()
    # One is received and waits; the other stays in the ring.
    for _ in range(2):
        ring.page.write(ASK_PATH)
        settle(ring, store)
    assert ring.page.word(REQ_PROD) - ring.page.word(REQ_CONS) == len(ASK_PATH)
    store.server.answer(upcall.conn_id)
    expected = encode(XsWire.INTRODUCE, 1, 0, b"OK\0") + PATH * 2
    received = bytearray()

    def has_all() -> bool:
        received.extend(ring.page.read(1024))
        return len(received) >= len(expected)

    until(has_all)
    assert received == expected


def test_a_ring_is_left_alone_once_it_is_removed(
    store: RunningStore, ring: RawRing
) -> None:
    ring.page.write(ASK_PATH)
    store.server.remove_ring(1)
    before = bytes(ring.memory)
    settle(ring, store)
    assert bytes(ring.memory) == before
    # Its memory is not held any more, and the domain may have a ring again.
    ring.memory.close()
    assert store.ring(1).ask(XsWire.GET_DOMAIN_PATH, b"1\0").type != XsWire.ERROR
    store.server.remove_ring(7)


def test_a_dead_domains_ring_is_left_alone(store: RunningStore, ring: RawRing) -> None:
    store.server.domain_dead(1)
    ring.page.write(ASK_PATH)
    before = bytes(ring.memory)
    settle(ring, store)
    assert bytes(ring.memory) == before
    ring.memory.close()


def test_a_domain_has_one_ring(store: RunningStore, ring: RawRing) -> None:
    with event_channel() as (server_end, _), pytest.raises(FileExistsError):
        store.serve_ring(1, mmap.mmap(-1, 4096), server_end)
    assert ring.ask(XsWire.GET_DOMAIN_PATH, b"1\0").payload == b"/local/domain/1\0"


def test_a_page_of_another_size_is_refused(store: RunningStore) -> None:
    with pytest.raises(ValueError, match="4095"):
        store.server.add_ring(1, memoryview(bytearray(4095)), 0, 0)


def test_many_rings_are_served(store: RunningStore) -> None:
    rings = []
    for domid in range(1, 301):
        store.server.domain_created(domid)
        rings.append(store.ring(domid))
    for domid, ring in enumerate(rings, 1):
        ring.send(encode(XsWire.GET_DOMAIN_PATH, domid, 0, b"%d\0" % domid))
    for domid, ring in enumerate(rings, 1):
        assert ring.message().payload == b"/local/domain/%d\0" % domid


# ---- beginning anew ----


def fill_session(ring: RawRing) -> None:
    """Have a transaction, a watch, half a request and unread replies."""
    assert ring.ask(XsWire.TRANSACTION_START, b"\0").payload == b"1\0"
    assert ring.ask(XsWire.WATCH, b"x\0t\0").payload == b"OK\0"
    assert ring.message().type == XsWire.WATCH_EVENT
    ring.send(ASK_PATH + ASK_PATH[:17])
    ring.until(lambda: ring.page.word(REQ_CONS) == ring.page.word(REQ_PROD))
    unread = ring.page.word(RSP_CONS) + len(PATH)
    ring.until(lambda: ring.page.word(RSP_PROD) == unread % (1 << 32))


def expect_empty_session(ring: RawRing, dom0: RawClient) -> None:
    """Nothing of `fill_session` is left."""
    assert ring.page.read(1024) == b""
    assert ring.page.error == RingError.NONE
    assert ring.page.connection == RingConnection.CONNECTED
    ended = ring.ask(XsWire.TRANSACTION_END, b"T\0", tx_id=1)
    assert ended.payload == b"ENOENT\0"
    dom0.ask(XsWire.WRITE, b"/local/domain/1/x\0v")
    unwatched = ring.ask(XsWire.UNWATCH, b"x\0t\0")
    assert (unwatched.type, unwatched.payload) == (XsWire.ERROR, b"ENOENT\0")


def test_a_domain_may_reconnect(dom0: RawClient, ring: RawRing) -> None:
    fill_session(ring)
    ring.page.write(b"to be ignored")
    ring.page.connection = RingConnection.RECONNECT
    ring.channel.notify()
    ring.until(lambda: ring.page.connection == RingConnection.CONNECTED)
    expect_empty_session(ring, dom0)


def test_a_domain_that_waited_for_the_server_is_connected(store: RunningStore) -> None:
    memory = mmap.mmap(-1, 4096)
    with event_channel() as (server_end, client_end):
        ring = RawRing(memory, client_end)
        ring.page.connection = RingConnection.RECONNECT
        ring.page.write(b"to be ignored")
        ring.page.set_word(RSP_PROD, 12345)
        store.serve_ring(1, memory, server_end)
        ring.until(lambda: ring.page.connection == RingConnection.CONNECTED)
        assert ring.page.read(1024) == b""
        ring.send(ASK_PATH)
        assert ring.receive(len(PATH)) == PATH
        store.server.remove_ring(1)


@pytest.mark.parametrize("error", [RingError.NONE, RingError.RINGIDX])
def test_a_ring_that_a_dead_process_served_is_to_be_connected_again(
    store: RunningStore, dom0: RawClient, error: RingError
) -> None:
    memory = mmap.mmap(-1, 4096)
    with event_channel() as (server_end, client_end):
        ring = RawRing(memory, client_end)
        ring.page.write(ASK_PATH[5:])
        ring.page.error = error
        store.serve_ring(1, memory, server_end, served=True)
        expect_broken(store, ring, error or RingError.COMM)
        expect_mended(ring, dom0)
        store.server.remove_ring(1)


def test_a_domain_that_noticed_the_death_itself_is_connected(
    store: RunningStore, dom0: RawClient
) -> None:
    memory = mmap.mmap(-1, 4096)
    with event_channel() as (server_end, client_end):
        ring = RawRing(memory, client_end)
        ring.page.write(ASK_PATH[5:])
        ring.page.connection = RingConnection.RECONNECT
        store.serve_ring(1, memory, server_end, served=True)
        expect_empty_session(ring, dom0)
        store.server.remove_ring(1)


def test_a_ring_may_be_reset(
    store: RunningStore, dom0: RawClient, ring: RawRing
) -> None:
    fill_session(ring)
    store.server.reset_ring(1)
    assert [ring.page.word(index) for index in INDICES] == [0, 0, 0, 0]
    expect_empty_session(ring, dom0)


def test_only_a_served_ring_can_be_reset(store: RunningStore) -> None:
    with pytest.raises(FileNotFoundError):
        store.server.reset_ring(1)


# ---- a domain that breaks the rules ----


def expect_broken(store: RunningStore, ring: RawRing, error: RingError) -> None:
    """The domain is told, its session is gone, and nobody else's is."""
    ring.until(lambda: ring.page.error == error)
    consumed = ring.page.word(REQ_CONS)
    ring.page.set_word(REQ_PROD, consumed)
    ring.page.write(ASK_PATH)
    settle(ring, store)
    assert ring.page.word(REQ_CONS) == consumed
    with store.client() as other:
        other.ask(XsWire.GET_DOMAIN_PATH, b"1\0")


def expect_mended(ring: RawRing, dom0: RawClient) -> None:
    """A reconnection helps."""
    ring.page.connection = RingConnection.RECONNECT
    ring.channel.notify()
    ring.until(lambda: ring.page.connection == RingConnection.CONNECTED)
    expect_empty_session(ring, dom0)


@pytest.mark.parametrize("distance", [1025, 1 << 31, (1 << 32) - 1])
@pytest.mark.parametrize("index", [REQ_PROD, RSP_CONS])
def test_indices_too_far_apart_stop_the_service(
    store: RunningStore, dom0: RawClient, ring: RawRing, index: int, distance: int
) -> None:
    fill_session(ring)
    if index == RSP_CONS:
        ring.page.write(ASK_PATH)
        # The replies that wait there make the distance from the producer.
        distance = -distance
        ring.page.set_word(index, ring.page.word(RSP_PROD) + distance)
    else:
        ring.page.set_word(index, ring.page.word(REQ_CONS) + distance)
    ring.channel.notify()
    expect_broken(store, ring, RingError.RINGIDX)
    expect_mended(ring, dom0)


@pytest.mark.parametrize("step", [-1, 1, 16])
@pytest.mark.parametrize("index", [REQ_CONS, RSP_PROD])
def test_a_domain_that_moves_the_servers_index_breaks_its_ring(
    store: RunningStore, dom0: RawClient, ring: RawRing, index: int, step: int
) -> None:
    fill_session(ring)
    ring.page.write(ASK_PATH)
    ring.page.set_word(index, ring.page.word(index) + step)
    ring.channel.notify()
    expect_broken(store, ring, RingError.RINGIDX)
    expect_mended(ring, dom0)


@pytest.mark.parametrize("length", [4097, 0x80000000, 0xFFFFFFFF])
def test_a_message_that_is_too_long_stops_the_service(
    store: RunningStore, dom0: RawClient, ring: RawRing, length: int
) -> None:
    """What came whole before it is served."""
    writes = b"".join(
        encode(XsWire.WRITE, 1, 0, b"count\0%d" % number) for number in range(18)
    )
    ring.send(writes + HEADER.pack(XsWire.READ, 1, 0, length))
    expect_broken(store, ring, RingError.PROTO)
    assert dom0.ask(XsWire.READ, b"/local/domain/1/count\0") == b"17"
    expect_mended(ring, dom0)


def test_a_broken_ring_may_be_reset(
    store: RunningStore, dom0: RawClient, ring: RawRing
) -> None:
    ring.page.set_word(REQ_PROD, 12345)
    ring.channel.notify()
    expect_broken(store, ring, RingError.RINGIDX)
    store.server.reset_ring(1)
    expect_empty_session(ring, dom0)


def test_a_broken_rings_domain_may_die(store: RunningStore, ring: RawRing) -> None:
    ring.page.set_word(REQ_PROD, 12345)
    ring.channel.notify()
    expect_broken(store, ring, RingError.RINGIDX)
    store.server.domain_dead(1)
    assert store.client().ask(XsWire.READ, b"/\0") == b""


def test_a_broken_ring_is_logged(
    store: RunningStore, ring: RawRing, caplog: pytest.LogCaptureFixture
) -> None:
    ring.page.set_word(REQ_PROD, 12345)
    ring.channel.notify()
    ring.until(lambda: ring.page.error == RingError.RINGIDX)
    until(lambda: store.server.next_upcall() is not None or bool(caplog.messages))
    assert caplog.messages == ["XenStore ring of domain 1 is given up, error 2"]


def test_an_eventfd_that_is_full_and_blocks_stops_nobody(
    store: RunningStore, ring: RawRing
) -> None:
    """The domain shares the open files of both directions."""
    ring.page.write(ASK_PATH)
    for fd in (ring.channel.fd, ring.channel.peer_fd):
        os.set_blocking(fd, False)
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(fd)
        os.set_blocking(fd, True)
        os.eventfd_write(fd, 0xFFFFFFFFFFFFFFFE)
    until(lambda: ring.page.read(1024) == PATH)
    assert store.client().ask(XsWire.READ, b"/\0") == b""


def test_garbage_in_every_word_harms_nobody_else(
    store: RunningStore, ring: RawRing
) -> None:
    other = store.client()
    for _ in range(300):
        ring.memory[:2068] = os.urandom(2068)
        ring.page.connection = RingConnection.RECONNECT
        ring.channel.notify()
        assert other.ask(XsWire.READ, b"/\0") == b""
    ring.until(lambda: ring.page.connection == RingConnection.CONNECTED)
    ring.send(ASK_PATH)
    assert ring.receive(len(PATH)) == PATH


# ---- the domain's end ----


def test_a_client_waits_until_the_server_has_connected(store: RunningStore) -> None:
    memory = mmap.mmap(-1, 4096)

    async def main() -> None:
        with event_channel() as (server_end, client_end):
            page = MemoryRingPage(memory, "client")
            page.connection = RingConnection.RECONNECT
            async with await Client.connect_ring(page, client_end) as client:
                waiting = asyncio.ensure_future(client.domain_path(1))
                for _ in range(20):
                    await asyncio.sleep(0)
                assert page.word(REQ_PROD) == 0
                store.serve_ring(1, memory, server_end)
                assert await waiting == "/local/domain/1"
                store.server.remove_ring(1)

    run(main())


def test_a_client_learns_that_the_store_gave_up_the_ring() -> None:
    async def main() -> None:
        with event_channel() as (server_end, client_end):
            page = MemoryRingPage(bytearray(4096), "client")
            async with await Client.connect_ring(page, client_end) as client:
                waiting = asyncio.ensure_future(client.domain_path(1))
                page.error = RingError.RINGIDX
                server_end.notify()
                with pytest.raises(StoreConnectionError, match="error 2"):
                    await waiting

    run(main())


def test_a_client_does_not_believe_the_servers_indices_either() -> None:
    async def main() -> None:
        with event_channel() as (server_end, client_end):
            page = MemoryRingPage(bytearray(4096), "client")
            async with await Client.connect_ring(page, client_end) as client:
                waiting = asyncio.ensure_future(client.domain_path(1))
                page.set_word(RSP_PROD, 1025)
                server_end.notify()
                with pytest.raises(StoreConnectionError, match="1025"):
                    await waiting

    run(main())
