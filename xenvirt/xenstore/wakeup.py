"""What one task sleeps on: asyncio.Event for one sleeper, in a tenth of the memory."""

import asyncio


class Wakeup:
    """Wakes the task that waits; nothing is remembered for one that comes later.

    So the waiter looks for its reason before each `wait`, and nothing may be awaited
    between.
    """

    __slots__ = ("_waiter",)

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Let the waiter look again, if there is one."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Sleep until `wake`. RuntimeError when another task does so already."""
        if self._waiter is not None:
            raise RuntimeError("another task waits for the same")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
