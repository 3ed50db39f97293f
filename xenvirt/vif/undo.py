"""What undoes what was done: AsyncExitStack, in a fifth of the memory.

A vif keeps a dozen of such steps for as long as it is connected.
"""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeAlias

Step: TypeAlias = Callable[..., Awaitable[None] | None]


class Undo:
    """Steps, run last first at the end of the `async with`, or by `run`."""

    __slots__ = ("_steps",)

    def __init__(self) -> None:
        self._steps: list[tuple[Step, tuple[object, ...]]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.run()

    def add(self, step: Step, *arguments: object) -> None:
        """Have `step(*arguments)` called, and awaited if there is something to."""
        self._steps.append((step, arguments))

    def take(self, other: "Undo") -> None:
        """Take over another's steps, which come before all of those so far."""
        self._steps += other.take_all()._steps

    def take_all(self) -> "Undo":
        """Return an object that has all the steps now in place of this one."""
        taken = Undo()
        taken._steps, self._steps = self._steps, []
        return taken

    async def run(self) -> None:
        """Run all steps, even if some raise; the last one's error is raised then."""
        failure: BaseException | None = None
        while self._steps:
            step, arguments = self._steps.pop()
            try:
                waiting = step(*arguments)
                if waiting is not None:
                    await waiting
            except BaseException as error:
                failure = error
        try:
            if failure is not None:
                raise failure
        finally:
            # Its traceback has this frame, and callers that have what was undone: in a
            # cycle all that would wait for the garbage collector.
            failure = None
