"""What a bus makes of the events below it, and what it does not look at for them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from xenvirt.abi.xenbus import XenbusState
from xenvirt.xenbus.bus import Appeared, Bus, Scanned, Vanished
from xenvirt.xenstore.client import Client
from xenvirt.xenstore.errors import StoreNotFoundError

NODE = "backend/vif/1/0"
NEW = Appeared(NODE, (1, 0), XenbusState.INITIALISING)


class Store:
    """Nodes, and what was read of them; a step changes them and gives an event."""

    def __init__(self, steps: Iterator[str]) -> None:
        self.nodes: dict[str, str] = {}
        self.reads: list[str] = []
        self._steps = steps

    async def read(self, path: str) -> str:
        self.reads.append(path)
        if path not in self.nodes:
            raise StoreNotFoundError("ENOENT", path)
        return self.nodes[path]

    async def ls(self, path: str) -> list[str]:
        raise StoreNotFoundError("ENOENT", path)

    @asynccontextmanager
    async def watch(self, path: str) -> AsyncIterator[AsyncIterator[str]]:
        async def events() -> AsyncIterator[str]:
            yield path
            for step in self._steps:
                yield step

        yield events()


def seen(store: Store) -> list[Scanned | Appeared | Vanished]:
    async def work() -> list[Scanned | Appeared | Vanished]:
        bus = Bus(cast(Client, store), "backend", 2)
        return [event async for event in bus.events()]

    return asyncio.run(work())


def test_only_a_devices_state_and_its_node_are_looked_at() -> None:
    def steps() -> Iterator[str]:
        store.nodes[f"{NODE}/state"] = "1"
        yield NODE
        for key in ("mac", "feature-sg", "queue-0/tx-ring-ref", "queue-0/state"):
            yield f"{NODE}/{key}"
        yield f"{NODE}/state"

    store = Store(steps())
    assert seen(store) == [Scanned(()), NEW]
    assert store.reads == [f"{NODE}/state"] * 2


def test_a_device_whose_state_comes_last_appears_then() -> None:
    def steps() -> Iterator[str]:
        yield NODE
        store.nodes[f"{NODE}/state"] = "1"
        yield f"{NODE}/state"

    store = Store(steps())
    assert seen(store) == [Scanned(()), NEW]


@pytest.mark.parametrize(
    "gone", [NODE, f"{NODE}/state", "backend/vif/1", "backend/vif"]
)
def test_a_device_vanishes_with_its_node_or_what_it_lay_in(gone: str) -> None:
    def steps() -> Iterator[str]:
        store.nodes[f"{NODE}/state"] = "1"
        yield NODE
        store.nodes.clear()
        yield gone

    store = Store(steps())
    assert seen(store) == [Scanned(()), NEW, Vanished(NODE)]


def test_a_device_that_was_made_anew_before_anybody_looked_is_another() -> None:
    def steps() -> Iterator[str]:
        store.nodes[f"{NODE}/state"] = "1"
        yield NODE
        store.nodes[f"{NODE}/state"] = "4"
        yield f"{NODE}/state"
        store.nodes[f"{NODE}/state"] = "1"  # removed, and there again
        yield NODE
        yield NODE

    store = Store(steps())
    assert seen(store) == [Scanned(()), NEW, Vanished(NODE), NEW]


@pytest.mark.parametrize("path", [f"{NODE}/state", f"{NODE}/mac", "backend/vif/1"])
def test_a_device_that_begins_again_is_the_same(path: str) -> None:
    def steps() -> Iterator[str]:
        store.nodes[f"{NODE}/state"] = "1"
        yield NODE
        yield NODE  # its permissions
        store.nodes[f"{NODE}/state"] = "6"
        yield f"{NODE}/state"
        store.nodes[f"{NODE}/state"] = "1"
        yield path

    store = Store(steps())
    assert seen(store) == [Scanned(()), NEW]
