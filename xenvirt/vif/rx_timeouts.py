"""How long frames wait for a guest that posts no RX buffers.

netback's module parameters rx_drain_timeout_msecs and rx_stall_timeout_msecs, here
keys of a vif's backend, which are read when the frontend connects.
"""

import asyncio
import errno
from typing import Final

from xenvirt.xenbus.device import DeviceFatalError, XenbusDevice

DEFAULTS: Final = {
    "x-rx-drain-timeout-msecs": 10_000,
    "x-rx-stall-timeout-msecs": 60_000,
}
_MAX: Final = 2**32 - 1


async def read_timeouts(device: XenbusDevice) -> tuple[int, int]:
    """Milliseconds until frames are dropped, and until the guest counts as stalled.

    DeviceFatalError for what is not a number of 32 bits; a stall timeout of 0 is never.
    """
    texts = await asyncio.gather(
        *(device.read(key, str(default)) for key, default in DEFAULTS.items())
    )
    drain, stall = map(parse, DEFAULTS, texts)
    return drain, stall


def parse(key: str, text: str | None) -> int:
    """A number of milliseconds; DeviceFatalError EINVAL."""
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise DeviceFatalError(errno.EINVAL, f"{key} {text} is not a number")
    if int(text) > _MAX:
        raise DeviceFatalError(errno.EINVAL, f"{key} {text} is more than {_MAX}")
    return int(text)
