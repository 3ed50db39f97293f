"""xennet: the frontend of the vifs of one domain, in its network namespace.

What is done when is xen-netfront's (states.front_reaction); the keys and their order
are its talk_to_netback's.
"""

import asyncio
import errno
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from xenvirt.abi.ids import DevId, DomId
from xenvirt.abi.xenbus import XenbusState
from xenvirt.hypervisor.interface import Hypervisor
from xenvirt.native.queue import PeerFeatures
from xenvirt.netdev.monitor import LinkMonitor
from xenvirt.vif import features, front_keys, queues, strays
from xenvirt.vif.by_hand import ByHand
from xenvirt.vif.end import End
from xenvirt.vif.front_link import FrontLink
from xenvirt.vif.interface import Interface, Setup
from xenvirt.vif.mailbox import Mailbox
from xenvirt.vif.workers import Workers
from xenvirt.xenbus.bus import Appeared
from xenvirt.xenbus.device import (
    DeviceFatalError,
    XenbusDevice,
    read_mtu,
    read_required,
)
from xenvirt.xenbus.states import IN_USE, FrontReaction, front_reaction
from xenvirt.xenstore.client import Client
from xenvirt.xenstore.errors import StoreConnectionError

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S: Final = 5.0
"""netfront waits in steps of 5 s for a backend that does not answer."""

BEGIN_AGAIN_MAX: Final = 3
"""How often a new process does not take a backend at its word that closes."""

_MAC: Final = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_BACKEND_GONE: Final = (XenbusState.CLOSED, XenbusState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class FrontDomain:
    """What all vifs of a domain share.

    `owner` is whose its interfaces are, by their alias, and `monitor` tells of them.
    """

    name: str
    owner: str
    hypervisor: Hypervisor
    store: Client
    workers: Workers
    monitor: LinkMonitor


@dataclass(frozen=True, slots=True)
class _Backend:
    """What the backend wrote, and what we make of it.

    `max_queues` is None if it has not said that there can be several.
    """

    peer: PeerFeatures
    split: bool
    xdp: bool
    max_queues: int | None


class FrontVif:
    """One vif, from the moment its node appears until it vanishes."""

    def __init__(self, domain: FrontDomain, appeared: Appeared) -> None:
        self._domain = domain
        self._nodename = appeared.nodename
        self._devid = DevId(appeared.ids[0])
        self._first_state = appeared.state
        self._again = BEGIN_AGAIN_MAX if appeared.taken_over else 0
        self._label = f"xennet{self._devid}"
        self._link: FrontLink | None = None
        self._events: Mailbox[XenbusState | None] = Mailbox()
        self._device: XenbusDevice
        self._interface: Interface | None = None
        self._by_hand: ByHand | None = None

    async def run(self) -> None:
        """Serve the vif until it is cancelled; `remove` or `leave` comes after."""
        self._device = await self._open_device()
        if not await self._device.attempt(self._probe()):
            # There is nothing to begin again with.
            self._again = 0
        await self._follow_backend()

    async def remove(self) -> None:
        """The node is gone: let go of everything, the TAP too."""
        await self._disconnect()
        if self._by_hand is not None:
            self._by_hand.close()
        if self._interface is not None:
            self._interface.delete()
        hypervisor = self._domain.hypervisor
        await hypervisor.unpublish(hypervisor.domid, self._devid, "front")

    async def leave(self) -> None:
        """This process is told to end: close in order, and leave the TAP.

        What the domain has sent is forwarded before the backend is told, and what
        that one had put on the rings by its last state is taken.
        """
        if self._link is not None:
            await self._link.settle()
            await self._close_handshake()
            await self._disconnect()
        if self._by_hand is not None:
            self._by_hand.close()
        if self._interface is not None:
            self._interface.close()

    def check_queues(self) -> None:
        """A worker reported a broken queue; it may be one of this vif's."""
        if self._link is not None and self._link.broken() is not None:
            self._events.put("ring", None)

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
        # By which a process says that it has one; another driver may not.
        named = self._domain.hypervisor.conventions.ifname_keys
        had_one = named and await self._device.read("vifname") is not None
        setup = Setup(
            self._label,
            mac=mac,
            mtu=await read_mtu(self._device),
            owner=self._domain.owner,
            what=strays.front_alias(self._domain.name, self._devid),
            up=True,
            max_queues=queues.limit(await self._device.read(queues.KEY)),
            left=self._first_state is not XenbusState.INITIALISING,
            in_use=had_one and self._first_state in IN_USE,
        )
        self._interface = await Interface.open(setup)
        if named:
            await self._device.write_if_there([("vifname", self._interface.name)])
        monitor = self._domain.monitor
        self._by_hand = ByHand(monitor, self._device, self._interface, named=named)

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
                self._events.put("backend", state)

    async def _react(self, backend: XenbusState | None) -> None:
        """The backend is in a state, or (None) the ring is broken, which is fatal."""
        if backend is None:
            self._report_broken()
            return
        match front_reaction(self._device.state, backend):
            case FrontReaction.CONNECT:
                await self._connect()
            case FrontReaction.LINK_UP:
                self._again = 0
                self._set_carrier(True)
            case FrontReaction.CLOSE if await self._is_for_a_dead_process():
                await self._begin_again()
            case FrontReaction.CLOSE:
                if self._link is not None and backend is XenbusState.CLOSING:
                    # It is told to go, and may well serve until we are Closed.
                    await self._link.settle()
                await self._disconnect()
                await self._device.switch_state(XenbusState.CLOSED)

    async def _is_for_a_dead_process(self) -> bool:
        """Whether a backend that closes may have had that in mind, and not us.

        It may come to what a dead process had said only when a new one has begun. To
        go to Closed then would leave both ends there, each waiting for the other.
        """
        return self._again > 0 and await self._device.read_otherend("online") == "1"

    async def _begin_again(self) -> None:
        if self._device.state is not XenbusState.INITIALISING:
            self._again -= 1
            await self._disconnect()
            await self._reset()

    def _report_broken(self) -> None:
        reason = self._link.broken() if self._link else None
        if reason is not None:
            log.error("%s: Disabled for further use", self._label)
            raise DeviceFatalError(errno.EIO, reason)

    async def _connect(self) -> None:
        without = features.parse_without(await self._device.read("x-without"))
        backend = await self._read_backend(without)
        self._link = await self._open_link(backend)
        if backend.xdp:
            await self._device.write_if_there([("xdp-headroom", "0")])
        await self._write_keys(self._link, backend, without)
        await self._device.clear_error()
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
            queues.offered(keys),
        )

    async def _open_link(self, backend: _Backend) -> FrontLink:
        assert self._interface is not None
        end = End(
            self._label,
            self._devid,
            self._device.otherend_id,
            self._domain.hypervisor,
            self._domain.workers,
            self._interface,
        )
        count = min(backend.max_queues or 1, self._interface.max_queues)
        return await FrontLink.open(end, backend.peer, count=count, split=backend.split)

    async def _write_keys(
        self, link: FrontLink, backend: _Backend, without: frozenset[str]
    ) -> None:
        rings = link.keys()
        keys = front_keys.write(rings) | features.front_keys(without)
        if backend.max_queues is not None:
            keys = {features.NUM_QUEUES: str(len(rings))} | keys
        await self._device.write_if_there(
            keys.items(), in_place_of=front_keys.others(keys)
        )

    async def _disconnect(self) -> None:
        link, self._link = self._link, None
        if link is None:
            return
        self._set_carrier(False)
        await link.close()

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
                    if self._link is not None:
                        await self._link.settle()
                await device.switch_state(XenbusState.CLOSED)
                await self._wait_for_backend(lambda s: s in _BACKEND_GONE)

    async def _wait_for_backend(self, reached: Callable[[XenbusState], bool]) -> None:
        async for state in self._device.otherend_states():
            if reached(state):
                return
