"""xvif: the backend of all vifs that one domain serves.

What is done when is xen-netback's (handshake.py). Everything that the frontend wrote
is read once, checked, and used from the copy; what is wrong with it closes its vif,
with Linux netback's words in the error node.
"""

import asyncio
import errno
import logging
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Final

from xenvirt.abi.ids import DevId, DomId, Port
from xenvirt.abi.xenbus import XenbusState
from xenvirt.errors import HypercallError, XenvirtError
from xenvirt.hypervisor.interface import EventChannel, Hypervisor
from xenvirt.native import (
    PeerFeatures,
    PeerTable,
    Queue,
    QueueIO,
    Worker,
    back_queue,
)
from xenvirt.vif import features, front_keys
from xenvirt.vif.channels import open_channels
from xenvirt.vif.front_keys import FrontKeys
from xenvirt.vif.handshake import (
    HOTPLUG_CONNECTED,
    Action,
    BackHandshake,
    Connect,
    Disconnect,
    Fatal,
    SwitchState,
    Unregister,
)
from xenvirt.vif.interface import Interface
from xenvirt.vif.plug import BACKEND_MAC, BUILTINS, plug
from xenvirt.vif.queue_stats import StatsPage
from xenvirt.xenbus.device import (
    DeviceFatalError,
    XenbusDevice,
    raise_refused,
    read_mtu,
    read_required,
)
from xenvirt.xenstore.client import Client
from xenvirt.xenstore.errors import StoreConnectionError

log = logging.getLogger(__name__)

_MAC: Final = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")


@dataclass(frozen=True, slots=True)
class BackDomain:
    """What all vifs of a backend domain share.

    `owner` is whose its interfaces are, by their alias.
    `awaits_hotplug`: a script says `connected` before the frontend is told so.
    """

    owner: str
    hypervisor: Hypervisor
    store: Client
    worker: Worker
    awaits_hotplug: bool = True


@dataclass(slots=True)
class _Link:
    """What a connected vif holds; `undo` lets go of it, last made first."""

    channels: tuple[EventChannel, ...]
    page: StatsPage
    undo: AsyncExitStack


class BackVif:
    """One vif, from the moment its node appears until it vanishes."""

    def __init__(
        self,
        domain: BackDomain,
        nodename: str,
        frontend_id: DomId,
        devid: DevId,
        state: XenbusState,
    ) -> None:
        self._domain = domain
        self._nodename = nodename
        self._frontend_id = frontend_id
        self._devid = devid
        self._label = f"xvif{frontend_id}i{devid}"
        self._handshake = BackHandshake(state)
        self._link: _Link | None = None
        self._events: asyncio.Queue[Iterator[Action]] = asyncio.Queue()
        self._interface: Interface | None = None
        self._device: XenbusDevice

    async def run(self) -> None:
        """Serve the vif until it is unregistered or cancelled."""
        self._device = await self._open_device()
        if not await self._device.attempt(self._probe()):
            self._handshake.give_up()
        elif (
            self._device.state is XenbusState.CONNECTED
            and not await self._device.attempt(self._resume())
        ):
            # The frontend has died as well, and will begin again.
            self._handshake.failed()
        await self._serve()

    async def remove(self) -> None:
        """The node is gone: let go of everything, the TAP too."""
        await self._disconnect()
        self._domain.hypervisor.unpublish(self._frontend_id, self._devid, "back")
        if self._interface is not None:
            self._interface.delete()

    async def leave(self) -> None:
        """This process is told to end: the next one takes rings and TAP up again."""
        await self._disconnect()
        if self._interface is not None:
            self._interface.close()

    def check_broken(self) -> None:
        """The worker reported a broken queue; it may be this one's."""
        if self._link is not None and self._link.page.stats.broken() is not None:
            self._events.put_nowait(self._broken_actions())

    # What the toolstack wrote, and what we answer before the frontend is there.

    async def _open_device(self) -> XenbusDevice:
        device = XenbusDevice(
            self._domain.store,
            self._label,
            self._nodename,
            otherend="",
            otherend_id=self._frontend_id,
            state=self._handshake.state,
        )
        device.otherend = await read_required(device.read, "frontend", self._nodename)
        return device

    async def _probe(self) -> None:
        await self._check_mac()
        script = await read_required(self._device.read, "script", self._nodename)
        self._interface = await self._open_interface()
        if self._device.state is not XenbusState.CONNECTED:
            await self._offer()
        if script in BUILTINS:
            await self._plug(script)
        elif not self._domain.awaits_hotplug:
            await self._device.write_if_there([("hotplug-status", HOTPLUG_CONNECTED)])

    async def _check_mac(self) -> None:
        mac = await self._device.read("mac")
        if mac is None:
            raise DeviceFatalError(
                errno.ENOENT, f"can't read {self._nodename}/mac: {errno.ENOENT}"
            )
        if not _MAC.fullmatch(mac):
            raise DeviceFatalError(errno.EINVAL, f"{mac} is not a valid mac address")

    async def _open_interface(self) -> Interface:
        name = await self._device.read("vifname") or self._default_ifname()
        mtu = await read_mtu(self._device)
        interface = await Interface.open(
            name,
            mac=BACKEND_MAC,
            mtu=mtu,
            owner=self._domain.owner,
            what=f"{self._frontend_id}/{self._devid} backend",
            up=False,
        )
        log.info("%s: Ethernet address %s", self._label, BACKEND_MAC)
        return interface

    def _default_ifname(self) -> str:
        return self._domain.hypervisor.conventions.back_ifname.format(
            domid=self._frontend_id, devid=self._devid
        )

    async def _offer(self) -> None:
        """Say what we take, in place of what another backend had said."""
        assert self._interface is not None
        without = features.parse_without(await self._device.read("x-without"))
        await self._device.write_if_there(features.back_keys(without).items())
        for pair in features.back_keys_apart(without).items():
            await self._device.write_if_there([pair])
        if self._domain.hypervisor.conventions.ifname_keys:
            await self._device.write_if_there([("vifname", self._interface.name)])
        if self._device.state is XenbusState.INITIALISING:
            await self._switch_state(XenbusState.INIT_WAIT)
            self._handshake.state = XenbusState.INIT_WAIT

    async def _plug(self, script: str) -> None:
        assert self._interface is not None
        try:
            bridge = await self._device.read("bridge")
            await asyncio.to_thread(plug, script, self._interface.name, bridge)
        except XenvirtError as error:
            await self._device.write_if_there(
                [("hotplug-error", str(error)), ("hotplug-status", "error")]
            )
            raise
        await self._device.write_if_there([("hotplug-status", HOTPLUG_CONNECTED)])

    async def _resume(self) -> None:
        """Take over from a backend that died: the frontend need not notice."""
        if await self._device.otherend_state() is XenbusState.CONNECTED:
            await self._connect()
            assert self._link is not None
            for channel in self._link.channels:
                # The dead one may have answered and not said so.
                channel.notify()
            log.info("%s: resumed", self._label)

    # The frontend's states, the hotplug script, the worker: events, one by one.

    async def _serve(self) -> None:
        watching = (
            asyncio.create_task(self._watch_frontend()),
            asyncio.create_task(self._watch_hotplug()),
        )
        try:
            unregistered = False
            while not unregistered:
                for action in await self._events.get():
                    unregistered |= await self._perform(action)
        finally:
            for task in watching:
                task.cancel()

    async def _watch_frontend(self) -> None:
        with suppress(StoreConnectionError):
            async for state in self._device.otherend_states():
                online = await self._device.read("online") == "1"
                self._events.put_nowait(
                    self._handshake.frontend_changed(state, online=online)
                )

    async def _watch_hotplug(self) -> None:
        path = f"{self._nodename}/hotplug-status"
        with suppress(StoreConnectionError):
            async with self._domain.store.watch(path) as watch:
                async for _ in watch:
                    status = await self._device.read("hotplug-status")
                    self._events.put_nowait(self._handshake.hotplug_changed(status))

    def _broken_actions(self) -> Iterator[Action]:
        reason = self._link.page.stats.broken() if self._link else None
        if reason is None:
            return
        log.error("%s: %s", self._label, reason)
        log.error("%s: fatal error; disabling device", self._label)
        yield from self._handshake.broken(errno.EIO, reason)

    async def _perform(self, action: Action) -> bool:
        """Carry an action out; True when the device is not to come back."""
        match action:
            case Connect():
                if await self._device.attempt(self._connect()):
                    self._tell_of_hotplug()
                else:
                    self._handshake.failed()
                    log.info(
                        "%s: what the frontend has written: xenstore-ls %s",
                        self._label,
                        self._device.otherend,
                    )
            case Disconnect():
                await self._disconnect()
            case SwitchState(state):
                await self._switch_state(state)
            case Fatal(number, message):
                await self._device.fatal(number, message)
            case Unregister():
                await self._unregister()
                return True
        return False

    def _tell_of_hotplug(self) -> None:
        if not self._handshake.hotplug_connected:
            log.info(
                "%s: the frontend is Connected; waiting for a script to write "
                "hotplug-status",
                self._label,
            )

    async def _switch_state(self, state: XenbusState) -> None:
        await self._device.switch_state(state)
        if self._interface is not None:
            self._interface.set_carrier(state is XenbusState.CONNECTED)

    async def _unregister(self) -> None:
        await self.remove()
        with suppress(XenvirtError):
            await self._domain.store.rm(f"{self._nodename}/hotplug-status")

    # Connecting: read, check, map, bind.

    async def _connect(self) -> None:
        hypervisor = self._domain.hypervisor
        keys = await self._read_frontend()
        async with AsyncExitStack() as undo:
            table = await self._acquire_table()
            undo.callback(hypervisor.release_table, self._frontend_id)
            channels = await self._bind(keys, undo)
            page = StatsPage(self._label)
            undo.callback(page.close)
            queue = self._map_rings(keys, table, channels, page)
            undo.callback(queue.close)
            await self._start(queue, keys.peer, page)
            undo.callback(self._domain.worker.remove, queue)
            self._link = _Link(channels, page, undo.pop_all())

    async def _read_frontend(self) -> FrontKeys:
        values = await asyncio.gather(
            *(self._device.read_otherend(name) for name in front_keys.NAMES)
        )
        keys = dict(zip(front_keys.NAMES, values, strict=True))
        return front_keys.parse(keys, self._device.otherend)

    async def _acquire_table(self) -> PeerTable:
        try:
            return await self._domain.hypervisor.acquire_table(self._frontend_id)
        except HypercallError as error:
            raise_refused(error, f"mapping memory of domain {self._frontend_id}")

    async def _bind(
        self, keys: FrontKeys, undo: AsyncExitStack
    ) -> tuple[EventChannel, ...]:
        hypervisor = self._domain.hypervisor
        ports = dict.fromkeys((keys.event_channel_tx, keys.event_channel_rx))
        return await open_channels(hypervisor, map(self._bind_one, ports), undo)

    async def _bind_one(self, port: Port) -> EventChannel:
        try:
            return await self._domain.hypervisor.bind_interdomain(
                self._frontend_id, port
            )
        except HypercallError as error:
            raise_refused(error, f"binding event channel {port}")

    async def _start(self, queue: Queue, peer: PeerFeatures, page: StatsPage) -> None:
        assert self._interface is not None
        await self._interface.set_peer(peer)
        await self._domain.hypervisor.publish(
            self._frontend_id, self._devid, "back", 0, page.fd
        )
        self._domain.worker.add(queue)

    def _map_rings(
        self,
        keys: FrontKeys,
        table: PeerTable,
        channels: tuple[EventChannel, ...],
        page: StatsPage,
    ) -> Queue:
        assert self._interface is not None
        try:
            return back_queue(
                QueueIO(self._interface.fd, channels[0].evtchn, channels[-1].evtchn),
                table,
                keys.tx_ring_ref,
                keys.rx_ring_ref,
                keys.peer,
                page.stats,
            )
        except OSError as error:
            raise DeviceFatalError(
                error.errno or errno.EIO,
                f"mapping shared-frames {keys.tx_ring_ref}/{keys.rx_ring_ref} "
                f"port tx {keys.event_channel_tx} rx {keys.event_channel_rx}",
            ) from error

    async def _disconnect(self) -> None:
        link, self._link = self._link, None
        if link is None:
            return
        if self._interface is not None:
            self._interface.set_carrier(False)
        await link.undo.aclose()
