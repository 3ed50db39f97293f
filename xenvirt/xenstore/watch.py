"""Watches: who hears of which change, and under which name.

An event is a hint that something at or below a path changed; the receiver reads again.
Only who may read the node, or the directory that it is in, hears of it (XSA-115).
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from xenvirt.xenstore import path as paths
from xenvirt.xenstore.perms import Perms
from xenvirt.xenstore.store import Store


class Watcher(Protocol):
    """Who set a watch."""

    def may_read(self, perms: Perms) -> bool:
        """Whether the list lets it read."""

    def post_event(self, path: str, token: bytes) -> None:
        """Send it one WATCH_EVENT."""


class Change(NamedTuple):
    """A node changed; `readable_by` are its lists, before and after.

    `exact` is for a node that went with its directory: the watches above hear of the
    directory only.
    """

    path: str
    readable_by: tuple[Perms, ...]
    exact: bool = False

    def after(self, earlier: "Change") -> "Change":
        """This change as the only one reported in place of both."""
        return self._replace(readable_by=self.readable_by + earlier.readable_by)


class Watch:
    """One registration; `depth` counts levels below `path`, None is without limit."""

    __slots__ = ("depth", "path", "skip", "token", "watcher")

    def __init__(
        self, watcher: Watcher, path: str, token: bytes, skip: int, depth: int | None
    ) -> None:
        self.watcher = watcher
        self.path = path
        self.token = token
        self.skip = skip
        self.depth = depth

    def report(self, path: str) -> None:
        """Post an event; a relative watch gets relative paths, as it was set with."""
        self.watcher.post_event(path[self.skip :], self.token)


class Watches:
    """Every watch, by path."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._by_path: dict[str, list[Watch]] = {}

    def add(self, watch: Watch) -> None:
        """Start reporting to the watch."""
        self._by_path.setdefault(watch.path, []).append(watch)

    def remove(self, watch: Watch) -> None:
        """Stop reporting to the watch."""
        watches = self._by_path[watch.path]
        watches.remove(watch)
        if not watches:
            del self._by_path[watch.path]

    def concerned(self, change: Change) -> Iterator[Watch]:
        """The watches that match by path, whatever their rights."""
        yield from self._by_path.get(change.path, ())
        if change.exact:
            return
        for depth, above in enumerate(paths.ancestors(change.path), start=1):
            for watch in self._by_path.get(above, ()):
                if watch.depth is None or watch.depth >= depth:
                    yield watch

    def fire(self, change: Change) -> None:
        """Post the change to everybody who watches and may read the node.

        Who may read the directory that it is in may list it there, and so may hear.
        """
        if not self._by_path:
            return
        directory = self._store.get(paths.parent(change.path))
        readable_by = change.readable_by
        if directory is not None:
            readable_by = (*readable_by, directory.perms)
        for watch in self.concerned(change):
            if any(watch.watcher.may_read(perms) for perms in readable_by):
                watch.report(change.path)

    def fire_special(self, name: str, domid: int, perms: Perms) -> None:
        """Post `@introduceDomain` or `@releaseDomain`.

        A watch on the name hears which domain only if it asked for depth; a watch on
        `name/domid` hears of that domain alone.
        """
        one = f"{name}/{domid}"
        for watch in self._by_path.get(name, ()):
            if watch.watcher.may_read(perms):
                watch.report(one if watch.depth else name)
        for watch in self._by_path.get(one, ()):
            if watch.watcher.may_read(perms):
                watch.report(one)
