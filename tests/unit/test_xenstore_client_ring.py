"""A domain's ring that is lost, and had again by its client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.helpers_xenstore import run
from tests.helpers_xenstore_client import Ring, Stores, make_home
from xenvirt.abi.xs_wire import HEADER, RingError, XsWire
from xenvirt.xenstore.client import Client
from xenvirt.xenstore.errors import StoreConnectionError
from xenvirt.xenstore.framing import encode
from xenvirt.xenstore.ring_client import Channel


@asynccontextmanager
async def on_ring() -> AsyncIterator[tuple[Stores, Ring, Client]]:
    """domain 1's client on a ring that any store can serve."""
    async with AsyncExitStack() as stack:
        made = Stores(stack)
        made.start()
        ring = Ring(stack)
        ring.serve(made.store)

        async def same_channel() -> Channel:
            return ring.client_end

        client = await ring.client(reconnect=same_channel)
        await stack.enter_async_context(client)
        yield made, ring, client


async def home(made: Stores) -> None:
    async with await Client.connect_socket(made.store.socket()) as dom0:
        await make_home(dom0)


def test_a_ring_is_taken_up_by_the_next_store() -> None:
    async def main() -> None:
        async with on_ring() as (made, ring, client):
            await home(made)
            async with client.watch("a") as watch:
                assert await anext(watch) == "a"
                made.kill()
                reading = asyncio.ensure_future(client.domain_path(1))
                await asyncio.sleep(0)
                made.start()
                await home(made)
                client.reconnect()
                ring.serve(made.store)
                assert await reading == "/local/domain/1"
                assert await anext(watch) == "a"
                await client.write("a", "v")
                assert await anext(watch) == "a"

    run(main())


def test_a_ring_that_the_store_gave_up_begins_anew() -> None:
    async def main() -> None:
        async with on_ring() as (_, ring, client):
            assert await client.domain_path(1) == "/local/domain/1"
            # Half a message of nonsense: the store gives the ring up.
            assert ring.page.write(HEADER.pack(XsWire.READ, 1, 0, 5000)) == 16
            ring.client_end.notify()
            assert await client.domain_path(2) == "/local/domain/2"
            assert ring.page.error == RingError.NONE

    run(main())


def test_half_a_message_in_the_ring_is_forgotten() -> None:
    async def main() -> None:
        async with on_ring() as (_, ring, client):
            assert await client.domain_path(1) == "/local/domain/1"
            ring.page.write(encode(XsWire.READ, 1, 0, b"/\0")[:10])
            ring.client_end.notify()
            client.reconnect()
            assert await client.domain_path(2) == "/local/domain/2"

    run(main())


def test_a_ring_without_reconnection_cannot_be_had_again() -> None:
    async def main() -> None:
        async with on_ring() as (made, ring, client):
            assert await client.domain_path(1) == "/local/domain/1"
            made.kill()
            ring.page.server_features = 0
            client.reconnect()
            with pytest.raises(StoreConnectionError, match="no ring reconnection"):
                await client.domain_path(1)

    run(main())
