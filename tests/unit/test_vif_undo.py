"""What undoes what was done, and the tasks that sleep until something comes."""

import asyncio
import contextlib
import gc
import weakref

import pytest

from xenvirt.vif.mailbox import Mailbox
from xenvirt.vif.undo import Undo
from xenvirt.xenstore.wakeup import Wakeup


def test_steps_run_last_first_and_are_awaited() -> None:
    done: list[str] = []

    async def later(text: str) -> None:
        await asyncio.sleep(0)
        done.append(text)

    async def work() -> None:
        async with Undo() as undo:
            undo.add(done.append, "first")
            undo.add(later, "second")
            assert done == []

    asyncio.run(work())
    assert done == ["second", "first"]


def test_a_step_that_raises_does_not_keep_the_others() -> None:
    done: list[str] = []

    def fail() -> None:
        raise OSError("no")

    async def work() -> None:
        undo = Undo()
        undo.add(done.append, "first")
        undo.add(fail)
        with pytest.raises(OSError, match="no"):
            await undo.run()
        await undo.run()

    asyncio.run(work())
    assert done == ["first"]


def test_what_was_undone_is_not_kept_by_the_error_of_a_step() -> None:
    class Thing:
        def fail(self) -> None:
            raise OSError("no")

    async def work() -> bool:
        undo, thing = Undo(), Thing()
        left = weakref.ref(thing)
        undo.add(thing.fail)
        with contextlib.suppress(OSError):
            await undo.run()
        del thing
        return left() is None

    gc.disable()
    try:
        assert asyncio.run(work())
    finally:
        gc.enable()


def test_steps_that_were_taken_are_the_takers() -> None:
    done: list[str] = []

    async def work() -> None:
        outer = Undo()
        outer.add(done.append, "outer")
        async with Undo() as own:
            own.add(done.append, "own 1")
            own.add(done.append, "own 2")
            outer.take(own)
        async with outer:
            kept = outer.take_all()
        assert done == []
        await kept.run()

    asyncio.run(work())
    assert done == ["own 2", "own 1", "outer"]


def test_a_mailbox_gives_what_was_put_in_order_and_waits_for_more() -> None:
    async def work() -> list[int]:
        box: Mailbox[int] = Mailbox()
        box.put("a", 1)
        box.put("b", 2)
        got = [await box.get(), await box.get()]
        asyncio.get_running_loop().call_soon(box.put, "a", 3)
        return [*got, await box.get()]

    assert asyncio.run(work()) == [1, 2, 3]


def test_xsa_349_a_mailbox_keeps_the_newest_of_a_kind() -> None:
    async def work() -> list[int]:
        box: Mailbox[int] = Mailbox()
        for item in range(100_000):
            box.put("state", item)
        box.put("other", -1)
        box.put("state", -2)
        return [await box.get(), await box.get()]

    assert asyncio.run(work()) == [-2, -1]


def test_who_was_cancelled_may_wait_again_and_two_may_not() -> None:
    async def work() -> None:
        wakeup = Wakeup()
        first = asyncio.create_task(wakeup.wait())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await wakeup.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        again = asyncio.create_task(wakeup.wait())
        await asyncio.sleep(0)
        wakeup.wake()
        wakeup.wake()
        await again

    asyncio.run(work())
