"""xvif: the backend of all vifs that one domain serves.

What is done when is xen-netback's (handshake.py). Everything that the frontend wrote
is read once, checked, and used from the copy; what is wrong with it closes its vif,
with Linux netback's words in the error node.
"""

import asyncio
import errno
import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Final

from xenvirt.abi.ids import DevId, DomId
from xenvirt.abi.netif import MAX_QUEUES_DEFAULT
from xenvirt.abi.xenbus import XenbusState
from xenvirt.errors import XenvirtError
from xenvirt.hypervisor.interface import Hypervisor
from xenvirt.netdev.monitor import LinkMonitor
from xenvirt.vif import features, front_keys, queues, strays
from xenvirt.vif.back_link import BackLink
from xenvirt.vif.by_hand import ByHand
from xenvirt.vif.end import End
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
from xenvirt.vif.interface import Interface, Setup
from xenvirt.vif.mailbox import Mailbox
from xenvirt.vif.plug import BACKEND_MAC, BUILTINS, plug
from xenvirt.vif.rate import Credit, LiveRate
from xenvirt.vif.rx_timeouts import read_timeouts
from xenvirt.vif.threads import in_thread
from xenvirt.vif.workers import Workers
from xenvirt.xenbus.device import (
    DeviceFatalError,
    XenbusDevice,
    read_mtu,
    read_required,
)
from xenvirt.xenbus.states import IN_USE
from xenvirt.xenstore.client import Client
from xenvirt.xenstore.errors import StoreConnectionError

log = logging.getLogger(__name__)

_MAC: Final = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")


@dataclass(frozen=True, slots=True)
class BackDomain:
    """What all vifs of a backend domain share.

    `owner` is whose its interfaces are, by their alias, and `monitor` tells of them.
    `awaits_hotplug`: a script says `connected` before the frontend is told so.
    """

    owner: str
    hypervisor: Hypervisor
    store: Client
    workers: Workers
    monitor: LinkMonitor
    awaits_hotplug: bool = True


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
        self._link: BackLink | None = None
        self._events: Mailbox[Iterator[Action]] = Mailbox()
        self._interface: Interface | None = None
        self._by_hand: ByHand | None = None
        self._device: XenbusDevice
        self._rate: LiveRate

    async def run(self) -> None:
        """Serve the vif until it is unregistered or cancelled."""
        self._device = await self._open_device()
        self._rate = LiveRate(self._device, self._set_credit)
        async with aclosing(self._device.otherend_state_texts()) as texts:
            # Watched ahead of InitWait, for which frontends wait: the event that every
            # watch begins with would read the Connected that has an event of its own,
            # and an error would be met, and told, twice.
            await self._frontend_wrote(await anext(texts, None))
            if not await self._device.attempt(self._probe()):
                self._handshake.give_up()
            elif self._device.state is XenbusState.CONNECTED:
                await self._try_to_resume()
            await self._serve(texts)

    async def remove(self) -> None:
        """The node is gone: let go of everything, the TAP too."""
        await self._disconnect()
        if self._by_hand is not None:
            self._by_hand.close()
        if self._interface is not None:
            self._interface.delete()
        hypervisor = self._domain.hypervisor
        await hypervisor.unpublish(self._frontend_id, self._devid, "back")

    async def leave(self) -> None:
        """This process is told to end: the next one takes rings and TAP up again."""
        if self._link is not None:
            await self._link.settle(held=True)
        await self._disconnect()
        if self._by_hand is not None:
            self._by_hand.close()
        if self._interface is not None:
            self._interface.close()

    def check_queues(self) -> None:
        """A worker reported a queue that is not as it was; it may be one of these."""
        if self._link is None:
            return
        if self._link.broken() is not None:
            self._events.put("ring", self._broken_actions())
        self._check_stall(self._link)

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
        await self._rate.read()
        self._interface = await self._open_interface()
        self._by_hand = ByHand(
            self._domain.monitor,
            self._device,
            self._interface,
            bridge=await self._device.read("bridge"),
            named=self._domain.hypervisor.conventions.ifname_keys,
        )
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
        name = await self._device.read("vifname")
        setup = Setup(
            name or self._default_ifname(),
            mac=BACKEND_MAC,
            mtu=await read_mtu(self._device),
            owner=self._domain.owner,
            what=strays.back_alias(self._frontend_id, self._devid),
            up=False,
            max_queues=await self._read_max_queues(),
            left=self._device.state is not XenbusState.INITIALISING,
            in_use=self._domain.hypervisor.conventions.ifname_keys
            and name is not None
            and self._device.state in IN_USE,
        )
        interface = await Interface.open(setup)
        log.info("%s: Ethernet address %s", self._label, BACKEND_MAC)
        return interface

    async def _read_max_queues(self) -> int:
        if self._device.state is not XenbusState.CONNECTED:
            return queues.limit(await self._device.read(queues.KEY))
        # The frontend has asked for some of those that the dead one had offered.
        key = features.MAX_QUEUES
        offered = queues.offered({key: await self._device.read(key)})
        return min(offered or 1, MAX_QUEUES_DEFAULT)

    def _default_ifname(self) -> str:
        return self._domain.hypervisor.conventions.back_ifname.format(
            domid=self._frontend_id, devid=self._devid
        )

    async def _offer(self) -> None:
        """Say what we take, in place of what another backend had said."""
        assert self._interface is not None
        without = features.parse_without(await self._device.read("x-without"))
        await self._device.write_if_there(features.back_keys(without).items())
        apart = features.back_keys_apart(without, max_queues=self._interface.max_queues)
        for pair in apart.items():
            await self._device.write_if_there([pair])
        if self._domain.hypervisor.conventions.ifname_keys:
            await self._device.write_if_there([("vifname", self._interface.name)])
        if self._device.state is XenbusState.INITIALISING:
            await self._device.switch_state(XenbusState.INIT_WAIT)
            self._handshake.state = XenbusState.INIT_WAIT

    async def _plug(self, script: str) -> None:
        assert self._interface is not None
        try:
            bridge = await self._device.read("bridge")
            await in_thread(plug, script, self._interface.name, bridge)
        except XenvirtError as error:
            if self._device.state is XenbusState.CONNECTED:
                # It was plugged in by a process that died, and may be otherwise now.
                log.warning("%s: %s", self._label, error)
                return
            await self._device.write_if_there(
                [("hotplug-error", str(error)), ("hotplug-status", "error")]
            )
            raise
        await self._device.write_if_there([("hotplug-status", HOTPLUG_CONNECTED)])

    async def _try_to_resume(self) -> None:
        try:
            await self._resume()
        except StoreConnectionError:
            raise
        except (XenvirtError, OSError) as error:
            # The frontend has died as well, and will begin again: no error of the
            # device's, which would stay in its node.
            log.info("%s: cannot resume: %s", self._label, error)
            await self._device.switch_state(XenbusState.CLOSING)
            self._handshake.failed()

    async def _resume(self) -> None:
        """Take over from a backend that died: the frontend need not notice."""
        if await self._device.otherend_state() is XenbusState.CONNECTED:
            await self._connect()
            assert self._link is not None
            # The dead one may have answered and not said so.
            self._link.notify()
            log.info("%s: resumed", self._label)
            await self._device.clear_error()

    # The frontend's states, the hotplug script, the worker: events, one by one.

    async def _serve(self, texts: AsyncIterator[str | None]) -> None:
        watching = (
            asyncio.create_task(self._watch_frontend(texts)),
            asyncio.create_task(self._watch_hotplug()),
            asyncio.create_task(self._rate.watch()),
        )
        try:
            unregistered = False
            while not unregistered:
                for action in await self._events.get():
                    unregistered |= await self._perform(action)
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)

    async def _watch_frontend(self, texts: AsyncIterator[str | None]) -> None:
        with suppress(StoreConnectionError):
            async for text in texts:
                await self._frontend_wrote(text)

    async def _frontend_wrote(self, text: str | None) -> None:
        online = await self._device.read("online") == "1"
        actions = self._handshake.frontend_wrote(text, online=online)
        self._events.put("frontend", actions)

    async def _watch_hotplug(self) -> None:
        path = f"{self._nodename}/hotplug-status"
        with suppress(StoreConnectionError):
            async with self._domain.store.watch(path) as watch:
                async for _ in watch:
                    status = await self._device.read("hotplug-status")
                    self._events.put("hotplug", self._handshake.hotplug_changed(status))

    def _check_stall(self, link: BackLink) -> None:
        if not link.stall_changed():
            return
        log.info("%s: Guest Rx %s", self._label, "stalled" if link.stalled else "ready")
        self._show_carrier()

    def _show_carrier(self) -> None:
        """The interface has a carrier while the guest takes what is sent to it."""
        if self._interface is not None:
            takes = self._link is not None and not self._link.stalled
            self._interface.set_carrier(takes)

    def _set_credit(self, credit: Credit) -> None:
        if self._link is not None:
            self._link.set_credit(credit)

    def _broken_actions(self) -> Iterator[Action]:
        reason = self._link.broken() if self._link else None
        if reason is None:
            return
        log.error("%s: %s", self._label, reason)
        log.error("%s: fatal error; disabling device", self._label)
        yield from self._handshake.broken(errno.EIO, reason)

    async def _perform(self, action: Action) -> bool:
        """Carry an action out; True when the device is not to come back."""
        match action:
            case Connect():
                if not await self._is_still_connected():
                    self._handshake.withdrawn()
                elif await self._device.attempt(self._connect()):
                    await self._device.clear_error()
                    self._tell_of_hotplug()
                else:
                    self._handshake.failed()
                    log.info(
                        "%s: what the frontend has written: xenstore-ls %s",
                        self._label,
                        self._device.otherend,
                    )
            case Disconnect():
                if self._link is not None:
                    # What the frontend has sent before it went is forwarded.
                    await self._link.settle(held=False)
                await self._disconnect()
            case SwitchState(state):
                await self._device.switch_state(state)
            case Fatal(number, message):
                await self._device.fatal(number, message)
            case Unregister():
                await self._unregister()
                return True
        return False

    async def _is_still_connected(self) -> bool:
        """Whether the frontend is, after the states that were walked for it to be."""
        return await self._device.otherend_state() is XenbusState.CONNECTED

    def _tell_of_hotplug(self) -> None:
        if not self._handshake.hotplug_connected:
            log.info(
                "%s: the frontend is Connected; waiting for a script to write "
                "hotplug-status",
                self._label,
            )

    async def _unregister(self) -> None:
        await self.remove()
        with suppress(XenvirtError):
            await self._domain.store.rm(f"{self._nodename}/hotplug-status")

    # Connecting: read, check, map, bind.

    async def _connect(self) -> None:
        assert self._interface is not None
        end = End(
            self._label,
            self._devid,
            self._frontend_id,
            self._domain.hypervisor,
            self._domain.workers,
            self._interface,
        )
        keys = await self._read_frontend()
        timeouts = await read_timeouts(self._device)
        self._link = await BackLink.open(end, keys, self._rate.credit, timeouts)
        # Ahead of the state, as netback: who sees Connected can send.
        self._show_carrier()

    async def _read_frontend(self) -> FrontKeys:
        assert self._interface is not None
        count = front_keys.parse_count(
            await self._device.read_otherend(features.NUM_QUEUES),
            self._interface.max_queues,
        )
        names = front_keys.names(count)
        values = await asyncio.gather(*map(self._device.read_otherend, names))
        keys = dict(zip(names, values, strict=True))
        return front_keys.parse(keys, self._device.otherend, count)

    async def _disconnect(self) -> None:
        link, self._link = self._link, None
        if link is None:
            return
        if self._interface is not None:
            self._interface.set_carrier(False)
        await link.close()
