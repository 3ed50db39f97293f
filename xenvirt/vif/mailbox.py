"""Events that wait for a vif's task: asyncio.Queue for one task, in less memory."""

from typing import Generic, TypeVar

from xenvirt.xenstore.wakeup import Wakeup

T = TypeVar("T")


class Mailbox(Generic[T]):
    """What was put and not got yet: the newest of each kind, in the order of kinds.

    A peer that changes its state faster than we follow costs no memory, and what we do
    last is about the state that it is in (XSA-349).
    """

    __slots__ = ("_items", "_wakeup")

    def __init__(self) -> None:
        self._items: dict[str, T] = {}
        self._wakeup = Wakeup()

    def put(self, kind: str, item: T) -> None:
        """Add one for the task that gets it, in place of one of its kind."""
        self._items[kind] = item
        self._wakeup.wake()

    async def get(self) -> T:
        """Take the oldest, once there is one."""
        while not self._items:
            await self._wakeup.wait()
        return self._items.pop(next(iter(self._items)))
