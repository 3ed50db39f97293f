"""A frontend in dom0 that writes what it likes into its rings: pages, port and keys.

The backend may be the kernel's or ours; both take domain 0 for a domain as any other.
"""

import contextlib
import os
import select
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import eq
from pathlib import Path
from typing import Final

from tests.xen.ends import NOOP, PATIENCE_S, eventually
from xenvirt.abi.ids import DOM0, DevId
from xenvirt.hypervisor.xen_channel import XenChannel
from xenvirt.native.gnttab import GntallocPages
from xenvirt.testing.ring import U32, Ring
from xenvirt.testing.slots import (
    Extra,
    RxRequest,
    RxResponse,
    TxRequest,
    TxResponse,
    parse,
)
from xenvirt.toolstack import vif_nodes
from xenvirt.toolstack.vif_nodes import VifConfig, VifPaths
from xenvirt.xenstore.sync_client import SyncClient, SyncNodes

CONFIG: Final = VifConfig(mac="00:16:3e:00:00:31", mtu=1500, script=NOOP)
KEYS: Final = {
    "request-rx-copy": "1",
    "feature-rx-notify": "1",
    "feature-sg": "1",
    "feature-gso-tcpv4": "1",
    "feature-gso-tcpv6": "1",
    "feature-ipv6-csum-offload": "1",
}
LOOK_S: Final = 0.02
"""How often signs of a backend that gave up are looked at: none of them notifies."""

RING_SIZE: Final = 256

READONLY: Final = (False, False, False, True)
"""The pages: the TX ring, the RX ring, the one RX buffer, what TX requests send."""


class ScriptedFront:
    """The frontend of vif 0/`devid`, from its nodes to the Connected backend."""

    def __init__(
        self, client: SyncClient, devid: int, stack: contextlib.ExitStack
    ) -> None:
        self._client = client
        self.paths = VifPaths(DOM0, DOM0, DevId(devid))
        self.ifname = f"vif0.{devid}"
        self._make_nodes(stack)
        self._pages = GntallocPages(DOM0, READONLY)
        stack.callback(self._pages.close)
        self._channel = XenChannel.unbound(DOM0)
        stack.callback(self._channel.close)
        tx_page, rx_page, self._buffer, self._frame = map(self._pages.page, range(4))
        self.tx = Ring(tx_page, 12)
        self.rx = Ring(rx_page, 8)
        self.tx.init(0)
        self.rx.init(0)
        self._tx_prod = 0
        self._tx_cons = 0
        self._rx_prod = 0
        self._rx_cons = 0
        own = self._pages.grefs[2]
        for index in range(RING_SIZE):
            self.rx.write(index, RxRequest(0, own))
        # Linux has no carrier until there is a buffer.
        self.push_rx(1)
        stack.callback(self._close)
        self._connect()

    # ---- Being connected, and what the backend makes of it ----

    def _make_nodes(self, stack: contextlib.ExitStack) -> None:
        def write(nodes: SyncNodes) -> None:
            vif_nodes.write(nodes, self.paths, CONFIG)

        def remove(nodes: SyncNodes) -> None:
            vif_nodes.remove(nodes, self.paths)

        self._client.transact(write)
        stack.callback(self._client.transact, remove)
        self._wait_for_backend("2")

    def _connect(self) -> None:
        tx_ring_ref, rx_ring_ref, *_ = self._pages.grefs
        keys = {
            **KEYS,
            "tx-ring-ref": str(tx_ring_ref),
            "rx-ring-ref": str(rx_ring_ref),
            "event-channel": str(self._channel.port),
        }
        front = self.paths.frontend
        self._client.write({f"{front}/{key}": value for key, value in keys.items()})
        # No script runs: we are the toolstack as well.
        self._client.write({f"{self.paths.backend}/hotplug-status": "connected"})
        self._client.write({f"{front}/state": "4"})
        self._wait_for_backend("4")
        disable_ipv6(self.ifname)
        subprocess.run(["ip", "link", "set", self.ifname, "up"], check=True)
        eventually(self.has_carrier, lambda: f"{self.ifname} has no carrier")

    def _close(self) -> None:
        """As xl network-detach and netfront do it."""

        def begin_removal(nodes: SyncNodes) -> None:
            vif_nodes.begin_removal(nodes, self.paths, forced=False)

        self._client.transact(begin_removal)
        self._client.write({f"{self.paths.frontend}/state": "6"})
        self._wait_for_backend("6")
        eventually(lambda: not self._interface.exists(), lambda: f"{self.ifname} stays")

    def _wait_for_backend(self, state: str) -> None:
        path = f"{self.paths.backend}/state"
        self._client.wait_for(path, partial(eq, state), timeout_s=PATIENCE_S)

    def backend_state(self) -> str:
        """What the backend's node says."""
        return self._client.read(f"{self.paths.backend}/state")

    def backend_error(self) -> str | None:
        """What it has left in its error node."""
        return vif_nodes.read_or_none(self._client, self.paths.backend_error)

    def has_carrier(self) -> bool:
        """Whether the backend serves; both take the carrier away when they give up."""
        return (self._interface / "carrier").read_text().strip() == "1"

    @property
    def _interface(self) -> Path:
        return Path("/sys/class/net", self.ifname)

    # ---- TX: requests out, responses in ----

    @property
    def tx_gref(self) -> int:
        """The page that holds what `hold` was told."""
        gref: int = self._pages.grefs[3]
        return gref

    def hold(self, frame: bytes) -> None:
        """Have `frame` at the start of the page of `tx_gref`."""
        self._frame[: len(frame)] = frame

    def send(self, slots: Sequence[TxRequest | Extra], jump: int = 0) -> None:
        """Write slots, push them, and `jump` more than there are."""
        for number, slot in enumerate(slots):
            self.tx.write(self._tx_prod + number, slot)
        self._tx_prod += len(slots) + jump
        self.tx.req_prod = self._tx_prod
        self._channel.notify()

    def tx_responses(
        self, count: int, timeout_s: float, given_up: Callable[[], bool]
    ) -> list[TxResponse]:
        """The next `count` responses, or those that there are once `given_up`."""

        def done() -> bool:
            return self._tx_waiting() >= count or given_up()

        self._wait(self.tx, self._tx_cons + count, done, timeout_s)
        count = min(count, self._tx_waiting())
        raw = [self.tx.raw(self._tx_cons + number) for number in range(count)]
        self._tx_cons += count
        return [parse(TxResponse, each) for each in raw]

    def _tx_waiting(self) -> int:
        return (self.tx.rsp_prod - self._tx_cons) % U32

    # ---- RX: a buffer out, a frame in ----

    def post(self, gref: int | None = None) -> None:
        """Post one buffer: our own, or whatever `gref` is."""
        own = self._pages.grefs[2]
        self.rx.write(self._rx_prod, RxRequest(0, own if gref is None else gref))
        self.push_rx(1)

    def push_rx(self, count: int) -> None:
        """Push `count` requests, as they are in the ring."""
        self._rx_prod += count
        self.rx.req_prod = self._rx_prod
        self._channel.notify()

    def receive(
        self, frame: bytes, timeout_s: float, given_up: Callable[[], bool]
    ) -> RxResponse | None:
        """Have the backend's interface send `frame`; the response, None: none came."""
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind((self.ifname, 0))
            sender.send(frame)

        def done() -> bool:
            return self.rx.rsp_prod != self._rx_cons or given_up()

        self._wait(self.rx, self._rx_cons + 1, done, timeout_s)
        if self.rx.rsp_prod == self._rx_cons:
            return None
        response = parse(RxResponse, self.rx.raw(self._rx_cons))
        self._rx_cons += 1
        return response

    def received(self, response: RxResponse) -> bytes:
        """What the response says is in our buffer."""
        return bytes(self._buffer[response.offset :][: response.status])

    # ---- Waiting ----

    def _wait(
        self, ring: Ring, event: int, done: Callable[[], bool], timeout_s: float
    ) -> None:
        """Wait until `done`, looking whenever we are notified."""
        ring.rsp_event = event
        deadline = time.monotonic() + timeout_s
        fd = self._channel.fd
        while not done() and time.monotonic() < deadline:
            if select.select([fd], [], [], LOOK_S)[0]:
                os.write(fd, os.read(fd, 4))


def disable_ipv6(ifname: str) -> None:
    """Have Linux send nothing of its own into an interface."""
    Path(f"/proc/sys/net/ipv6/conf/{ifname}/disable_ipv6").write_text("1")


@contextlib.contextmanager
def attached(client: SyncClient, devid: int) -> Iterator[ScriptedFront]:
    """A frontend of a new vif, which goes with its nodes."""
    with contextlib.ExitStack() as stack:
        yield ScriptedFront(client, devid, stack)
