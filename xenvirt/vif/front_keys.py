"""What a frontend wrote about its rings, checked as Linux netback checks it; no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from errno import EINVAL, ENOENT
from typing import Final

from xenvirt.abi.ids import Port
from xenvirt.native import PeerFeatures
from xenvirt.vif import features
from xenvirt.xenbus.device import DeviceFatalError

MAX_QUEUES: Final = 1
"""What the backend offers as multi-queue-max-queues."""

NAMES: Final = (
    "multi-queue-num-queues",
    *features.KEYS,
    "tx-ring-ref",
    "rx-ring-ref",
    "event-channel-tx",
    "event-channel-rx",
    "event-channel",
)
"""Every key that is read, in the order of netback's connect()."""

_UINT32_MAX: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class FrontKeys:
    """The numbers are 32-bit; whether they name anything is found out by mapping.

    Both ports are the same where the frontend has one event channel for both rings.
    """

    tx_ring_ref: int
    rx_ring_ref: int
    event_channel_tx: Port
    event_channel_rx: Port
    peer: PeerFeatures


def parse(keys: Mapping[str, str | None], otherend: str) -> FrontKeys:
    """Check what was read of `otherend`, the frontend's path.

    DeviceFatalError, in netback's words, for a key that is missing or cannot be.
    """
    _check_queues(keys["multi-queue-num-queues"])
    port_tx, port_rx = _ports(keys, otherend)
    return FrontKeys(
        tx_ring_ref=_number(keys["tx-ring-ref"], f"reading {otherend}/ring-ref"),
        rx_ring_ref=_number(keys["rx-ring-ref"], f"reading {otherend}/ring-ref"),
        event_channel_tx=port_tx,
        event_channel_rx=port_rx,
        peer=features.negotiate(keys),
    )


def _check_queues(text: str | None) -> None:
    if text is None:
        return
    count = _decimal(text)
    if count is None or not 1 <= count <= MAX_QUEUES:
        shown = text if count is None else str(count)
        raise DeviceFatalError(
            EINVAL,
            f"guest requested {shown} queues, but valid range is 1 - {MAX_QUEUES}.",
        )


def _ports(keys: Mapping[str, str | None], otherend: str) -> tuple[Port, Port]:
    reading = f"reading {otherend}/event-channel(-tx/rx)"
    names = ("event-channel-tx", "event-channel-rx")
    if any(keys[name] is None for name in names):
        names = ("event-channel", "event-channel")
    tx, rx = (Port(_number(keys[name], reading)) for name in names)
    return tx, rx


def _number(text: str | None, reading: str) -> int:
    if text is None:
        raise DeviceFatalError(ENOENT, reading)
    number = _decimal(text)
    if number is None or number > _UINT32_MAX:
        raise DeviceFatalError(
            EINVAL, f"{reading}: {text} is not within 0..{_UINT32_MAX}"
        )
    return number


def _decimal(text: str) -> int | None:
    """The number that `text` is, or None: a frontend may have written anything."""
    if text.isascii() and text.isdigit() and len(text) <= len(str(_UINT32_MAX)):
        return int(text)
    return None
