"""A driver domain whose backend answers a real frontend with garbage.

The frontend belongs to a domain of its own and is to live through it: a vif that this
domain gets afterwards, from the host's backend, must work.
"""

import json
import random
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from tests.soak.churn import said
from tests.soak.world import World, run
from xenvirt.errors import XenvirtError
from xenvirt.testing.peer import (
    U32,
    Backend,
    BackQueue,
    Extra,
    RxResponse,
    Tap,
    TxRequest,
    TxResponse,
    parse,
)

_NEAR: Final = "10.214.11.1"
_FAR: Final = "10.214.11.2"
_BOUT_S: Final = 1.0
_CONNECT_S: Final = 5.0
_COMMAND_S: Final = 60.0
_PING: Final = ("ping", "-q", "-i", "0.2", "-c", "1", "-w", "10", _FAR)
_FRAMES: Final = 8
"""That the frontend is given to send in a turn, so that there is what to answer."""
_FRAME: Final = bytes.fromhex("00163e000002 00163e000001 88b5") + bytes(86)
_SIZES: Final = (0, 1, 13, 14, 60, 4095, 4096, 4097, -1, -2, -32768, 32767)
_OFFSETS: Final = (0, 0, 0, 1, 4090, 4096, 65535)
_STATES: Final = tuple("12345678")


class HostileBackend:
    """A step is a bout of garbage, and then a vif whose backend behaves.

    With `may_fail` true what a kill keeps from being done is not wrong.
    """

    def __init__(self, world: World, seed: int, may_fail: Callable[[], bool]) -> None:
        self._world = world
        self._links = world.links
        self._chance = random.Random(seed)
        self._may_fail = may_fail
        self._name = self._links.name("victim")
        self._links.run("create", self._name)
        domid = self._links.run("domid", self._name).stdout.strip()
        self._process = f"frontend-{domid}"
        # A good one first, of all queues: its process has started all its workers then.
        assert self._healed() == []

    def step(self) -> list[str]:
        """One bout; returns what was wrong afterwards."""
        pid = self._world.child(self._process)
        deadline = time.monotonic() + _BOUT_S
        wrong = []
        while time.monotonic() < deadline:
            try:
                self._bout(deadline)
            except (XenvirtError, OSError) as error:
                if not self._may_fail():
                    wrong.append(f"no bout: {error}")
        if self._world.child(self._process) != pid:
            wrong.append(f"{self._process} died of it")
        return wrong + self._healed()

    def _bout(self, deadline: float) -> None:
        """Be a backend until the frontend has had enough of it."""
        run_dir = self._links.run_dir
        with Backend(run_dir, frontend=self._name, timeout_s=_CONNECT_S) as back:
            queue = back.connect()
            with back.driver.tap() as tap:
                while time.monotonic() < deadline and not back.driver.has_given_up():
                    self._turn(back, queue, tap)

    def _turn(self, back: Backend, queue: BackQueue, tap: Tap) -> None:
        # The interface may be about to go, and the ring may be full.
        with suppress(OSError):
            for _ in range(_FRAMES):
                tap.send(_FRAME)
        for _ in range(self._chance.randrange(1, 8)):
            kind = self._chance.choices(
                (self._rx, self._tx, self._tx_index, self._rx_index, self._slot),
                (60, 20, 2, 2, 5),
            )[0]
            kind(queue)
        queue.notify()
        if self._chance.random() < 0.02:
            back.write({"state": self._chance.choice(_STATES)})

    def _rx(self, queue: BackQueue) -> None:
        """Give it frames that cannot be, in buffers that it has posted, or has not."""
        chance = self._chance
        if chance.random() < 0.2:
            queue.respond(
                Extra(chance.choice((0, 1, 2, 4, 5, 255)), chance.randrange(2))
            )
            return
        flags = chance.choice((0, 1, 4, 8, chance.randrange(1 << 16)))
        number = chance.choice((queue.rx_prod % 256, chance.randrange(1 << 16)))
        status = chance.choice(_SIZES)
        queue.respond(RxResponse(number, chance.choice(_OFFSETS), flags, status))

    def _tx(self, queue: BackQueue) -> None:
        """Answer what it has sent: with any status, and seldom with another id."""
        chance = self._chance
        if not queue.tx.waiting(queue.tx.req_prod, queue.tx_prod):
            return
        number = parse(TxRequest, queue.tx.raw(queue.tx_prod)).id
        if chance.random() < 0.05:
            number = chance.choice((number ^ 1, 256, 65535))
        queue.answer(TxResponse(number, chance.choice((0, 0, -1, -2, 1, 32767))))

    def _tx_index(self, queue: BackQueue) -> None:
        queue.tx.rsp_prod = self._index(queue.tx.rsp_prod)
        queue.tx.req_event = self._index(queue.tx.req_event)

    def _rx_index(self, queue: BackQueue) -> None:
        queue.rx.rsp_prod = self._index(queue.rx.rsp_prod)
        queue.rx.req_event = self._index(queue.rx.req_event)

    def _index(self, old: int) -> int:
        step = self._chance.choice((-1, 1, 17, 257, 1 << 31))
        return (old + step) % U32

    def _slot(self, queue: BackQueue) -> None:
        """Write over slots that are the frontend's to write."""
        ring = self._chance.choice((queue.tx, queue.rx))
        ring.write_raw(self._chance.randrange(256), self._chance.randbytes(8))

    def _healed(self) -> list[str]:
        made = self._xenvirt("--json", "network-attach", self._name)
        if made.returncode != 0:
            return [] if self._may_fail() else [said(made)]
        vif = json.loads(made.stdout)["vif"]
        inside = ("ip", "-n", self._name)
        run(*inside, "address", "add", f"{_FAR}/24", "dev", "xennet0")
        run("ip", "address", "add", f"{_NEAR}/24", "dev", vif["ifname"])
        wrong = []
        ping = subprocess.run(_PING, capture_output=True, text=True)
        if ping.returncode != 0:
            wrong.append(f"{self._name} does not answer: {ping.stdout}{ping.stderr}")
        removed = self._xenvirt("network-detach", self._name, str(vif["devid"]))
        return wrong if removed.returncode == 0 else [*wrong, said(removed)]

    def _xenvirt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._links.run(*arguments, status=None, timeout_s=_COMMAND_S)
