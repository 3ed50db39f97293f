"""Which devices there are: what appears and vanishes under `device` or `backend`.

A frontend's bus is `device/<type>/<id>`, a backend's `backend/<type>/<domid>/<id>`,
both relative to the own domain, as Linux and NetBSD enumerate them.
"""

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Final

from xenvirt.abi.xenbus import XenbusState
from xenvirt.xenbus.device import read_optional
from xenvirt.xenstore.client import Client
from xenvirt.xenstore.errors import StoreNotFoundError

log = logging.getLogger(__name__)

DEVICE_TYPE: Final = "vif"


@dataclass(frozen=True, slots=True)
class Appeared:
    """A device of our type is there.

    `state` is its own: Initialising for a new one; another one only when it was
    there before this process was, which then takes it over.
    """

    nodename: str
    ids: tuple[int, ...]
    state: XenbusState
    taken_over: bool = False


@dataclass(frozen=True, slots=True)
class Scanned:
    """What was there at first: the ids of each device. It comes ahead of these."""

    ids: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Vanished:
    """The device's node is gone."""

    nodename: str


class Bus:
    """The devices under one root, from the first scan on."""

    def __init__(self, store: Client, root: str, nr_ids: int) -> None:
        self._store = store
        self._root = root
        self._nr_ids = nr_ids
        self._known: dict[str, bool] = {}
        """By nodename, whether the device has been in another state than its first."""

    async def events(self) -> AsyncIterator[Scanned | Appeared | Vanished]:
        """What is there at first, then every change."""
        async with self._store.watch(self._root) as watch:
            scanned = False
            async for path in watch:
                if not scanned or path == self._root:
                    nodenames, made = await self._scan(), None
                    taking_over = not scanned
                    scanned = True
                    if taking_over:
                        ids = (_ids(nodename, self._nr_ids) for nodename in nodenames)
                        yield Scanned(tuple(filter(None, ids)))
                else:
                    nodenames, made = self._device_of(path), path
                    taking_over = False
                for nodename in nodenames:
                    async for event in self._look(
                        nodename, taking_over=taking_over, made=nodename == made
                    ):
                        yield event

    async def look_again(self, event: Appeared) -> Appeared:
        """Return the same with the state that the device is in now."""
        state = await read_optional(self._store, f"{event.nodename}/state")
        return replace(event, state=XenbusState.parse(state))

    async def _scan(self) -> list[str]:
        """Every device directory, and those that were known."""
        found = [f"{self._root}/{DEVICE_TYPE}"]
        for _ in range(self._nr_ids):
            found = [
                f"{parent}/{child}"
                for parent in found
                for child in await self._children(parent)
            ]
        return sorted(found, key=_numerically) + sorted(self._known.keys() - found)

    async def _children(self, path: str) -> list[str]:
        try:
            return await self._store.ls(path)
        except StoreNotFoundError:
            return []

    def _device_of(self, path: str) -> list[str]:
        """The device directory of an event's path, or those below it.

        Within a directory only the state says that the device comes or goes; the
        dozens of other nodes are no reason to look.
        """
        parts = path.split("/")
        depth = 2 + self._nr_ids
        if len(parts) > 1 and parts[1] != DEVICE_TYPE:
            return []
        if len(parts) > depth and parts[depth:] != ["state"]:
            return []
        if len(parts) >= depth:
            return ["/".join(parts[:depth])]
        return sorted(n for n in self._known if n.startswith(f"{path}/"))

    async def _look(
        self, nodename: str, *, taking_over: bool, made: bool
    ) -> AsyncIterator[Appeared | Vanished]:
        """Compare a device with what is known; `made`: its node came or went.

        Who removes a device and makes it anew may have done both before we look.
        """
        state_text = await read_optional(self._store, f"{nodename}/state")
        state = XenbusState.parse(state_text)
        first = state is XenbusState.INITIALISING
        if nodename in self._known:
            anew = made and first and self._known[nodename]
            if state_text is not None and not anew:
                self._known[nodename] |= not first
                return
            del self._known[nodename]
            yield Vanished(nodename)
        if state_text is None or not (first or taking_over):
            return
        ids = _ids(nodename, self._nr_ids)
        if ids is not None:
            self._known[nodename] = not first
            yield Appeared(nodename, ids, state, taking_over)


def _ids(nodename: str, count: int) -> tuple[int, ...] | None:
    parts = nodename.split("/")[-count:]
    for part in parts:
        if not (part.isascii() and part.isdigit()):
            log.warning("xenbus device type %s: id %s is not a number", "vif", part)
            return None
    return tuple(int(part) for part in parts)


def _numerically(nodename: str) -> list[tuple[int, str]]:
    return [
        (int(part) if part.isascii() and part.isdigit() else -1, part)
        for part in nodename.split("/")
    ]
