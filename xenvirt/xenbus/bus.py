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
        self._known: set[str] = set()

    async def events(self) -> AsyncIterator[Appeared | Vanished]:
        """What is there at first, then every change."""
        async with self._store.watch(self._root) as watch:
            scanned = False
            async for path in watch:
                if not scanned or path == self._root:
                    nodenames = await self._scan()
                    taking_over = not scanned
                    scanned = True
                else:
                    nodenames = self._device_of(path)
                    taking_over = False
                for nodename in nodenames:
                    event = await self._look(nodename, taking_over=taking_over)
                    if event is not None:
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
        return sorted(found, key=_numerically) + sorted(self._known - set(found))

    async def _children(self, path: str) -> list[str]:
        try:
            return await self._store.ls(path)
        except StoreNotFoundError:
            return []

    def _device_of(self, path: str) -> list[str]:
        """The device directory that an event's path lies in, or those below it."""
        parts = path.split("/")
        depth = 2 + self._nr_ids
        if len(parts) > 1 and parts[1] != DEVICE_TYPE:
            return []
        if len(parts) >= depth:
            return ["/".join(parts[:depth])]
        return sorted(n for n in self._known if n.startswith(f"{path}/"))

    async def _look(
        self, nodename: str, *, taking_over: bool
    ) -> Appeared | Vanished | None:
        state_text = await read_optional(self._store, f"{nodename}/state")
        if state_text is None:
            if nodename not in self._known:
                return None
            self._known.remove(nodename)
            return Vanished(nodename)
        if nodename in self._known:
            return None
        state = XenbusState.parse(state_text)
        if state is not XenbusState.INITIALISING and not taking_over:
            return None
        ids = _ids(nodename, self._nr_ids)
        if ids is None:
            return None
        self._known.add(nodename)
        return Appeared(nodename, ids, state)


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
