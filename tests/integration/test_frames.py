"""Frames through the real pair, both ways, byte for byte.

host: xvif<domid>i0  <-- two processes, two rings -->  xennet0 :domain
"""

import random
from collections.abc import Iterator

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from tests.integration.links import ON_XEN, Link, LinkMaker
from xenvirt.testing.wire import Tap, both_ends

pytestmark = pytest.mark.root

HOST = "02:00:00:00:00:01"
GUEST = "00:16:3e:00:00:01"
BROADCAST = "ff:ff:ff:ff:ff:ff"
MULTICAST = "01:00:5e:00:00:fb"
JUMBO_MTU = 9000
MANY = 1_000 if ON_XEN else 10_000


@pytest.fixture(scope="module")
def link(module_links: LinkMaker) -> Link:
    return module_links.up("frames", f"mtu={JUMBO_MTU}")


@pytest.fixture
def ends(link: Link) -> Iterator[tuple[Tap, Tap]]:
    with both_ends(link.near, link.netns, link.far) as taps:
        yield taps


def ether(dst: str = GUEST, type_: int | None = None) -> Packet:
    header = Ether(src=HOST, dst=dst)
    if type_ is not None:
        header.type = type_
    return header


V4 = IP(src="192.0.2.1", dst="192.0.2.2")
V6 = IPv6(src="2001:db8::1", dst="2001:db8::2")
DATA = Raw(bytes(range(256)) * 4)

KINDS: dict[str, Packet] = {
    "arp": ether(BROADCAST) / ARP(pdst="192.0.2.2", hwsrc=HOST),
    "icmp": ether() / V4 / ICMP() / DATA,
    "icmpv6": ether() / V6 / ICMPv6EchoRequest(data=b"x" * 100),
    "udp": ether() / V4 / UDP(sport=1, dport=2) / DATA,
    "udp with a wrong checksum": ether() / V4 / UDP(chksum=0xBAD) / DATA,
    "udp without a checksum": ether() / V4 / UDP(chksum=0) / DATA,
    "udp over ipv6": ether() / V6 / UDP() / DATA,
    "tcp": ether() / V4 / TCP(flags="PA") / DATA,
    "tcp with a wrong checksum": ether() / V4 / TCP(chksum=0xBAD) / DATA,
    "tcp over ipv6": ether() / V6 / TCP(flags="S") / DATA,
    "ipv4 options": ether() / IP(src="192.0.2.1", dst="192.0.2.2", options=b"\x01" * 8)
    / UDP() / DATA,
    "ipv6 hop-by-hop": ether() / V6 / IPv6ExtHdrHopByHop() / UDP() / DATA,
    "ipv6 fragment": ether() / V6 / IPv6ExtHdrFragment(offset=10, m=1) / DATA,
    "vlan": ether() / Dot1Q(vlan=5) / V4 / UDP() / DATA,
    "double vlan": ether() / Dot1AD(vlan=5) / Dot1Q(vlan=6) / V4 / UDP() / DATA,
    "unknown ethertype": ether(type_=0x88B5) / DATA,
    "broadcast": ether(BROADCAST) / V4 / UDP() / DATA,
    "multicast": ether(MULTICAST) / V4 / UDP(dport=5353) / DATA,
    "truncated ip": ether(type_=0x0800) / Raw(b"\x45\x00"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("towards", ["domain", "host"])
def test_a_frame_arrives_as_it_was_sent(
    ends: tuple[Tap, Tap], kind: str, towards: str
) -> None:
    near, far = ends if towards == "domain" else ends[::-1]
    frame = bytes(KINDS[kind])
    near.send(frame)
    assert far.expect(1) == [frame]


@pytest.mark.parametrize("towards", ["domain", "host"])
def test_fragments_of_one_datagram_arrive_in_order(
    ends: tuple[Tap, Tap], towards: str
) -> None:
    near, far = ends if towards == "domain" else ends[::-1]
    packets = fragment(V4 / UDP() / Raw(b"f" * 20000), fragsize=1400)
    frames = [bytes(ether() / packet) for packet in packets]
    for frame in frames:
        near.send(frame)
    assert far.expect(len(frames)) == frames


SIZES = [14, 15, 59, 60, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1513, 1514, 1515,
         4081, 4082, 4095, 4096, 4097, 8191, 8192, 8193, 9013, 9014]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("towards", ["domain", "host"])
def test_every_size_arrives_whole(
    ends: tuple[Tap, Tap], size: int, towards: str
) -> None:
    near, far = ends if towards == "domain" else ends[::-1]
    frame = (bytes(ether(type_=0x88B5)) + random.Random(size).randbytes(size))[:size]
    near.send(frame)
    assert far.expect(1) == [frame]


@pytest.mark.parametrize("towards", ["domain", "host"])
def test_many_frames_arrive_in_order(ends: tuple[Tap, Tap], towards: str) -> None:
    near, far = ends if towards == "domain" else ends[::-1]
    rng = random.Random(towards)
    header = bytes(ether(type_=0x88B5))
    window = 100
    for first in range(0, MANY, window):
        frames = [
            header + number.to_bytes(4) + rng.randbytes(rng.randrange(JUMBO_MTU - 4))
            for number in range(first, first + window)
        ]
        for frame in frames:
            near.send(frame)
        assert far.expect(window) == frames
