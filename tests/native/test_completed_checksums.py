"""A checksum that the TAP left blank, for a peer that wants a complete one."""

from contextlib import ExitStack
from dataclasses import replace
from typing import Protocol

import pytest
from scapy.layers.inet import IP, TCP, UDP, IPOption
from scapy.layers.inet6 import IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from tests.native.frames import (
    ETHER,
    IP_LAYER,
    blank,
    checksum_is_right,
    fold,
    payload,
    scapy_checksum,
    tcp,
    transport,
    udp,
)
from tests.native.helpers import EVERYTHING, NEEDS_CSUM, NO_OFFLOAD, Vnet
from tests.native.scripted import ScriptedBack, ScriptedFront
from xenvirt.native.queue import PeerFeatures
from xenvirt.testing.slots import TxRequest

pytestmark = pytest.mark.usefixtures("payload")

NO_CSUM = replace(
    EVERYTHING, csum_v4=False, csum_v6=False, gso_tcpv4=False, gso_tcpv6=False
)
BLANK_BITS = 2 | 1


class Carry(Protocol):
    """Take a frame from a TAP into a ring; what the ring then says of it."""

    def __call__(
        self, stack: ExitStack, takes: PeerFeatures, frame: bytes, vnet: Vnet
    ) -> tuple[bytes, int, int]: ...


def to_backend(
    stack: ExitStack, takes: PeerFeatures, frame: bytes, vnet: Vnet
) -> tuple[bytes, int, int]:
    back = ScriptedBack(stack, takes)
    back.end.tap.send(frame, vnet)
    back.run_tx()
    (packet,) = back.tx_packets()
    assert isinstance(packet[0], TxRequest)
    filled = back.end.counted("tx_csum_filled")["tx_csum_filled"]
    return back.data(packet), packet[0].flags & BLANK_BITS, filled


def to_frontend(
    stack: ExitStack, takes: PeerFeatures, frame: bytes, vnet: Vnet
) -> tuple[bytes, int, int]:
    front = ScriptedFront(stack, takes)
    front.post(20)
    front.end.tap.send(frame, vnet)
    front.run_rx()
    (received,) = front.rx_frames()
    filled = front.end.counted("rx_csum_filled")["rx_csum_filled"]
    return received.data, received.slots[0].flags & BLANK_BITS, filled


@pytest.fixture(params=[to_backend, to_frontend], ids=["TX", "RX"])
def carry(request: pytest.FixtureRequest) -> Carry:
    chosen: Carry = request.param
    return chosen


def assert_completed(carry: Carry, stack: ExitStack, frame: bytes) -> None:
    blanked, vnet = blank(frame)
    data, flags, filled = carry(stack, NO_CSUM, blanked, vnet)
    assert (flags, filled) == (0, 1)
    assert len(data) == len(frame)
    assert checksum_is_right(data)
    assert transport(Ether(data)).chksum == (scapy_checksum(frame) or 0xFFFF)


@pytest.mark.parametrize("build", [tcp, udp])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 1400, 1401])
def test_it_is_what_scapy_computes(
    carry: Carry, stack: ExitStack, build: type, version: int, length: int
) -> None:
    assert_completed(carry, stack, build(version, length))


@pytest.mark.parametrize("length", [4095, 4096, 4097, 8192 + 1, 65535])
@pytest.mark.parametrize("build", [tcp, udp])
def test_it_adds_up_over_several_pages(
    carry: Carry, stack: ExitStack, build: type, length: int
) -> None:
    assert_completed(carry, stack, build(4, length - len(build(4, 0))))


STACKED: dict[str, Packet] = {
    "VLAN": ETHER / Dot1Q(vlan=5) / IP_LAYER[4] / TCP(),
    "QinQ": ETHER / Dot1AD(vlan=2) / Dot1Q(vlan=5) / IP_LAYER[6] / UDP(),
    "IPv4 options": ETHER
    / IP(src="10.0.0.1", dst="10.0.0.2", options=[IPOption(b"\x01" * 8)])
    / UDP(),
    "TCP options": ETHER / IP_LAYER[6] / TCP(options=[("Timestamp", (1, 2))]),
    "IPv6 headers": ETHER
    / IP_LAYER[6]
    / IPv6ExtHdrHopByHop()
    / IPv6ExtHdrDestOpt()
    / TCP(),
}


@pytest.mark.parametrize("headers", STACKED.values(), ids=STACKED)
@pytest.mark.parametrize("length", [40, 41])
def test_it_is_found_below_other_headers(
    carry: Carry, stack: ExitStack, headers: Packet, length: int
) -> None:
    assert_completed(carry, stack, bytes(headers / Raw(payload(length))))


def test_a_udp_sum_of_zero_is_sent_as_its_other_form(
    carry: Carry, stack: ExitStack
) -> None:
    """0 would say that there is none (RFC 768)."""
    frame = udp(4, 2)
    missing = scapy_checksum(frame[:-2] + b"\0\0")
    frame = frame[:-2] + missing.to_bytes(2, "big")
    blanked, vnet = blank(frame)
    data, _, _ = carry(stack, NO_CSUM, blanked, vnet)
    assert transport(Ether(data)).chksum == 0xFFFF
    assert checksum_is_right(data)


@pytest.mark.parametrize(("without", "version"), [("csum_v4", 4), ("csum_v6", 6)])
def test_each_ip_version_is_asked_for_by_itself(
    carry: Carry, stack: ExitStack, without: str, version: int
) -> None:
    takes = replace(EVERYTHING, **{without: False})
    blanked, vnet = blank(tcp(version))
    assert carry(stack, takes, blanked, vnet) == (tcp(version), 0, 1)
    other, vnet = blank(tcp(10 - version))
    assert carry(stack, takes, other, vnet) == (other, BLANK_BITS, 0)


@pytest.mark.parametrize("start", [34, 35])
@pytest.mark.parametrize("length", [60, 6001, 12000])
def test_a_place_that_the_peer_would_not_find_is_completed(
    carry: Carry, stack: ExitStack, start: int, length: int
) -> None:
    """SCTP, GRE and the like: netif cannot say where their checksum is."""
    frame = bytes(
        ETHER / IP(src="10.0.0.1", dst="10.0.0.2", proto=47) / Raw(payload(length))
    )
    vnet = Vnet(NEEDS_CSUM, csum_start=start, csum_offset=4)
    data, flags, filled = carry(stack, EVERYTHING, frame, vnet)
    assert (flags, filled) == (0, 1)
    assert data[: start + 4] == frame[: start + 4]
    assert data[start + 6 :] == frame[start + 6 :]
    assert int.from_bytes(data[start + 4 : start + 6], "big") == 0xFFFF - fold(
        frame[start:]
    )


@pytest.mark.parametrize(
    ("start", "offset"), [(70, 0), (69, 0), (0, 69), (65535, 65535)]
)
def test_a_checksum_outside_the_frame_is_refused(
    stack: ExitStack, start: int, offset: int
) -> None:
    vnet = Vnet(NEEDS_CSUM, csum_start=start, csum_offset=offset)
    back = ScriptedBack(stack)
    back.end.tap.send(tcp(4, 16), vnet)
    back.run_tx()
    assert back.end.all_counted() == {"tx_dropped": 1, "tx_no_offload": 1}
    front = ScriptedFront(stack)
    front.post(20)
    front.end.tap.send(tcp(4, 16), vnet)
    front.run_rx()
    assert front.end.all_counted() == {"rx_dropped": 1, "rx_no_offload": 1}
    assert front.rx_frames() == []


def test_a_complete_checksum_is_left_alone(carry: Carry, stack: ExitStack) -> None:
    assert carry(stack, NO_CSUM, tcp(4), NO_OFFLOAD) == (tcp(4), 0, 0)
