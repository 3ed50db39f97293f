"""Offload words from TAP to ring and back, for frames of any build; random bytes."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from scapy.layers.inet import IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from tests.native.frames import (
    ETHER,
    IP_LAYER,
    blank,
    checksum_is_right,
    l4_start,
    plain,
)
from tests.native.helpers import EVERYTHING, NEEDS_CSUM, Pair, Received, Vnet
from tests.native.scripted import ScriptedBack, ScriptedFront
from xenvirt.testing.slots import Extra, RxResponse, TxRequest

HEADER_MAX: Final = 256
NO_CSUM: Final = replace(
    EVERYTHING, csum_v4=False, csum_v6=False, gso_tcpv4=False, gso_tcpv6=False
)

ports = st.integers(0, 65535)
ipv4_addresses = st.tuples(*[st.integers(0, 255)] * 4).map(
    lambda octets: ".".join(map(str, octets))
)
ipv6_addresses = st.integers(0, 65535).map(lambda group: f"fd00::{group:x}")


@st.composite
def ethernet(draw: st.DrawFn) -> Packet:
    """Ethernet and up to two VLAN tags, inner or outer kind."""
    packet = Ether(src="00:16:3e:00:00:01", dst="00:16:3e:00:00:02")
    for _ in range(draw(st.integers(0, 2))):
        tag = draw(st.sampled_from([Dot1Q, Dot1AD]))
        packet /= tag(vlan=draw(st.integers(0, 4095)), prio=draw(st.integers(0, 7)))
    return packet


@st.composite
def ipv4(draw: st.DrawFn) -> Packet:
    options = [IPOption(b"\x01") for _ in range(draw(st.integers(0, 40)))]
    return IP(
        src=draw(ipv4_addresses),
        dst=draw(ipv4_addresses),
        tos=draw(st.integers(0, 255)),
        flags=draw(st.sampled_from(["", "DF"])),
        options=options,
    )


def padded(options: int) -> list[Packet]:
    return [PadN(optdata=bytes(options))] if options else []


EXTENSIONS: Final = [
    lambda size: IPv6ExtHdrHopByHop(options=padded(size)),
    lambda size: IPv6ExtHdrDestOpt(options=padded(size)),
    lambda size: IPv6ExtHdrRouting(addresses=["fd00::9"] * (size // 16), segleft=0),
]


@st.composite
def ipv6(draw: st.DrawFn) -> Packet:
    packet = IPv6(src=draw(ipv6_addresses), dst=draw(ipv6_addresses))
    for _ in range(draw(st.integers(0, 3))):
        extension = draw(st.sampled_from(EXTENSIONS))
        packet /= extension(draw(st.integers(0, 40)))
    return packet


@st.composite
def tcp_layer(draw: st.DrawFn) -> Packet:
    options = [("NOP", None)] * draw(st.integers(0, 40))
    flags = draw(st.sampled_from(["S", "A", "PA", "FA"]))
    return TCP(sport=draw(ports), dport=draw(ports), flags=flags, options=options)


@st.composite
def udp_layer(draw: st.DrawFn) -> Packet:
    return UDP(sport=draw(ports), dport=draw(ports))


payloads = st.one_of(
    st.binary(max_size=200), st.integers(0, 60000).map(lambda n: plain(n + 14))
)


@st.composite
def frames(draw: st.DrawFn, *, only_tcp: bool = False) -> bytes:
    layer4 = tcp_layer() if only_tcp else st.one_of(tcp_layer(), udp_layer())
    layer3 = draw(st.one_of(ipv4(), ipv6()))
    return bytes(draw(ethernet()) / layer3 / draw(layer4) / Raw(draw(payloads)))


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Peers that take everything."""
    with ExitStack() as stack:
        yield Pair(stack)


@pytest.fixture(scope="module")
def pair_without_csum() -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(stack, back_takes=NO_CSUM, front_takes=NO_CSUM)


def both_ways(pair: Pair, frame: bytes, vnet: Vnet) -> tuple[Received, Received]:
    """Send a frame from both sides; what came out at the back and at the front."""
    pair.front.tap.send(frame, vnet)
    pair.back.tap.send(frame, vnet)
    pair.run()
    (at_back,), (at_front,) = pair.back.tap.received(), pair.front.tap.received()
    return at_back, at_front


@given(frame=frames())
@settings(max_examples=300)
def test_a_blank_checksum_arrives_blank_and_in_its_place(
    pair: Pair, frame: bytes
) -> None:
    blanked, vnet = blank(frame)
    for received in both_ways(pair, blanked, vnet):
        if l4_start(frame) + 60 <= HEADER_MAX:
            assert received == (vnet, blanked)
        else:  # headers too long to be parsed by the other end: completed instead
            assert received in {(vnet, blanked), (Vnet(), received.frame)}
            assert received.vnet == vnet or checksum_is_right(received.frame)


@given(frame=frames())
@settings(max_examples=300)
def test_a_blank_checksum_arrives_complete_where_it_must(
    pair_without_csum: Pair, frame: bytes
) -> None:
    blanked, vnet = blank(frame)
    for received in both_ways(pair_without_csum, blanked, vnet):
        assert received.vnet == Vnet()
        assert len(received.frame) == len(frame)
        assert checksum_is_right(received.frame)


@given(frame=frames(only_tcp=True), mss=st.integers(48, 65535))
@settings(max_examples=200)
def test_a_gso_frame_arrives_as_it_was(pair: Pair, frame: bytes, mss: int) -> None:
    blanked, vnet = blank(frame)
    headers = l4_start(frame) + 4 * (frame[l4_start(frame) + 12] >> 4)
    kind = 1 if IP in Ether(frame) else 4
    vnet = vnet._replace(gso_type=kind, gso_size=mss, hdr_len=headers)
    if headers <= HEADER_MAX:
        assert both_ways(pair, blanked, vnet) == ((vnet, blanked), (vnet, blanked))


@pytest.mark.parametrize(
    ("layer4", "number", "offset"), [(TCP(), 6, 16), (UDP(), 17, 6)]
)
def test_an_authentication_header_is_counted_in_words(
    pair: Pair, layer4: Packet, number: int, offset: int
) -> None:
    ah = AH(nh=number, payloadlen=4, icv=bytes(12))  # 24 bytes: 4 + 2 words
    frame = bytes(ETHER / IP_LAYER[6] / ah) + bytes(layer4)
    vnet = Vnet(NEEDS_CSUM, csum_start=14 + 40 + 24, csum_offset=offset)
    assert both_ways(pair, frame, vnet) == ((vnet, frame), (vnet, frame))


any_vnet = st.builds(
    Vnet,
    flags=st.integers(0, 255),
    gso_type=st.one_of(st.sampled_from([0, 1, 3, 4, 5, 0x81]), st.integers(0, 255)),
    hdr_len=ports,
    gso_size=ports,
    csum_start=st.one_of(st.integers(0, 100), ports),
    csum_offset=st.one_of(st.integers(0, 20), ports),
)
# Bytes that begin as a frame with IP does get further than bytes that do not.
BEGINNINGS: Final = ["", "0800", "86dd", "8100 0005 0800", "88a8 0001 8100 0002 86dd"]


@st.composite
def random_frames(draw: st.DrawFn) -> bytes:
    beginning = bytes(12) + bytes.fromhex(draw(st.sampled_from(BEGINNINGS)))
    version = draw(st.sampled_from([b"", b"\x45", b"\x4f", b"\x60"]))
    return beginning + version + draw(st.binary(min_size=2, max_size=400))


@given(frame=random_frames(), vnet=any_vnet)
@settings(max_examples=500)
def test_random_bytes_from_a_tap_are_carried_or_dropped(
    pair: Pair, frame: bytes, vnet: Vnet
) -> None:
    pair.front.tap.send(frame, vnet)
    pair.back.tap.send(frame, vnet)
    pair.run()
    at_back, at_front = pair.back.tap.frames(), pair.front.tap.frames()
    assert {len(carried) for carried in at_back + at_front} <= {len(frame)}
    assert both_ways(pair, plain(), Vnet()) == ((Vnet(), plain()),) * 2


extras = st.builds(
    Extra, st.just(1), st.just(0), st.binary(min_size=6, max_size=6)
).filter(lambda extra: extra.payload[:2] != b"\0\0" and extra.payload[2] in (1, 2))


@given(frame=random_frames(), flags=st.integers(0, 3), extra=st.none() | extras)
@settings(max_examples=500)
def test_random_bytes_from_a_ring_are_carried_or_dropped(
    frame: bytes, flags: int, extra: Extra | None
) -> None:
    following = [extra] if extra else []
    flags |= 8 if extra else 0
    with ExitStack() as stack:
        front, back = ScriptedFront(stack), ScriptedBack(stack)
        front.send(
            TxRequest(front.page_with(frame), 0, flags, 0, len(frame)), *following
        )
        back.write_page(0, frame)
        back.respond(RxResponse(0, 0, flags, len(frame)), *following)
        for tap in (front.end.tap, back.end.tap):
            for received in tap.received():
                assert len(received.frame) == len(frame)
                assert received.vnet.csum_start < len(frame)
                assert received.vnet.hdr_len <= len(frame)
        front.send_frame(plain())
        back.deliver(plain())
        assert front.end.tap.frames() == back.end.tap.frames() == [plain()]
