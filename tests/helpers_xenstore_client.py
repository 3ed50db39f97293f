"""Clients of a running store, over a socket and over a ring, and what it counts."""

import asyncio
import mmap
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import pytest

from tests.helpers_xenstore import RunningStore, event_channel, running_store
from xenvirt.abi.xs_wire import XsWire
from xenvirt.native.xs_ring import XsRingPage
from xenvirt.xenstore.client import Client
from xenvirt.xenstore.errors import StoreUncertainError
from xenvirt.xenstore.ring_client import Channel
from xenvirt.xenstore.server import UpcallKind

TRANSPORTS = pytest.mark.parametrize("transport", ["socket", "ring"])


class Pair:
    """dom0's client on a socket, and domain 1's on a socket or its ring."""

    def __init__(self, store: RunningStore, dom0: Client, guest: Client) -> None:
        self.store = store
        self.dom0 = dom0
        self.guest = guest

    async def count(self, what: str) -> int:
        """How many of them the store has counted for domain 1."""
        # Once for the answers that the guest was not given yet, and once for what
        # it sent because of them: then the store has seen everything.
        await self.guest.domain_path(1)
        await self.guest.domain_path(1)
        report = await self.dom0.control("quota", "1")
        found = re.search(rf"^{what} *: *(\d+)", report, re.MULTILINE)
        assert found is not None, report
        return int(found[1])


class Ring:
    """The page of domain 1, and both ends of its event channel."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.memory = mmap.mmap(-1, 4096)
        self.page = XsRingPage(self.memory, 0)
        stack.callback(self.page.close)
        self.server_end, self.client_end = stack.enter_context(event_channel())

    def serve(self, store: RunningStore) -> None:
        store.serve_ring(1, self.memory, self.server_end)

    async def client(
        self, *, reconnect: Callable[[], Awaitable[Channel]] | None = None
    ) -> Client:
        return await Client.connect_ring(
            self.page, self.client_end, reconnect=reconnect
        )


async def make_home(dom0: Client) -> None:
    """Give domain 1 a place of its own."""
    await dom0.mkdir("/local/domain/1")
    await dom0.set_perms("/local/domain/1", ["n1"])


@asynccontextmanager
async def pair(transport: str) -> AsyncIterator[Pair]:
    """A store with both clients; every domain may be introduced."""
    async with AsyncExitStack() as stack:
        store = stack.enter_context(running_store())
        stack.enter_context(answering(store))
        dom0 = await Client.connect_socket(store.socket())
        await stack.enter_async_context(dom0)
        await make_home(dom0)
        if transport == "socket":
            guest = await Client.connect_socket(store.socket(1))
        else:
            ring = Ring(stack)
            ring.serve(store)
            guest = await ring.client()
        await stack.enter_async_context(guest)
        yield Pair(store, dom0, guest)


@contextmanager
def answering(store: RunningStore) -> Iterator[None]:
    """Be the hypervisor that lets every domain be introduced and released."""
    loop, fd = asyncio.get_running_loop(), store.server.upcall_fd

    def answer() -> None:
        while (upcall := store.server.next_upcall()) is not None:
            assert upcall.kind != UpcallKind.LIVE_UPDATE
            store.server.answer(upcall.conn_id)

    loop.add_reader(fd, answer)
    try:
        yield
    finally:
        loop.remove_reader(fd)


async def introduce(client: Client) -> None:
    with pytest.raises(StoreUncertainError):
        await client.request(XsWire.INTRODUCE, b"2\0001\0001\0")


class Stores:
    """A store, and the next one when it has been killed, and a client of either."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._stalling: list[asyncio.Future[None]] = []
        self.reconnections = 0

    def start(self) -> RunningStore:
        self.store = self._stack.enter_context(running_store())
        return self.store

    def kill(self) -> None:
        """All connections end; nothing of the nodes is kept."""
        self.store.server.close()

    async def stall(self, client: Client) -> None:
        """Keep the store from serving the client: its hypervisor does not answer."""
        self._stalling.append(asyncio.ensure_future(introduce(client)))
        await asyncio.sleep(0)

    async def connect(self) -> Client:
        """dom0's client, which finds the next store."""
        client = await Client.connect_socket(
            self.store.socket(), reconnect=self._reconnect
        )
        return await self._stack.enter_async_context(client)

    async def _reconnect(self) -> socket.socket:
        self.reconnections += 1
        return self.start().socket()


@asynccontextmanager
async def stores() -> AsyncIterator[Stores]:
    async with AsyncExitStack() as stack:
        made = Stores(stack)
        made.start()
        yield made
