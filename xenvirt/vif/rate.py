"""A vif's rate limit, the node `rate` of its backend: "<bytes>,<usec>".

What a frontend sends is limited to so many bytes in each window, in every queue by
itself, as by Linux netback (xen_net_read_rate). The node may be written at any time.
"""

import logging
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from xenvirt.native.queue import UNLIMITED
from xenvirt.xenbus.device import XenbusDevice
from xenvirt.xenstore.errors import StoreConnectionError

log = logging.getLogger(__name__)

_RATE: Final = re.compile(r"([0-9]+),([0-9]+)", re.ASCII)
_MAX: Final = 2**64 - 1
_MAX_DIGITS: Final = 100


@dataclass(frozen=True, slots=True)
class Credit:
    """Bytes that may be sent in each window of so many microseconds."""

    nr_bytes: int = UNLIMITED
    usec: int = 0


NO_LIMIT: Final = Credit()


def parse(text: str | None) -> Credit | None:
    """The credit that a node says; None when it cannot be parsed.

    Without a node there is no limit. Numbers are decimal, with nothing around them.
    One beyond 64 bits cannot be parsed; netback takes what is left of it.
    """
    if text is None:
        return NO_LIMIT
    match = _RATE.fullmatch(text)
    if match is None or len(text) > _MAX_DIGITS:
        return None
    nr_bytes, usec = map(int, match.groups())
    if nr_bytes > _MAX or usec > _MAX:
        return None
    return Credit(nr_bytes, usec)


class LiveRate:
    """The node of one backend, and what it says now; `changed` is told of the next."""

    def __init__(self, device: XenbusDevice, changed: Callable[[Credit], None]) -> None:
        self.credit = NO_LIMIT
        self._text: str | None = None
        self._device = device
        self._changed = changed

    async def read(self) -> None:
        """Look at the node; one that is as it was is not looked at twice."""
        text = await self._device.read("rate")
        if text == self._text:
            return
        self._text = text
        credit = parse(text)
        if credit is None:
            log.warning(
                "%s: Failed to parse network rate limit. Traffic unlimited.",
                self._device.label,
            )
        self.credit = credit or NO_LIMIT
        self._changed(self.credit)

    async def watch(self) -> None:
        """Look at the node whenever it is written, until cancelled."""
        with suppress(StoreConnectionError):
            path = f"{self._device.nodename}/rate"
            async with self._device.store.watch(path) as watch:
                async for _ in watch:
                    await self.read()
