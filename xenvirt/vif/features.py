"""The features of a vif: who writes which key, and what it means to the other end.

One table, in the order in which the real drivers write (netif.h, xen-netback's
probe, xen-netfront's talk_to_netback). A key that the other end did not write
has the default that netif.h gives it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from xenvirt.abi.netif import NETIF_MAX_MTU
from xenvirt.native.queue import PeerFeatures

ETH_DATA_LEN: Final = 1500
"""The MTU of an end whose peer takes single slots only, as in xen-netfront."""


SPLIT_EVENT_CHANNELS: Final = "feature-split-event-channels"

MAX_QUEUES: Final = "multi-queue-max-queues"
NUM_QUEUES: Final = "multi-queue-num-queues"


@dataclass(frozen=True, slots=True)
class Feature:
    """A key of the negotiation. `back` and `front` are what our ends write, or None.

    `default` is what a reader takes when the key is missing. `group` is what
    `x-front-without` and `x-back-without` call it. `apart`: netback writes it after
    the transaction of the others.
    """

    key: str
    back: str | None
    front: str | None
    default: str
    group: str = ""
    apart: bool = False


FEATURES: Final = (
    Feature("request-rx-copy", None, "1", "0"),
    Feature("feature-rx-notify", None, "1", "0"),
    Feature("feature-sg", "1", "1", "0", "sg"),
    Feature("feature-gso-tcpv4", "1", "1", "0", "gso"),
    Feature("feature-gso-tcpv6", "1", "1", "0", "gso"),
    Feature("feature-ipv6-csum-offload", "1", "1", "0", "csum"),
    Feature("feature-rx-copy", "1", None, "0"),
    Feature("feature-xdp-headroom", "0", None, "0"),
    Feature("feature-rx-flip", "0", None, "0"),
    Feature("feature-multicast-control", "0", None, "0"),
    Feature("feature-dynamic-multicast-control", "0", None, "0"),
    Feature(SPLIT_EVENT_CHANNELS, "1", None, "0", "split", apart=True),
    Feature(MAX_QUEUES, "1", None, "1", apart=True),
    Feature("feature-ctrl-ring", "0", None, "0", apart=True),
)

NO_CSUM_OFFLOAD: Final = "feature-no-csum-offload"
"""Inverted, and written only to say no: IPv4 checksums must be complete."""

GROUPS: Final = ("sg", "gso", "csum", "split")

KEYS: Final = (*(feature.key for feature in FEATURES), NO_CSUM_OFFLOAD)
"""Everything that an end reads of the other one's features."""


def parse_without(text: str | None) -> frozenset[str]:
    """The groups that an end is told to do without, such as `sg/gso`."""
    return frozenset((text or "").split("/")) & frozenset(GROUPS)


def _written(values: Mapping[str, str], without: frozenset[str]) -> dict[str, str]:
    groups = {feature.key: feature.group for feature in FEATURES}
    written = {
        key: "0" if groups[key] in without else value for key, value in values.items()
    }
    if "csum" in without:
        written[NO_CSUM_OFFLOAD] = "1"
    return written


def back_keys(without: frozenset[str] = frozenset()) -> dict[str, str]:
    """What the backend writes before InitWait, in one transaction."""
    values = {f.key: f.back for f in FEATURES if f.back is not None and not f.apart}
    return _written(values, without)


def back_keys_apart(
    without: frozenset[str] = frozenset(), *, max_queues: int = 1
) -> dict[str, str]:
    """What it writes after those, one by one."""
    written = {
        f.key: "0" if f.group in without else f.back for f in FEATURES if f.apart
    }
    written[MAX_QUEUES] = str(max_queues)
    return {key: value for key, value in written.items() if value is not None}


def front_keys(without: frozenset[str] = frozenset()) -> dict[str, str]:
    """What the frontend writes, after rings and event channel, before Connected."""
    values = {f.key: f.front for f in FEATURES if f.front is not None}
    return _written(values, without)


def negotiate(keys: Mapping[str, str | None]) -> PeerFeatures:
    """What the other end can take, from the features that it wrote.

    GSO needs SG and a blank checksum, so it is off without them.
    """
    defaults = {feature.key: feature.default for feature in FEATURES}

    def on(key: str) -> bool:
        value = keys.get(key)
        return (defaults.get(key, "0") if value is None else value).strip() == "1"

    sg = on("feature-sg")
    csum_v4 = not on(NO_CSUM_OFFLOAD)
    csum_v6 = on("feature-ipv6-csum-offload")
    return PeerFeatures(
        sg=sg,
        csum_v4=csum_v4,
        csum_v6=csum_v6,
        gso_tcpv4=sg and csum_v4 and on("feature-gso-tcpv4"),
        gso_tcpv6=sg and csum_v6 and on("feature-gso-tcpv6"),
        rx_notify=on("feature-rx-notify"),
    )


def splits_event_channels(
    keys: Mapping[str, str | None], without: frozenset[str] = frozenset()
) -> bool:
    """Whether a frontend has an event channel for each ring, by the backend's keys."""
    return keys.get(SPLIT_EVENT_CHANNELS) == "1" and "split" not in without


def mtu_limit(peer: PeerFeatures) -> int:
    """The largest MTU whose frames this peer can take."""
    return NETIF_MAX_MTU if peer.sg else ETH_DATA_LEN
