"""Connections that are lost, and what their clients do about it."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.helpers_xenstore import listening, run, running_store
from tests.helpers_xenstore_client import Stores, answering, stores
from xenvirt.errors import LocalError
from xenvirt.xenstore.client import Client, Transaction
from xenvirt.xenstore.errors import (
    StoreAgainError,
    StoreConnectionError,
    StoreNotFoundError,
    StoreUncertainError,
)


def on_stores(check: Callable[[Stores], Awaitable[None]]) -> None:
    async def main() -> None:
        async with stores() as made:
            await check(made)

    run(main())


def test_without_a_way_to_reconnect_a_loss_is_an_error() -> None:
    async def check(made: Stores) -> None:
        async with await Client.connect_socket(made.store.socket()) as client:
            made.kill()
            with pytest.raises(StoreConnectionError, match="no connection"):
                await client.read("/")
            with pytest.raises(LocalError, match="without a way to reconnect"):
                client.reconnect()

    on_stores(check)


def test_requests_after_a_loss_are_served_by_the_next_store() -> None:
    async def check(made: Stores) -> None:
        client = await made.connect()
        made.kill()
        await client.write("/a", "v")
        assert await client.read("/a") == "v"
        assert made.reconnections == 1

    on_stores(check)


def test_requests_in_flight_are_sent_again_in_their_order() -> None:
    async def check(made: Stores) -> None:
        client = await made.connect()
        await made.stall(client)
        work = [client.write("/a", str(n)) for n in range(10)]
        reads = [client.read("/a"), client.exists("/none"), client.ls("/")]
        waiting = asyncio.gather(*work, *reads)
        await asyncio.sleep(0)
        made.kill()
        assert (await waiting)[10:] == ["9", False, ["tool", "a"]]

    on_stores(check)


def test_a_removal_that_was_done_before_is_done() -> None:
    async def check(made: Stores) -> None:
        client = await made.connect()
        await made.stall(client)
        removing = asyncio.ensure_future(client.rm("/not/there"))
        await asyncio.sleep(0)
        made.kill()
        await removing
        with pytest.raises(StoreNotFoundError):
            await client.rm("/not/there")

    on_stores(check)


def test_an_introduction_in_flight_is_made_again_if_it_was_not_made() -> None:
    async def check(made: Stores) -> None:
        client = await made.connect()
        introduction = asyncio.ensure_future(client.introduce(2, 1, 1))
        await asyncio.sleep(0)
        made.kill()
        assert not await client.is_domain_introduced(2)
        with answering(made.store):
            await introduction
        assert await client.is_domain_introduced(2)

    on_stores(check)


def test_a_command_in_flight_is_uncertain() -> None:
    async def check(made: Stores) -> None:
        client = await made.connect()
        await made.stall(client)
        command = asyncio.ensure_future(client.control("check"))
        await asyncio.sleep(0)
        made.kill()
        with pytest.raises(StoreUncertainError):
            await command

    on_stores(check)


def test_watches_are_registered_again_and_tell_to_look() -> None:
    async def check(made: Stores) -> None:
        client = await made.connect()
        async with client.watch("/a") as watch, client.watch("/b") as other:
            assert [await anext(watch), await anext(other)] == ["/a", "/b"]
            made.kill()
            assert [await anext(watch), await anext(other)] == ["/a", "/b"]
            await client.write("/a/x", "v")
            assert await anext(watch) == "/a/x"

    on_stores(check)


def test_a_watch_in_the_making_is_made_once() -> None:
    async def check(made: Stores) -> None:
        client = await made.connect()
        await made.stall(client)
        watch = client.watch("/a")
        first = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
        made.kill()
        assert await first == "/a"
        await client.write("/a", "v")
        assert await anext(watch) == "/a"
        watch.close()

    on_stores(check)


def test_a_watch_that_was_taken_back_meanwhile_is_not_registered_again() -> None:
    async def check(made: Stores) -> None:
        client = await made.connect()
        async with client.watch("/a"):
            client.reconnect()
        await client.exists("/a")
        # A token that is in use would be refused.
        async with client.watch("/a") as watch:
            assert await anext(watch) == "/a"

    on_stores(check)


def test_a_watch_that_the_next_store_refuses_says_so() -> None:
    async def main() -> None:
        async with stores() as made:
            guest = await Client.connect_socket(
                made.store.socket(1), reconnect=lambda: no_watches(made)
            )
            async with guest, guest.watch("/a") as watch:
                await anext(watch)
                made.kill()
                with pytest.raises(Exception, match="ENOSPC"):
                    await anext(watch)

    async def no_watches(made: Stores) -> socket.socket:
        store = made.start()
        async with await Client.connect_socket(store.socket()) as dom0:
            await dom0.set_quota("watches", 1, 1)
        return store.socket(1)

    run(main())


def test_a_transaction_is_lost_and_done_again() -> None:
    async def check(made: Stores) -> None:
        client = await made.connect()
        tries = 0

        async def work(transaction: Transaction) -> None:
            nonlocal tries
            tries += 1
            await transaction.write("/a", "v")
            if tries == 1:
                made.kill()
            if tries == 2:
                client.reconnect()
            await transaction.write("/b", "v")

        await client.transact(work)
        assert tries == 3
        assert await client.ls("/") == ["tool", "a", "b"]

    on_stores(check)


def test_a_transaction_block_is_lost() -> None:
    async def check(made: Stores) -> None:
        client = await made.connect()

        async def block() -> None:
            async with client.transaction() as transaction:
                await transaction.write("/a", "v")
                client.reconnect()

        with pytest.raises(StoreAgainError):
            await block()
        assert not await client.exists("/a")

    on_stores(check)


@pytest.mark.parametrize("idempotent", [False, True])
def test_a_commit_in_flight_is_done_again_only_if_that_is_the_same(
    idempotent: bool,
) -> None:
    async def check(made: Stores) -> None:
        client = await made.connect()
        tries = 0

        async def work(transaction: Transaction) -> None:
            nonlocal tries
            tries += 1
            await transaction.write("/a", str(tries))
            if tries == 1:
                await made.stall(client)
                asyncio.get_running_loop().call_later(0.01, made.kill)

        if idempotent:
            await client.transact(work, idempotent=True)
            assert await client.read("/a") == "2"
        else:
            with pytest.raises(StoreUncertainError):
                await client.transact(work)
            assert tries == 1

    on_stores(check)


def test_what_reconnecting_raises_ends_the_client() -> None:
    async def check(made: Stores) -> None:
        async def refuse() -> socket.socket:
            raise StoreConnectionError("no other store")

        client = await Client.connect_socket(made.store.socket(), reconnect=refuse)
        watch = client.watch("/a")
        await anext(watch)
        waiting = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
        made.kill()
        for request in (waiting, client.read("/"), client.read("/")):
            with pytest.raises(StoreConnectionError, match="no other store"):
                await request

    on_stores(check)


def test_a_store_that_goes_at_once_is_left_for_the_next() -> None:
    async def check(made: Stores) -> None:
        tries = 0

        async def reconnect() -> socket.socket:
            nonlocal tries
            tries += 1
            ours = made.start().socket()
            if tries < 3:
                made.kill()
            return ours

        client = await Client.connect_socket(made.store.socket(), reconnect=reconnect)
        async with client:
            made.kill()
            assert await client.ls("/") == ["tool"]
            assert tries == 3

    on_stores(check)


def test_closing_while_reconnecting_wakes_every_waiter() -> None:
    async def check(made: Stores) -> None:
        async def never() -> socket.socket:
            await asyncio.Event().wait()
            raise AssertionError

        client = await Client.connect_socket(made.store.socket(), reconnect=never)
        made.kill()
        waiting = asyncio.ensure_future(client.read("/"))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        client.close()
        with pytest.raises(StoreConnectionError, match="closed by this end"):
            await waiting

    on_stores(check)


def test_a_request_that_is_cancelled_while_reconnecting_is_not_sent() -> None:
    async def check(made: Stores) -> None:
        client = await made.connect()
        client.reconnect()
        writing = asyncio.ensure_future(client.write("/a", "v"))
        await asyncio.sleep(0)
        writing.cancel()
        assert await client.ls("/") == ["tool"]

    on_stores(check)


def test_a_path_is_tried_until_somebody_listens(tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def main() -> None:
        with running_store() as store:
            store.listen(str(path), 0, privileged=True)
            client = await Client.connect_unix(str(path), reconnect_s=10)
        path.unlink()
        reading = asyncio.ensure_future(client.ls("/"))
        await asyncio.sleep(0.05)
        assert not reading.done()
        with running_store() as store:
            store.server.listen(listening(str(path)))
            assert await reading == ["tool"]
            client.close()

    run(main())


def test_a_path_is_not_tried_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def main() -> None:
        with running_store() as store:
            store.listen(str(path), 0, privileged=True)
            client = await Client.connect_unix(str(path), reconnect_s=0.05)
        with pytest.raises(StoreConnectionError, match="refused"):
            await client.ls("/")

    run(main())
