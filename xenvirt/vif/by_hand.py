"""What somebody does by hand to the interface of a vif that runs: said, and followed.

MAC, MTU, addresses and up or down are the interface's own affair: frames pass as it
lets them.
"""

import asyncio
import logging
from contextlib import suppress

from xenvirt.netdev.monitor import LinkMonitor, LinkState
from xenvirt.vif.interface import Interface
from xenvirt.xenbus.device import XenbusDevice
from xenvirt.xenstore.errors import StoreConnectionError

log = logging.getLogger(__name__)


class ByHand:
    """Follows one vif's interface from when it is made until `close`.

    `bridge` is the one that a backend has plugged it into, `named` whether the own node
    tells its name.
    """

    __slots__ = ("_bridge", "_device", "_interface", "_master", "_monitor", "_named",
                 "_writing")  # fmt: skip

    def __init__(
        self,
        monitor: LinkMonitor,
        device: XenbusDevice,
        interface: Interface,
        *,
        bridge: str | None = None,
        named: bool,
    ) -> None:
        self._monitor = monitor
        self._device = device
        self._interface = interface
        self._bridge = bridge
        self._named = named
        self._master = 0
        self._writing: asyncio.Task[None] | None = None
        monitor.follow(interface.index, self._changed)

    def close(self) -> None:
        """It is about to go, by our own hand."""
        self._monitor.unfollow(self._interface.index)

    def _changed(self, now: LinkState | None) -> None:
        if now is None:
            self._left()
            return
        if now.name != self._interface.name:
            self._renamed(now.name)
        if self._bridge and self._master and not now.master:
            log.warning(
                "%s: %s is no port of bridge %s any more; to plug it in: "
                "ip link set %s master %s",
                self._device.label, now.name, self._bridge, now.name, self._bridge,
            )  # fmt: skip
        self._master = now.master

    def _left(self) -> None:
        """It is no longer in our network namespace."""
        label, name = self._device.label, self._interface.name
        if self._interface.is_there():
            log.warning("%s: %s is in another network namespace now", label, name)
        else:
            # Its queues say the same, if there are any, and end the vif.
            log.error("%s: somebody has deleted %s", label, name)

    def _renamed(self, name: str) -> None:
        log.warning(
            "%s: %s is called %s now", self._device.label, self._interface.name, name
        )
        self._interface.name = name
        if self._named:
            self._writing = asyncio.create_task(self._tell_name())

    async def _tell_name(self) -> None:
        with suppress(StoreConnectionError):
            await self._device.write_if_there([("vifname", self._interface.name)])
