"""The asynchronous client, over a socket and over a ring."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.helpers_xenstore import (
    FakeDomains,
    MemoryRingPage,
    client_socket,
    event_channel,
    run,
    served_ring,
)
from xenvirt.errors import StoreError
from xenvirt.xenstore.client import Client, Transaction
from xenvirt.xenstore.engine import Engine
from xenvirt.xenstore.errors import (
    StoreAccessError,
    StoreAgainError,
    StoreConnectionError,
    StoreInvalidError,
    StoreNotFoundError,
    StoreTooBigError,
    request_error,
)


@asynccontextmanager
async def pair(transport: str) -> AsyncIterator[tuple[Client, Client]]:
    """dom0's client on a socket, and domain 1's on a socket or its ring."""
    engine = Engine(FakeDomains())
    async with await Client.connect_socket(await client_socket(engine)) as dom0:
        await dom0.mkdir("/local/domain/1")
        await dom0.set_perms("/local/domain/1", ["n1"])
        if transport == "socket":
            sock = await client_socket(engine, 1, privileged=False)
            async with await Client.connect_socket(sock) as guest:
                yield dom0, guest
            return
        page = bytearray(4096)
        with (
            event_channel() as (server_end, client_end),
            served_ring(engine, 1, page, server_end),
        ):
            async with await Client.connect_ring(
                MemoryRingPage(page, "client"), client_end
            ) as guest:
                yield dom0, guest


@pytest.fixture(params=["socket", "ring"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_nodes_are_written_listed_read_and_removed(transport: str) -> None:
    async def main() -> None:
        async with pair(transport) as (dom0, guest):
            await guest.write("data/a", "grün")
            await guest.write("data/b", b"\xff\0")
            await guest.mkdir("data/c")
            assert await guest.ls("data") == ["a", "b", "c"]
            assert await dom0.read("/local/domain/1/data/a") == "grün"
            assert await guest.read_bytes("data/b") == b"\xff\0"
            await guest.rm("data/b")
            assert not await guest.exists("data/b")
            assert await guest.exists("data/c")
            await guest.set_perms("data/c", ["n1", "r2"])
            perms = await guest.get_perms("data/c")
            assert [str(entry) for entry in perms] == ["n1", "r2"]

    run(main())


def test_a_message_longer_than_the_ring_passes_both_ways(transport: str) -> None:
    async def main() -> None:
        async with pair(transport) as (dom0, guest):
            await dom0.write("/local/domain/1/long", b"x" * 4000)
            assert await guest.read("long") == "x" * 4000
            await guest.write("own", b"y" * 2000)
            assert await dom0.read("/local/domain/1/own") == "y" * 2000

    run(main())


def test_many_requests_in_flight_find_their_replies(transport: str) -> None:
    async def main() -> None:
        async with pair(transport) as (_, guest):
            names = [f"n{i}" for i in range(200)]
            await asyncio.gather(*(guest.write(n, n) for n in names))
            assert await asyncio.gather(*map(guest.read, names)) == names

    run(main())


def test_a_huge_directory_is_listed_in_parts(transport: str) -> None:
    async def main() -> None:
        async with pair(transport) as (dom0, guest):
            names = [f"{'n' * 60}{i}" for i in range(300)]
            for name in names:
                await dom0.mkdir(f"/local/domain/1/{name}")
            assert await guest.ls("/local/domain/1") == names

    run(main())


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("none", StoreNotFoundError),
        ("/tool", StoreAccessError),
        ("a//b", StoreInvalidError),
        ("n" * 5000, StoreTooBigError),
    ],
)
def test_errors_are_typed_and_carry_the_path(
    path: str, error: type[StoreError]
) -> None:
    async def main() -> None:
        async with pair("socket") as (_, guest):
            with pytest.raises(error) as caught:
                await guest.read(path)
            assert caught.value.path == path  # type: ignore[attr-defined]

    run(main())


@pytest.mark.parametrize(
    ("payload", "name"),
    [(b"EROFS\0", "EROFS"), (b"EWHAT\0", "EINVAL"), (b"\xff", "EINVAL")],
)
def test_an_unknown_error_is_einval(payload: bytes, name: str) -> None:
    assert request_error(payload).errno_name == name


def test_a_watch_starts_with_an_event_and_follows_changes(transport: str) -> None:
    async def main() -> None:
        async with (
            pair(transport) as (dom0, guest),
            guest.watch("data") as watch,
        ):
            assert await anext(watch) == "data"
            await dom0.write("/local/domain/1/data/x", "1")
            assert await anext(watch) == "data/x"

    run(main())


def test_a_watch_can_be_iterated_without_a_block() -> None:
    async def main() -> None:
        async with pair("socket") as (dom0, guest):
            watch, seen = guest.watch("data"), []
            async for path in watch:
                seen.append(path)
                if len(seen) == 3:
                    break
                await dom0.write(f"/local/domain/1/data/{len(seen)}", "v")
            await watch.close()
            assert seen == ["data", "data/1", "data/2"]
            # The guest's next answer comes after the store has seen its UNWATCH.
            await guest.exists("data")
            assert "watches           :        0" in await dom0.control("memreport")

    run(main())


def test_equal_events_that_nobody_has_taken_are_one() -> None:
    async def main() -> None:
        async with pair("socket") as (_, guest), guest.watch("data") as watch:
            await anext(watch)
            for _ in range(10):
                await guest.write("data", "v")
            await guest.write("data/end", "v")
            assert [await anext(watch), await anext(watch)] == ["data", "data/end"]

    run(main())


def test_leaving_a_watch_takes_it_back(transport: str) -> None:
    async def main() -> None:
        async with pair(transport) as (dom0, guest):
            async with guest.watch("data"):
                assert "watches           :        1" in await dom0.control("memreport")
            # The guest's next answer comes after the store has seen its UNWATCH.
            await guest.exists("data")
            assert "watches           :        0" in await dom0.control("memreport")

    run(main())


def test_cancelling_a_waiting_watcher_takes_the_watch_back() -> None:
    async def main() -> None:
        async with pair("socket") as (dom0, guest):
            first = asyncio.Event()

            async def follow() -> None:
                async with guest.watch("data") as watch:
                    async for _ in watch:
                        first.set()

            task = asyncio.create_task(follow())
            await first.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            # The guest's next answer comes after the store has seen its UNWATCH.
            await guest.exists("data")
            assert "watches           :        0" in await dom0.control("memreport")

    run(main())


def test_depth_is_passed_on() -> None:
    async def main() -> None:
        async with pair("socket") as (_, guest), guest.watch("a", depth=0) as watch:
            await anext(watch)
            await guest.write("a/b", "v")
            await guest.write("a", "v")
            assert await anext(watch) == "a"

    run(main())


def test_a_transaction_commits_at_the_end_of_its_block(transport: str) -> None:
    async def main() -> None:
        async with pair(transport) as (_, guest):
            async with guest.transaction() as transaction:
                await transaction.write("a", "v")
                assert not await guest.exists("a")
                assert await transaction.read("a") == "v"
            assert await guest.read("a") == "v"

    run(main())


def test_an_exception_aborts_the_transaction() -> None:
    async def main() -> None:
        async with pair("socket") as (dom0, guest):

            async def fail(transaction: Transaction) -> None:
                await transaction.write("a", "v")
                raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await guest.transact(fail)
            assert not await guest.exists("a")
            report = await dom0.control("memreport")
            assert "transactions      :        0" in report

    run(main())


def test_a_conflict_is_an_error_at_the_end_of_the_block() -> None:
    async def main() -> None:
        async with pair("socket") as (_, guest):

            async def lose() -> None:
                async with guest.transaction() as transaction:
                    await transaction.write("a", "mine")
                    await guest.write("a", "theirs")

            with pytest.raises(StoreAgainError):
                await lose()
            assert await guest.read("a") == "theirs"

    run(main())


def test_transact_starts_again_until_nobody_interferes(transport: str) -> None:
    async def main() -> None:
        async with pair(transport) as (_, guest):
            await guest.write("count", "0")
            tries = 0

            async def increment(transaction: Transaction) -> int:
                nonlocal tries
                value = int(await transaction.read("count")) + 1
                if tries < 2:
                    await guest.write("count", str(10 * value))
                tries += 1
                await transaction.write("count", str(value))
                return value

            assert await guest.transact(increment) == 111
            assert await guest.read("count") == "111"
            assert tries == 3

    run(main())


def test_domains_are_introduced_and_released() -> None:
    async def main() -> None:
        async with pair("socket") as (dom0, _):
            assert await dom0.domain_path(2) == "/local/domain/2"
            assert not await dom0.is_domain_introduced(2)
            await dom0.introduce(2, 5, 3)
            assert await dom0.is_domain_introduced(2)
            await dom0.release(2)
            assert not await dom0.is_domain_introduced(2)

    run(main())


def test_reset_watches_drops_them_all() -> None:
    async def main() -> None:
        async with (
            pair("socket") as (dom0, guest),
            guest.watch("a"),
            guest.watch("b"),
        ):
            await guest.reset_watches()
            report = await dom0.control("memreport")
            assert "watches           :        0" in report

    run(main())


def test_closing_wakes_every_waiter(transport: str) -> None:
    async def main() -> None:
        async with pair(transport) as (_, guest):
            watch = guest.watch("a")
            await anext(watch)
            waiters = [
                asyncio.ensure_future(anext(watch)),
                asyncio.ensure_future(guest.read("a")),
            ]
            await asyncio.sleep(0)
            guest.close()
            results = await asyncio.gather(*waiters, return_exceptions=True)
            assert [type(r) for r in results] == [StoreConnectionError] * 2
            with pytest.raises(StoreConnectionError, match="closed by this end"):
                await guest.read("a")
            await watch.close()

    run(main())


def test_a_server_that_closes_is_a_clear_error() -> None:
    async def main() -> None:
        async with pair("socket") as (dom0, guest):
            await dom0.introduce(1, 5, 3)
            watch = guest.watch("a")
            await anext(watch)
            await dom0.release(1)
            with pytest.raises(StoreConnectionError, match="no connection"):
                await anext(watch)

    run(main())


def test_no_server_is_a_clear_error() -> None:
    async def main() -> None:
        with pytest.raises(StoreConnectionError, match="/nonexistent/socket"):
            await Client.connect_unix("/nonexistent/socket")

    run(main())


def test_a_cancelled_request_does_not_disturb_the_others() -> None:
    async def main() -> None:
        async with pair("socket") as (_, guest):
            cancelled = asyncio.ensure_future(guest.write("a", "v"))
            await asyncio.sleep(0)
            cancelled.cancel()
            assert await guest.ls("/local/domain/1") == ["a"]

    run(main())
