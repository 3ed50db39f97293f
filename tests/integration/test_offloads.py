"""An end that negotiated less gets only what it can take, with right checksums.

A raw socket hands the kernel one TCP frame in need of segmentation; at the other
end a raw socket shows what crossed the ring, with what was left undone.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.integration.links import Link, LinkMaker
from xenvirt.testing.wire import Received, Tap, both_ends

pytestmark = pytest.mark.root

MTU_FRAME = 1514
MSS = 1400
PAYLOAD = bytes(range(251)) * 100

V4 = Ether(src="02:00:00:00:00:01", dst="00:16:3e:00:00:01") / IP(
    src="192.0.2.1", dst="192.0.2.2"
)
V6 = Ether(src="02:00:00:00:00:01", dst="00:16:3e:00:00:01") / IPv6(
    src="2001:db8::1", dst="2001:db8::2"
)


@dataclass(frozen=True)
class Limited:
    """A link, which of its ends is limited, and how."""

    link: Link
    side: str
    without: frozenset[str]


@pytest.fixture(scope="module", params=["sg", "gso", "csum", "sg/gso/csum"])
def without(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["front", "back"])
def limited(
    request: pytest.FixtureRequest, module_links: LinkMaker, without: str
) -> Iterator[Limited]:
    name = f"{request.param}-{without.replace('/', '-')}"
    link = module_links.up(name, f"x-{request.param}-without={without}")
    yield Limited(link, request.param, frozenset(without.split("/")))
    module_links.down(link)


@pytest.fixture
def towards(limited: Limited) -> Iterator[tuple[Tap, Tap]]:
    """The sending tap, and the one at the end that is limited."""
    link = limited.link
    with both_ends(link.near, link.netns, link.far) as (near, far):
        yield (near, far) if limited.side == "front" else (far, near)


def with_checksums(data: bytes) -> bytes:
    """The frame as it is with every checksum computed."""
    packet = Ether(data)
    for layer in (IP, TCP, UDP):
        if layer in packet:
            del packet[layer].chksum
    return bytes(packet)


def check(received: Received, without: frozenset[str]) -> None:
    if {"sg", "gso", "csum"} & without:
        assert received.gso_type == 0
        assert len(received.data) <= MTU_FRAME
    if "csum" in without:
        assert not received.needs_csum
        assert received.data == with_checksums(received.data)


@pytest.mark.parametrize("headers", [V4, V6], ids=["ipv4", "ipv6"])
def test_a_large_tcp_frame_comes_in_pieces_that_the_peer_takes(
    towards: tuple[Tap, Tap], limited: Limited, headers: Packet
) -> None:
    sender, receiver = towards
    packet = headers / TCP(sport=1, dport=2, flags="A", seq=1000) / Raw(PAYLOAD)
    l4 = len(headers)
    sender.send_with(
        blank(bytes(packet), l4, 16),
        needs_csum=True,
        gso_type=1 if IP in headers else 4,
        gso_size=MSS,
        hdr_len=l4 + 20,
        csum_start=l4,
        csum_offset=16,
    )
    payload = bytearray()
    for received in receiver.frames():
        check(received, limited.without)
        segment = Ether(received.data)[TCP]
        assert segment.seq == 1000 + len(payload)
        payload += bytes(segment.payload)
        if len(payload) >= len(PAYLOAD):
            break
    assert payload == PAYLOAD


@pytest.mark.parametrize("headers", [V4, V6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("length", [1, 2, 99, 1400])
def test_a_blank_checksum_is_completed_where_it_cannot_be_said(
    towards: tuple[Tap, Tap], limited: Limited, headers: Packet, length: int
) -> None:
    sender, receiver = towards
    packet = headers / UDP(sport=1, dport=2) / Raw(PAYLOAD[:length])
    l4 = len(headers)
    sender.send_with(
        blank(bytes(packet), l4, 6), needs_csum=True, csum_start=l4, csum_offset=6
    )
    received = next(receiver.frames())
    check(received, limited.without)
    assert with_checksums(received.data) == bytes(packet)


def blank(frame: bytes, l4: int, csum_offset: int) -> bytes:
    """The frame with only the pseudo-header's sum where its checksum goes."""
    packet = Ether(frame)
    proto = 6 if TCP in packet else 17
    addresses = frame[26:34] if IP in packet else frame[22:54]
    total = proto + len(frame) - l4
    for i in range(0, len(addresses), 2):
        total += int.from_bytes(addresses[i : i + 2])
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    at = l4 + csum_offset
    return frame[:at] + total.to_bytes(2) + frame[at + 2 :]
