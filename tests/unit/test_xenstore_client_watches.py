"""The asynchronous client's watches: what comes, is merged, is left behind."""

import asyncio

import pytest

from tests.helpers_xenstore import run
from tests.helpers_xenstore_client import TRANSPORTS, Pair, pair
from xenvirt.xenstore.client import Watch
from xenvirt.xenstore.errors import StoreInvalidError
from xenvirt.xenstore.events import MAX_EVENTS, EventQueue


@TRANSPORTS
def test_a_watch_starts_with_an_event_and_follows_changes(transport: str) -> None:
    async def main() -> None:
        async with pair(transport) as both, both.guest.watch("data") as watch:
            assert await anext(watch) == "data"
            await both.dom0.write("/local/domain/1/data/x", "1")
            assert await anext(watch) == "data/x"

    run(main())


def test_a_watch_can_be_iterated_without_a_block() -> None:
    async def main() -> None:
        async with pair("socket") as both:
            watch, seen = both.guest.watch("data"), []
            async for path in watch:
                seen.append(path)
                if len(seen) == 3:
                    break
                await both.dom0.write(f"/local/domain/1/data/{len(seen)}", "v")
            watch.close()
            assert seen == ["data", "data/1", "data/2"]
            assert await both.count("watches") == 0

    run(main())


def test_special_names_are_watched_too() -> None:
    async def main() -> None:
        async with (
            pair("socket") as both,
            both.dom0.watch("@introduceDomain") as introduced,
        ):
            await anext(introduced)
            await both.dom0.introduce(3, 5, 3)
            assert await anext(introduced) == "@introduceDomain"

    run(main())


def test_equal_events_that_nobody_has_taken_are_one() -> None:
    async def main() -> None:
        async with pair("socket") as both, both.guest.watch("data") as watch:
            await anext(watch)
            for _ in range(10):
                await both.guest.write("data", "v")
            await both.guest.write("data/end", "v")
            assert [await anext(watch), await anext(watch)] == ["data", "data/end"]

    run(main())


def test_two_watches_on_one_path_have_their_own_events() -> None:
    async def main() -> None:
        async with (
            pair("socket") as both,
            both.guest.watch("data") as one,
            both.guest.watch("data") as other,
        ):
            await both.guest.write("data/x", "v")
            for watch in (one, other):
                assert [await anext(watch), await anext(watch)] == ["data", "data/x"]

    run(main())


def test_xsa_349_a_queue_keeps_the_oldest_order_and_each_path_once() -> None:
    queue = EventQueue("/w")
    for path in ("/w", "/w/a", "/w", "/w/b"):
        queue.put(path)
    assert [queue.take(), queue.take(), queue.take()] == ["/w", "/w/a", "/w/b"]
    assert not queue


def test_a_full_queue_says_to_look_at_everything() -> None:
    queue = EventQueue("/w")
    for number in range(MAX_EVENTS):
        queue.put(f"/w/{number}")
    queue.put("/w/0")
    assert queue.take() == "/w/0"
    queue.put("/w/again")
    queue.put("/w/one/too/many")
    queue.put("/w/next")
    assert [queue.take(), queue.take()] == ["/w", "/w/next"]
    assert not queue


def test_a_watcher_that_sleeps_is_told_to_look_at_everything() -> None:
    async def main() -> None:
        async with pair("socket") as both, both.dom0.watch("/w") as watch:
            writer, count = both.dom0, MAX_EVENTS + 10
            await asyncio.gather(*(writer.mkdir(f"/w/{n}") for n in range(count)))
            seen = [await anext(watch)]
            await writer.mkdir("/w/last")
            while seen[-1] != "/w/last":
                seen.append(await anext(watch))
            assert len(seen) < 20
            assert seen[0] == "/w"

    run(main())


def test_depth_is_passed_on() -> None:
    async def main() -> None:
        async with pair("socket") as both:
            guest = both.guest
            async with guest.watch("a", depth=0) as watch:
                await anext(watch)
                await guest.write("a/b", "v")
                await guest.write("a", "v")
                assert await anext(watch) == "a"

    run(main())


@TRANSPORTS
def test_leaving_a_watch_takes_it_back(transport: str) -> None:
    async def main() -> None:
        async with pair(transport) as both:
            async with both.guest.watch("data"):
                assert await both.count("watches") == 1
            assert await both.count("watches") == 0

    run(main())


def test_cancelling_a_waiting_watcher_takes_the_watch_back() -> None:
    async def main() -> None:
        async with pair("socket") as both:
            first = asyncio.Event()

            async def follow() -> None:
                async with both.guest.watch("data") as watch:
                    async for _ in watch:
                        first.set()

            task = asyncio.create_task(follow())
            await first.wait()
            await cancel(task)
            assert await both.count("watches") == 0

    run(main())


@pytest.mark.parametrize("steps", range(8))
@TRANSPORTS
def test_cancelling_while_a_watch_is_made_leaves_none(
    transport: str, steps: int
) -> None:
    async def main() -> None:
        async with pair(transport) as both:

            async def enter() -> None:
                async with both.guest.watch("data"):
                    await asyncio.Event().wait()

            task = asyncio.create_task(enter())
            for _ in range(steps):
                await asyncio.sleep(0)
            await cancel(task)
            assert await both.count("watches") == 0

    run(main())


async def cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_watch_that_is_refused_is_an_error_and_can_be_tried_again() -> None:
    async def main() -> None:
        async with pair("socket") as both:
            watch = both.guest.watch("a//b")
            for _ in range(2):
                with pytest.raises(StoreInvalidError):
                    await anext(watch)

    run(main())


def test_reset_watches_ends_them_all_but_not_later_ones() -> None:
    async def main() -> None:
        async with pair("socket") as both:
            guest = both.guest
            async with guest.watch("a") as old, guest.watch("b"):
                following = asyncio.create_task(paths(old))
                resetting = asyncio.create_task(guest.reset_watches())
                await asyncio.sleep(0)
                async with guest.watch("c") as later:
                    await resetting
                    assert await following == ["a"]
                    assert await both.count("watches") == 1
                    assert await anext(later) == "c"

    run(main())


async def paths(watch: Watch) -> list[str]:
    return [path async for path in watch]


def test_events_of_a_watch_that_was_taken_back_are_dropped() -> None:
    async def main() -> None:
        async with pair("socket") as both:
            await flood(both)
            async with both.guest.watch("data") as watch:
                assert await anext(watch) == "data"
                await both.guest.write("data/end", "v")
                assert await anext(watch) == "data/end"

    run(main())


async def flood(both: Pair) -> None:
    """Leave events under way when a watch is taken back."""
    async with both.guest.watch("data"):
        await asyncio.gather(
            *(both.dom0.mkdir(f"/local/domain/1/data/{n}") for n in range(100))
        )
