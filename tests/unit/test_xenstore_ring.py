"""The ring page from both sides, and from the side of a domain that lies."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.helpers_xenstore import (
    EventChannel,
    FakeDomains,
    MemoryRingPage,
    ask,
    event_channel,
    run,
    served_ring,
)
from xenvirt.abi.ids import DomId
from xenvirt.abi.xs_wire import HEADER, RingConnection, RingError, XsWire
from xenvirt.xenstore.client import Client
from xenvirt.xenstore.engine import Engine
from xenvirt.xenstore.errors import StoreConnectionError
from xenvirt.xenstore.framing import Message, MessageDecoder, encode

REQ_PROD, RSP_CONS, RSP_PROD = 2052, 2056, 2060
ASK_PATH = encode(XsWire.GET_DOMAIN_PATH, 1, 0, b"1\0")


async def settle() -> None:
    """Let both ends do all that they can without us."""
    for _ in range(20):
        await asyncio.sleep(0)


class Ring:
    """A served ring of domain 1, and its raw other end."""

    def __init__(self, client_end: EventChannel) -> None:
        self.buffer = bytearray(os.urandom(2048) + bytes(2048))
        self.client = MemoryRingPage(self.buffer, "client")
        for index in (2048, 2052, 2056, 2060):
            self.client.set_word(index, 0xFFFFFFF0)
        self.engine = Engine(FakeDomains())
        self.dom0 = self.engine.connect(0)
        ask(self.engine, self.dom0, XsWire.MKDIR, b"/local/domain/1\0")
        ask(self.engine, self.dom0, XsWire.SET_PERMS, b"/local/domain/1\0n1\0")
        self.channel = client_end

    async def exchange(self, data: bytes) -> bytes:
        """Write what there is room for, notify, return what came."""
        assert self.client.write(data) == len(data)
        self.channel.notify()
        await settle()
        return self.client.read(1024)

    def notified(self) -> bool:
        """Whether the server has notified since the last call."""
        try:
            return os.eventfd_read(self.channel.fd) > 0
        except BlockingIOError:
            return False


@asynccontextmanager
async def ring() -> AsyncIterator[Ring]:
    with event_channel() as (server_end, client_end):
        served = Ring(client_end)
        with served_ring(served.engine, 1, served.buffer, server_end):
            await settle()
            served.notified()
            yield served


def on_ring(check: Callable[[Ring], Awaitable[None]]) -> None:
    async def main() -> None:
        async with ring() as served:
            await check(served)

    run(main())


def test_the_page_tells_what_the_server_offers() -> None:
    async def check(served: Ring) -> None:
        assert served.client.server_features == 14
        assert served.client.connection == RingConnection.CONNECTED
        assert served.client.error == RingError.NONE

    on_ring(check)


def test_a_reply_comes_across_the_wrap_of_the_indices() -> None:
    async def check(served: Ring) -> None:
        reply = await served.exchange(ASK_PATH)
        assert reply == encode(XsWire.GET_DOMAIN_PATH, 1, 0, b"/local/domain/1\0")
        assert served.client.word(RSP_PROD) == 16

    on_ring(check)


def test_the_server_notifies_for_room_as_for_replies() -> None:
    async def check(served: Ring) -> None:
        await served.exchange(ASK_PATH[:10])
        assert served.notified()
        await served.exchange(ASK_PATH[10:])
        assert served.notified()
        served.channel.notify()
        await settle()
        assert not served.notified()

    on_ring(check)


def test_requests_that_were_there_before_the_server_are_served() -> None:
    async def main() -> None:
        with event_channel() as (server_end, _):
            buffer = bytearray(4096)
            client = MemoryRingPage(buffer, "client")
            client.write(ASK_PATH)
            with served_ring(Engine(FakeDomains()), 1, buffer, server_end):
                await settle()
                assert len(client.read(1024)) == 32

    run(main())


def test_unread_replies_keep_requests_in_the_ring() -> None:
    async def check(served: Ring) -> None:
        value = b"v" * 1000
        ask(served.engine, served.dom0, XsWire.WRITE, b"/local/domain/1/x\0" + value)
        requests = encode(XsWire.READ, 1, 0, b"x\0") * 50
        while served.client.write(requests) == len(requests):
            served.channel.notify()
            await settle()
        stuck = served.client.word(REQ_PROD)
        served.channel.notify()
        await settle()
        assert served.client.write(requests) == 0
        assert (stuck - 0xFFFFFFF0) % (1 << 32) < 8192
        assert len(served.client.read(1024)) == 1024
        served.channel.notify()
        await settle()
        assert len(served.client.read(1024)) == 1024

    on_ring(check)


def test_events_reach_an_idle_domain() -> None:
    async def check(served: Ring) -> None:
        await served.exchange(encode(XsWire.WATCH, 1, 0, b"x\0t\0"))
        served.notified()
        ask(served.engine, served.dom0, XsWire.WRITE, b"/local/domain/1/x\0v")
        await settle()
        assert served.notified()
        (event,) = MessageDecoder().feed(served.client.read(1024))
        assert event == Message(XsWire.WATCH_EVENT, 0, 0, b"x\0t\0")

    on_ring(check)


@pytest.mark.parametrize("index", [REQ_PROD, RSP_CONS])
def test_indices_too_far_apart_stop_the_service(index: int) -> None:
    async def check(served: Ring) -> None:
        served.client.set_word(index, served.client.word(index) + 1025)
        if index == RSP_CONS:
            served.client.write(ASK_PATH)
        served.channel.notify()
        await settle()
        assert served.client.error == RingError.RINGIDX
        assert list(served.engine.connections) == [served.dom0]
        served.engine.domain_dead(DomId(1))

    on_ring(check)


def test_a_message_that_is_too_long_stops_the_service() -> None:
    async def check(served: Ring) -> None:
        assert await served.exchange(HEADER.pack(XsWire.READ, 1, 0, 4097)) == b""
        assert served.client.error == RingError.PROTO
        assert await served.exchange(ASK_PATH) == b""
        assert served.notified()

    on_ring(check)


def test_a_domain_cannot_ask_for_a_reconnection_that_is_not_offered() -> None:
    async def check(served: Ring) -> None:
        served.client.connection = RingConnection.RECONNECT
        assert await served.exchange(ASK_PATH) != b""
        assert served.client.connection == RingConnection.RECONNECT

    on_ring(check)


def test_a_dead_domains_ring_is_left_alone() -> None:
    async def check(served: Ring) -> None:
        served.engine.domain_dead(DomId(1))
        assert await served.exchange(ASK_PATH) == b""

    on_ring(check)


def test_a_client_waits_until_the_server_has_connected() -> None:
    async def main() -> None:
        with event_channel() as (server_end, client_end):
            buffer = bytearray(4096)
            page = MemoryRingPage(buffer, "client")
            page.connection = RingConnection.RECONNECT
            async with await Client.connect_ring(page, client_end) as client:
                waiting = asyncio.ensure_future(client.domain_path(1))
                await settle()
                assert page.word(REQ_PROD) == 0
                with served_ring(Engine(FakeDomains()), 1, buffer, server_end):
                    assert await waiting == "/local/domain/1"

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
