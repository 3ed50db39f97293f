"""The asynchronous client's transactions: one, again, given up, interrupted."""

import asyncio

import pytest

from tests.helpers_xenstore import run
from tests.helpers_xenstore_client import TRANSPORTS, pair
from xenvirt.errors import LocalError
from xenvirt.xenstore import retries
from xenvirt.xenstore.client import Client, Transaction
from xenvirt.xenstore.errors import (
    StoreAgainError,
    StoreNotFoundError,
    StoreQuotaError,
)


@TRANSPORTS
def test_a_transaction_commits_at_the_end_of_its_block(transport: str) -> None:
    async def main() -> None:
        async with pair(transport) as both:
            async with both.guest.transaction() as transaction:
                await transaction.write("a", "v")
                assert not await both.guest.exists("a")
                assert await transaction.read("a") == "v"
            assert await both.guest.read("a") == "v"

    run(main())


@TRANSPORTS
def test_an_exception_aborts_the_transaction(transport: str) -> None:
    async def main() -> None:
        async with pair(transport) as both:

            async def fail(transaction: Transaction) -> None:
                await transaction.write("a", "v")
                raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await both.guest.transact(fail)
            assert not await both.guest.exists("a")
            assert await both.count("transactions") == 0

    run(main())


@pytest.mark.parametrize("steps", range(8))
@TRANSPORTS
def test_cancelling_at_any_moment_leaves_no_transaction(
    transport: str, steps: int
) -> None:
    async def main() -> None:
        async with pair(transport) as both:

            async def work(transaction: Transaction) -> None:
                await transaction.write("a", "v")
                await asyncio.Event().wait()

            task = asyncio.create_task(both.guest.transact(work))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await both.count("transactions") == 0
            assert not await both.guest.exists("a")

    run(main())


def test_a_conflict_is_an_error_at_the_end_of_the_block() -> None:
    async def main() -> None:
        async with pair("socket") as both:

            async def lose() -> None:
                async with both.guest.transaction() as transaction:
                    await transaction.write("a", "mine")
                    await both.guest.write("a", "theirs")

            with pytest.raises(StoreAgainError):
                await lose()
            assert await both.guest.read("a") == "theirs"

    run(main())


def test_transact_starts_again_where_what_it_sees_does_not_fit() -> None:
    async def main() -> None:
        async with pair("socket") as both:
            tries = 0

            async def work(transaction: Transaction) -> None:
                nonlocal tries
                tries += 1
                await transaction.exists("p")
                await both.guest.write("p/c", "")
                # Of the first transaction's nodes this one has no parent: EINVAL.
                await transaction.rm("p/c")

            await both.guest.transact(work)
            assert (tries, await both.guest.exists("p/c")) == (2, False)

    run(main())


def test_transact_raises_what_is_wrong_each_time() -> None:
    async def main() -> None:
        async with pair("socket") as both:
            tries = 0

            async def work(transaction: Transaction) -> str:
                nonlocal tries
                tries += 1
                return await transaction.read("none")

            with pytest.raises(StoreNotFoundError):
                await both.guest.transact(work)
            assert tries == retries.TORN_ATTEMPTS
            assert await both.count("transactions") == 0

    run(main())


def test_a_transaction_that_has_ended_takes_no_request() -> None:
    async def main() -> None:
        async with pair("socket") as both:
            transaction = both.guest.transaction()
            with pytest.raises(LocalError, match="has ended"):
                await transaction.read("a")
            async with transaction:
                await transaction.write("a", "v")
            # The store may give its number to somebody else's next one.
            async with both.guest.transaction():
                with pytest.raises(LocalError, match="has ended"):
                    await transaction.read("a")

    run(main())


class Rival:
    """Changes a node under a transaction as often as it is told to."""

    def __init__(self, client: Client, times: int) -> None:
        self._client = client
        self.tries = 0
        self._times = times

    async def increment(self, transaction: Transaction) -> int:
        value = int(await transaction.read("count")) + 1
        if self.tries < self._times:
            await self._client.write("count", str(10 * value))
        self.tries += 1
        await transaction.write("count", str(value))
        return value


@TRANSPORTS
def test_transact_starts_again_until_nobody_interferes(transport: str) -> None:
    async def main() -> None:
        async with pair(transport) as both:
            await both.guest.write("count", "0")
            rival = Rival(both.guest, 2)
            assert await both.guest.transact(rival.increment) == 111
            assert await both.guest.read("count") == "111"
            assert rival.tries == 3

    run(main())


def test_transact_gives_up_when_it_always_conflicts() -> None:
    async def main() -> None:
        async with pair("socket") as both:
            await both.guest.write("count", "0")
            rival = Rival(both.guest, 1000)
            with pytest.raises(StoreAgainError):
                await both.guest.transact(rival.increment, attempts=5)
            assert rival.tries == 5
            assert await both.count("transactions") == 0

    run(main())


def test_the_loop_of_attempts_commits_at_the_end_of_its_body() -> None:
    async def main() -> None:
        async with pair("socket") as both:
            await both.guest.write("count", "0")
            rival, seen = Rival(both.guest, 2), []
            async with both.guest.transactions() as attempts:
                async for transaction in attempts:
                    value = await rival.increment(transaction)
                    seen.append(value)
            assert seen == [1, 11, 111]
            assert await both.guest.read("count") == "111"

    run(main())


@pytest.mark.parametrize("how", ["break", "exception"])
def test_leaving_the_loop_of_attempts_aborts(how: str) -> None:
    async def main() -> None:
        async with pair("socket") as both:

            async def leave() -> None:
                async with both.guest.transactions() as attempts:
                    async for transaction in attempts:
                        await transaction.write("a", "v")
                        if how == "break":
                            break
                        raise ZeroDivisionError

            if how == "break":
                await leave()
            else:
                with pytest.raises(ZeroDivisionError):
                    await leave()
            assert not await both.guest.exists("a")
            assert await both.count("transactions") == 0

    run(main())


def test_the_loop_of_attempts_gives_up_too() -> None:
    async def main() -> None:
        async with pair("socket") as both:
            await both.guest.write("count", "0")
            rival = Rival(both.guest, 1000)

            async def loop() -> None:
                async with both.guest.transactions(attempts=4) as attempts:
                    async for transaction in attempts:
                        await rival.increment(transaction)

            with pytest.raises(StoreAgainError):
                await loop()
            assert rival.tries == 4

    run(main())


def test_many_clients_that_count_together_lose_no_step() -> None:
    async def main() -> None:
        async with pair("socket") as both:
            await both.dom0.write("/count", "0")
            clients = [
                await Client.connect_socket(both.store.socket()) for _ in range(8)
            ]

            async def step(transaction: Transaction) -> None:
                value = int(await transaction.read("/count"))
                await transaction.write("/count", str(value + 1))

            async def steps(client: Client) -> None:
                for _ in range(25):
                    await client.transact(step)

            await asyncio.gather(*map(steps, clients))
            assert await both.dom0.read("/count") == "200"
            for client in clients:
                client.close()

    run(main())


def test_a_quota_in_a_transaction_is_no_conflict() -> None:
    async def main() -> None:
        async with pair("socket") as both:
            await both.dom0.set_quota("node-size", 100, 1)

            async def grow(transaction: Transaction) -> None:
                await transaction.write("a", "v" * 200)

            with pytest.raises(StoreQuotaError):
                await both.guest.transact(grow)
            assert await both.count("transactions") == 0

    run(main())


def test_pauses_grow_to_a_bound() -> None:
    assert [retries.pause_s(n) for n in (1, 2)] == [0, 0]
    assert all(0 <= retries.pause_s(5) <= 0.004 for _ in range(100))
    longest = max(retries.pause_s(99) for _ in range(100))
    assert 0.01 < longest <= 0.1
