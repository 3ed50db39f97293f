"""What a frontend writes about its rings, and Linux netback's checks of it; no I/O."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from errno import EINVAL, ENOENT
from typing import Final

from xenvirt.abi.ids import Port
from xenvirt.abi.netif import MAX_QUEUES_DEFAULT
from xenvirt.native.queue import PeerFeatures
from xenvirt.vif import features, queues
from xenvirt.xenbus.device import DeviceFatalError

RING_NAMES: Final = (
    "tx-ring-ref",
    "rx-ring-ref",
    "event-channel-tx",
    "event-channel-rx",
    "event-channel",
)
"""What there may be for each queue, in the order in which netback reads."""

_UINT32_MAX: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The numbers are 32-bit; whether they name anything is found out by mapping.

    Both ports are the same where the frontend has one event channel for both rings.
    """

    tx_ring_ref: int
    rx_ring_ref: int
    event_channel_tx: Port
    event_channel_rx: Port

    @property
    def mapping(self) -> str:
        """What could not be done, as netback says it."""
        return (
            f"mapping shared-frames {self.tx_ring_ref}/{self.rx_ring_ref} "
            f"port tx {self.event_channel_tx} rx {self.event_channel_rx}"
        )


@dataclass(frozen=True, slots=True)
class FrontKeys:
    """All queues in their order; no two of them share a ring or a port."""

    queues: tuple[QueueKeys, ...]
    peer: PeerFeatures


def parse_count(text: str | None, max_queues: int) -> int:
    """How many queues there are, by `multi-queue-num-queues`.

    DeviceFatalError, in netback's words, for more than were offered, or none.
    """
    if text is None:
        return 1
    count = queues.decimal(text)
    if count is None or not 1 <= count <= max_queues:
        shown = text if count is None else str(count)
        raise DeviceFatalError(
            EINVAL,
            f"guest requested {shown} queues, but valid range is 1 - {max_queues}.",
        )
    return count


def names(count: int) -> tuple[str, ...]:
    """Every key that is read then, in the order of netback's connect()."""
    rings = (
        queues.path(number, count) + name
        for number in range(count)
        for name in RING_NAMES
    )
    return (*features.KEYS, *rings)


def parse(keys: Mapping[str, str | None], otherend: str, count: int) -> FrontKeys:
    """Check what was read of `otherend`, the frontend's path, with `count` queues.

    DeviceFatalError, in netback's words, for a key that is missing or cannot be.
    """
    found = tuple(
        _parse_queue(keys, queues.path(number, count), otherend)
        for number in range(count)
    )
    _check_distinct(found)
    return FrontKeys(found, features.negotiate(keys))


def write(rings: Sequence[QueueKeys]) -> dict[str, str]:
    """What a frontend writes of its rings, in netfront's order."""
    written = {}
    for number, queue in enumerate(rings):
        prefix = queues.path(number, len(rings))
        written[f"{prefix}tx-ring-ref"] = str(queue.tx_ring_ref)
        written[f"{prefix}rx-ring-ref"] = str(queue.rx_ring_ref)
        if queue.event_channel_tx == queue.event_channel_rx:
            written[f"{prefix}event-channel"] = str(queue.event_channel_tx)
        else:
            written[f"{prefix}event-channel-tx"] = str(queue.event_channel_tx)
            written[f"{prefix}event-channel-rx"] = str(queue.event_channel_rx)
    return written


def others(written: Iterable[str]) -> frozenset[str]:
    """What an earlier connect may have left, and a backend would read beside `written`.

    Queues' directories are among them in any case, to be removed before.
    """
    directories = {f"queue-{number}" for number in range(MAX_QUEUES_DEFAULT)}
    return frozenset({features.NUM_QUEUES, *RING_NAMES, *directories}) - set(written)


def _parse_queue(
    keys: Mapping[str, str | None], prefix: str, otherend: str
) -> QueueKeys:
    where = f"{otherend}/{prefix}"
    own = {name: keys[prefix + name] for name in RING_NAMES}
    port_tx, port_rx = _ports(own, f"reading {where}event-channel(-tx/rx)")
    return QueueKeys(
        tx_ring_ref=_number(own["tx-ring-ref"], f"reading {where}ring-ref"),
        rx_ring_ref=_number(own["rx-ring-ref"], f"reading {where}ring-ref"),
        event_channel_tx=port_tx,
        event_channel_rx=port_rx,
    )


def _check_distinct(found: Iterable[QueueKeys]) -> None:
    """Refuse a ring or a port that is used twice: two workers would get at it."""
    refs: set[int] = set()
    ports: set[Port] = set()
    for queue in found:
        own_refs = {queue.tx_ring_ref, queue.rx_ring_ref}
        own_ports = {queue.event_channel_tx, queue.event_channel_rx}
        if len(own_refs) == 1 or own_refs & refs or own_ports & ports:
            raise DeviceFatalError(EINVAL, queue.mapping)
        refs |= own_refs
        ports |= own_ports


def _ports(own: Mapping[str, str | None], reading: str) -> tuple[Port, Port]:
    names = ("event-channel-tx", "event-channel-rx")
    if any(own[name] is None for name in names):
        names = ("event-channel", "event-channel")
    tx, rx = (Port(_number(own[name], reading)) for name in names)
    return tx, rx


def _number(text: str | None, reading: str) -> int:
    if text is None:
        raise DeviceFatalError(ENOENT, reading)
    number = queues.decimal(text)
    if number is None or number > _UINT32_MAX:
        raise DeviceFatalError(
            EINVAL, f"{reading}: {text} is not within 0..{_UINT32_MAX}"
        )
    return number
