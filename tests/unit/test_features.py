"""What each end writes, and what the other one makes of it."""

import pytest

from xenvirt.native.queue import PeerFeatures
from xenvirt.vif import features

ALL = PeerFeatures(
    sg=True, csum_v4=True, csum_v6=True, gso_tcpv4=True, gso_tcpv6=True, rx_notify=True
)


def test_a_frontend_of_ours_takes_everything() -> None:
    assert features.negotiate(features.front_keys()) == ALL


def test_a_backend_of_ours_takes_everything() -> None:
    backend = features.negotiate({**features.back_keys(), "feature-rx-notify": "1"})
    assert backend == ALL


def test_missing_keys_have_netif_s_defaults() -> None:
    # IPv4 checksum offload is the one feature that is on unless denied.
    assert features.negotiate({}) == PeerFeatures(csum_v4=True)


@pytest.mark.parametrize("value", ["0", "", "2", "yes", "-1", "1x"])
def test_only_1_means_yes(value: str) -> None:
    keys = dict.fromkeys(features.KEYS, value)
    assert features.negotiate(keys) == PeerFeatures(csum_v4=True)


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        ("gso", PeerFeatures(True, True, True, False, False, True)),
        # GSO rides on SG and on a blank checksum.
        ("sg", PeerFeatures(False, True, True, False, False, True)),
        ("csum", PeerFeatures(True, False, False, False, False, True)),
        ("sg/gso/csum", PeerFeatures(rx_notify=True)),
        ("nonsense", ALL),
    ],
)
def test_an_end_can_be_told_to_do_without(without: str, expected: PeerFeatures) -> None:
    keys = features.front_keys(features.parse_without(without))
    assert features.negotiate(keys) == expected


def test_keys_are_written_in_the_real_drivers_order() -> None:
    assert list(features.front_keys()) == [
        "request-rx-copy",
        "feature-rx-notify",
        "feature-sg",
        "feature-gso-tcpv4",
        "feature-gso-tcpv6",
        "feature-ipv6-csum-offload",
    ]
    assert list(features.back_keys()) == [
        "feature-sg",
        "feature-gso-tcpv4",
        "feature-gso-tcpv6",
        "feature-ipv6-csum-offload",
        "feature-rx-copy",
        "feature-xdp-headroom",
        "feature-rx-flip",
        "feature-multicast-control",
        "feature-dynamic-multicast-control",
    ]
    assert features.back_keys_apart(max_queues=4) == {
        "feature-split-event-channels": "1",
        "multi-queue-max-queues": "4",
        "feature-ctrl-ring": "0",
    }
    assert list(features.back_keys_apart()) == [
        "feature-split-event-channels",
        "multi-queue-max-queues",
        "feature-ctrl-ring",
    ]


@pytest.mark.parametrize(
    ("offered", "without", "split"),
    [("1", "", True), ("1", "split", False), ("0", "", False), (None, "", False)],
)
def test_event_channels_are_split_when_both_ends_can(
    offered: str | None, without: str, split: bool
) -> None:
    keys = {features.SPLIT_EVENT_CHANNELS: offered}
    wanted = features.parse_without(without)
    assert features.splits_event_channels(keys, wanted) is split
    told = features.back_keys_apart(features.parse_without("split"))
    assert told[features.SPLIT_EVENT_CHANNELS] == "0"


def test_without_sg_the_mtu_stays_within_a_page() -> None:
    assert features.mtu_limit(PeerFeatures(sg=True)) == 65521
    assert features.mtu_limit(PeerFeatures()) == 1500
