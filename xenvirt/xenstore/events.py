"""Events of a watch that have come and that nobody has taken yet."""

from typing import Final

MAX_EVENTS: Final = 1024
"""Different paths that wait in one queue."""


class EventQueue:
    """The paths of one watch's events, the oldest first, each once.

    An event says "look again", so equal ones that wait are one. When more than
    `MAX_EVENTS` paths wait, they all become the watch's own path: look at all of it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._waiting: dict[str, None] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, path: str) -> None:
        """An event came."""
        if len(self._waiting) == MAX_EVENTS and path not in self._waiting:
            self._waiting.clear()
            path = self._path
        self._waiting[path] = None

    def take(self) -> str:
        """The oldest, taken away; there must be one."""
        path = next(iter(self._waiting))
        del self._waiting[path]
        return path
