"""Clients of a running store, over a socket and over a ring, and what it counts."""

import asyncio
import mmap
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import pytest

from tests.helpers_xenstore import RunningStore, event_channel, running_store
from xenvirt.native import XsRingPage
from xenvirt.xenstore.client import Client
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
        self.page = XsRingPage(self.memory, 0, "client")
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
