"""A domain whose frontend writes garbage, in its memory and in the store, and notifies.

The real frontend is stopped meanwhile. When it is killed the one that the launcher
starts in its place must connect, as if nothing had been.
"""

import mmap
import os
import random
import signal
import struct
import time
from contextlib import suppress
from typing import Final

from tests.integration.daemons import gone
from tests.integration.event_storms import every_eventfd
from tests.soak.echo import Echo, Responder
from tests.soak.world import CONNECTED, World
from xenvirt.abi.ids import PAGE_SIZE, DomId
from xenvirt.errors import StoreError
from xenvirt.hypervisor.eventfds import set_pending
from xenvirt.hypervisor.memory import FIRST_DATA_GFN, STORE_GFN
from xenvirt.hypervisor.sync_client import SyncClient as Hypercalls
from xenvirt.vif.buffers import QUEUE_PAGES
from xenvirt.xenstore.sync_client import SyncClient

_NEAR: Final = "10.214.10.1"
_FAR: Final = "10.214.10.2"
_BOUT_S: Final = 1.0
_HEAL_S: Final = 20.0
_POLL_S: Final = 0.02
_RING_PAGES: Final = (0, 1, QUEUE_PAGES, QUEUE_PAGES + 1)
"""Of two queues: the TX ring's and the RX ring's come first in each slab."""
_KEYS: Final = (
    "tx-ring-ref", "rx-ring-ref", "event-channel-tx", "event-channel-rx",
    "multi-queue-num-queues", "queue-0/tx-ring-ref", "queue-1/event-channel-rx",
    "request-rx-copy", "feature-rx-notify", "feature-gso-tcpv4",
)  # fmt: skip
_VALUES: Final = ("0", "1", "2", "8", "4294967295", "-1", "", "x" * 60)
_STATES: Final = tuple("12345678")
"""Any other one says that the device is gone, and then it is."""


class Hostile:
    """A step is a bout of garbage, and then a frontend that behaves."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._chance = random.Random(seed)
        ips = ("--ip", f"{_FAR}/24", "--peer-ip", f"{_NEAR}/24")
        self._link = world.links.up("hostile", "queues=2", *ips)
        self._responder = Responder(self._link.netns, _FAR)
        domid = self._link.domid
        self._name = f"frontend-{domid}"
        self._front = f"/local/domain/{domid}/device/vif/0"
        self._back = f"/local/domain/0/backend/vif/{domid}/0"

    def close(self) -> None:
        """Let go of its namespace."""
        self._responder.close()

    def step(self) -> list[str]:
        """One bout; returns what was wrong afterwards."""
        pid = self._world.child(self._name)
        os.kill(pid, signal.SIGSTOP)
        try:
            self._bout(pid)
        finally:
            os.kill(pid, signal.SIGKILL)
        if not gone(pid):
            return ["its frontend cannot be killed"]
        return self._healed()

    def _bout(self, pid: int) -> None:
        path = self._world.links.run_dir / "hypervisor.sock"
        with (
            Hypercalls(path) as hypervisor,
            self._store() as store,
            every_eventfd(pid) as eventfds,
        ):
            domid = DomId(self._link.domid)
            _, fds = hypervisor.call("memory", domid=domid)
            size = (FIRST_DATA_GFN + 2 * QUEUE_PAGES) * PAGE_SIZE
            deadline = time.monotonic() + _BOUT_S
            try:
                with mmap.mmap(fds[0], size) as memory:
                    while time.monotonic() < deadline:
                        self._write_memory(memory)
                        self._write_node(store)
                        self._wake(eventfds)
            finally:
                for fd in fds:
                    os.close(fd)

    def _write_memory(self, memory: mmap.mmap) -> None:
        chance = self._chance
        # Seldom the grant table, without which the rings are soon nobody's.
        frame = FIRST_DATA_GFN + chance.choice(_RING_PAGES)
        if chance.random() < 0.02:
            frame = chance.choice((0, STORE_GFN))
        # Indices first of all, then slots.
        offset = chance.choice((0, 4, 8, 12, 64 + 4 * chance.randrange(900)))
        old = struct.unpack_from("<I", memory, frame * PAGE_SIZE + offset)[0]
        new = chance.choice((old + 1, old + 17, old ^ 1 << chance.randrange(32), 0))
        value = new & 0xFFFFFFFF
        struct.pack_into("<I", memory, frame * PAGE_SIZE + offset, value)

    def _write_node(self, store: SyncClient) -> None:
        if self._chance.random() < 0.02:
            keys = dict.fromkeys(_KEYS, _VALUES) | {"state": _STATES}
            key = self._chance.choice(tuple(keys))
            with suppress(StoreError):
                store.write({f"{self._front}/{key}": self._chance.choice(keys[key])})

    def _wake(self, eventfds: list[int]) -> None:
        """Have the backend and the store look at what was written so far."""
        if self._chance.random() < 0.2:
            for fd in eventfds:
                set_pending(fd)
        # And send something, which it may well lose.
        if self._chance.random() < 0.1:
            with Echo(_FAR) as echo:
                echo.answered(0)

    def _healed(self) -> list[str]:
        deadline = time.monotonic() + _HEAL_S
        with Echo(_FAR) as echo, self._store() as store:
            while time.monotonic() < deadline:
                states = [store.read(f"{d}/state") for d in (self._front, self._back)]
                if states == [CONNECTED, CONNECTED] and echo.answered(_POLL_S):
                    return []
                time.sleep(_POLL_S)
        return [f"not healed after {_HEAL_S:g} s, the states are {states}"]

    def _store(self) -> SyncClient:
        path = self._world.links.run_dir / "xenstored" / "socket"
        return SyncClient(str(path), reconnect_s=_HEAL_S)
