"""xennet: the frontend of the vifs of one domain, in its network namespace.

What is done when is xen-netfront's (states.front_reaction); the keys and their order
are its talk_to_netback's.
"""

import asyncio
import errno
import logging
import re
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Final

from xenvirt.abi.ids import DevId, DomId
from xenvirt.abi.xenbus import XenbusState
from xenvirt.errors import HypercallError
from xenvirt.hypervisor.interface import EventChannel, GrantedPages, Hypervisor
from xenvirt.native import PeerFeatures, QueueIO, Worker, front_queue
from xenvirt.vif import features
from xenvirt.vif.buffers import READONLY, front_buffers, rx_ring_ref, tx_ring_ref
from xenvirt.vif.channels import open_channels
from xenvirt.vif.interface import Interface
from xenvirt.vif.queue_stats import StatsPage
from xenvirt.xenbus.device import (
    DeviceFatalError,
    XenbusDevice,
    raise_refused,
    read_mtu,
    read_required,
)
from xenvirt.xenbus.states import FrontReaction, front_reaction
from xenvirt.xenstore.client import Client
from xenvirt.xenstore.errors import StoreConnectionError

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S: Final = 5.0
"""netfront waits in steps of 5 s for a backend that does not answer."""

_MAC: Final = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_BACKEND_GONE: Final = (XenbusState.CLOSED, XenbusState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class FrontDomain:
    """What all vifs of a domain share.

    `owner` is whose its interfaces are, by their alias.
    """

    name: str
    owner: str
    hypervisor: Hypervisor
    store: Client
    worker: Worker


@dataclass(slots=True)
class _Link:
    """What a connected vif holds; `undo` lets go of it, last made first.

    `channels` are the TX ring's and the RX ring's, or one for both.
    """

    channels: tuple[EventChannel, ...]
    pages: GrantedPages
    page: StatsPage
    undo: AsyncExitStack


@dataclass(frozen=True, slots=True)
class _Backend:
    """What the backend wrote, and what we make of it."""

    peer: PeerFeatures
    split: bool
    xdp: bool


class FrontVif:
    """One vif, from the moment its node appears until it vanishes."""

    def __init__(
        self, domain: FrontDomain, nodename: str, devid: DevId, state: XenbusState
    ) -> None:
        self._domain = domain
        self._nodename = nodename
        self._devid = devid
        self._first_state = state
        self._label = f"xennet{devid}"
        self._link: _Link | None = None
        self._events: asyncio.Queue[XenbusState | None] = asyncio.Queue()
        self._device: XenbusDevice
        self._interface: Interface | None = None

    async def run(self) -> None:
        """Serve the vif until it is cancelled; `remove` or `leave` comes after."""
        self._device = await self._open_device()
        await self._device.attempt(self._probe())
        await self._follow_backend()

    async def remove(self) -> None:
        """The node is gone: let go of everything, the TAP too."""
        await self._disconnect()
        hypervisor = self._domain.hypervisor
        hypervisor.unpublish(hypervisor.domid, self._devid, "front")
        if self._interface is not None:
            self._interface.delete()

    async def leave(self) -> None:
        """This process is told to end: close in order, and leave the TAP."""
        if self._link is not None:
            await self._close_handshake()
            await self._disconnect()
        if self._interface is not None:
            self._interface.close()

    def check_broken(self) -> None:
        """The worker reported a broken queue; it may be this one's."""
        if self._link is not None and self._link.page.stats.broken() is not None:
            self._events.put_nowait(None)

    async def _open_device(self) -> XenbusDevice:
        device = XenbusDevice(
            self._domain.store,
            self._label,
            self._nodename,
            otherend="",
            otherend_id=DomId(0),
            state=self._first_state,
        )
        device.otherend = await read_required(device.read, "backend", self._nodename)
        backend_id = await read_required(device.read, "backend-id", self._nodename)
        device.otherend_id = DomId(int(backend_id))
        return device

    async def _probe(self) -> None:
        if self._first_state is not XenbusState.INITIALISING:
            await self._reset()
        await self._open_interface()

    async def _open_interface(self) -> None:
        mac = await self._device.read("mac")
        if mac is None:
            raise DeviceFatalError(
                errno.ENOENT, f"can't read mac address, err {errno.ENOENT}"
            )
        if not _MAC.fullmatch(mac):
            raise DeviceFatalError(errno.EINVAL, f"{mac} is not a valid mac address")
        mtu = await read_mtu(self._device)
        self._interface = await Interface.open(
            self._label,
            mac=mac,
            mtu=mtu,
            owner=self._domain.owner,
            what=f"{self._domain.name}/{self._devid} frontend",
            up=True,
        )
        if self._domain.hypervisor.conventions.ifname_keys:
            await self._device.write_if_there([("vifname", self._interface.name)])

    async def _follow_backend(self) -> None:
        watching = asyncio.create_task(self._watch_backend())
        try:
            while True:
                if not await self._device.attempt(
                    self._react(await self._events.get())
                ):
                    await self._disconnect()
        finally:
            watching.cancel()

    async def _watch_backend(self) -> None:
        with suppress(StoreConnectionError):
            async for state in self._device.otherend_states():
                self._events.put_nowait(state)

    async def _react(self, backend: XenbusState | None) -> None:
        """The backend is in a state, or (None) the ring is broken, which is fatal."""
        if backend is None:
            self._report_broken()
            return
        match front_reaction(self._device.state, backend):
            case FrontReaction.CONNECT:
                await self._connect()
            case FrontReaction.LINK_UP:
                self._set_carrier(True)
            case FrontReaction.CLOSE:
                await self._disconnect()
                await self._device.switch_state(XenbusState.CLOSED)

    def _report_broken(self) -> None:
        reason = self._link.page.stats.broken() if self._link else None
        if reason is not None:
            log.error("%s: Disabled for further use", self._label)
            raise DeviceFatalError(errno.EIO, reason)

    async def _connect(self) -> None:
        without = features.parse_without(await self._device.read("x-without"))
        backend = await self._read_backend(without)
        self._link = await self._make_link(backend)
        if backend.xdp:
            await self._device.write_if_there([("xdp-headroom", "0")])
        await self._write_keys(self._link, without)
        if not await self._device.switch_state(XenbusState.CONNECTED):
            await self._disconnect()

    async def _read_backend(self, without: frozenset[str]) -> _Backend:
        values = await asyncio.gather(
            *(self._device.read_otherend(key) for key in features.KEYS)
        )
        keys = dict(zip(features.KEYS, values, strict=True))
        if keys["feature-rx-copy"] != "1":
            raise DeviceFatalError(
                errno.ENODEV, "backend does not support copying receive path"
            )
        return _Backend(
            features.negotiate(keys),
            features.splits_event_channels(keys, without),
            keys["feature-xdp-headroom"] == "1",
        )

    async def _make_link(self, backend: _Backend) -> _Link:
        assert self._interface is not None
        hypervisor, domid = self._domain.hypervisor, self._device.otherend_id
        async with AsyncExitStack() as undo:
            channels = await open_channels(
                hypervisor,
                (hypervisor.alloc_unbound(domid) for _ in range(1 + backend.split)),
                undo,
            )
            pages = await self._grant(domid)
            undo.callback(hypervisor.end, pages)
            page = StatsPage(self._label)
            undo.callback(page.close)
            queue = front_queue(
                QueueIO(self._interface.fd, channels[0].evtchn, channels[-1].evtchn),
                pages.table,
                front_buffers(pages),
                backend.peer,
                page.stats,
            )
            undo.callback(queue.close)
            await self._interface.set_peer(backend.peer)
            await hypervisor.publish(hypervisor.domid, self._devid, "front", 0, page.fd)
            self._domain.worker.add(queue)
            undo.callback(self._domain.worker.remove, queue)
            ports = "/".join(str(channel.port) for channel in channels)
            log.info("%s: using event channel %s", self._label, ports)
            log.info("%s: using RX copy mode", self._label)
            return _Link(channels, pages, page, undo.pop_all())

    async def _grant(self, domid: DomId) -> GrantedPages:
        try:
            return await self._domain.hypervisor.grant(domid, READONLY)
        except HypercallError as error:
            raise_refused(error, "granting the rings and buffers")

    async def _write_keys(self, link: _Link, without: frozenset[str]) -> None:
        ports = [str(channel.port) for channel in link.channels]
        names = (
            ["event-channel"]
            if len(ports) == 1
            else ["event-channel-tx", "event-channel-rx"]
        )
        await self._device.write_if_there(
            [
                ("multi-queue-num-queues", "1"),
                ("tx-ring-ref", str(tx_ring_ref(link.pages))),
                ("rx-ring-ref", str(rx_ring_ref(link.pages))),
                *zip(names, ports, strict=True),
                *features.front_keys(without).items(),
            ]
        )

    async def _disconnect(self) -> None:
        link, self._link = self._link, None
        if link is None:
            return
        self._set_carrier(False)
        await link.undo.aclose()

    def _set_carrier(self, on: bool) -> None:
        if self._interface is not None:
            self._interface.set_carrier(on)

    async def _reset(self) -> None:
        """Bring a node that a dead process left back to where a new one begins.

        It is what a kdump kernel does (xenbus_reset_frontend).
        """
        await self._close_handshake()
        await self._device.switch_state(XenbusState.INITIALISING)

    async def _close_handshake(self) -> None:
        """Closing, and the backend follows; Closed, and it follows again."""
        device = self._device
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                if await device.otherend_state() not in _BACKEND_GONE:
                    await device.switch_state(XenbusState.CLOSING)
                    await self._wait_for_backend(
                        lambda s: s in (XenbusState.CLOSING, *_BACKEND_GONE)
                    )
                await device.switch_state(XenbusState.CLOSED)
                await self._wait_for_backend(lambda s: s in _BACKEND_GONE)

    async def _wait_for_backend(self, reached: Callable[[XenbusState], bool]) -> None:
        async for state in self._device.otherend_states():
            if reached(state):
                return
