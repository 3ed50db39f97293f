"""Frames as real stacks send them, built and checked by scapy.

Every address is given: scapy would ask the machine's interfaces and routes.
"""

import struct
from typing import Final

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from tests.native.helpers import NEEDS_CSUM, Vnet

CSUM_OFFSET: Final = {6: 16, 17: 6}
ETHER: Final = Ether(src="00:16:3e:00:00:01", dst="00:16:3e:00:00:02")
IP_LAYER: Final = {
    4: IP(src="10.0.0.1", dst="10.0.0.2"),
    6: IPv6(src="fd00::1", dst="fd00::2"),
}


def payload(length: int, seed: int = 0) -> bytes:
    """Bytes of which no two neighbouring pages are alike."""
    return b"".join(
        struct.pack("<I", (seed * 1000003 + i * 2654435761) % (1 << 32))
        for i in range(length // 4 + 1)
    )[:length]


def plain(length: int = 60, seed: int = 0) -> bytes:
    """A frame of `length` bytes that no stack would parse further."""
    header = bytes.fromhex("00163e000002 00163e000001 88b5")
    return (header + payload(max(length - len(header), 0), seed))[:length]


def tcp(version: int, length: int = 10) -> bytes:
    """A TCP segment with the right checksum, `length` bytes of it data."""
    segment = TCP(sport=1, dport=2, flags="A") / Raw(payload(length))
    return bytes(ETHER / IP_LAYER[version] / segment)


def udp(version: int, length: int = 10) -> bytes:
    return bytes(
        ETHER / IP_LAYER[version] / UDP(sport=1, dport=2) / Raw(payload(length))
    )


def arp() -> bytes:
    return bytes(
        ETHER
        / ARP(
            hwsrc=ETHER.src, psrc="10.0.0.1", hwdst="00:00:00:00:00:00", pdst="10.0.0.2"
        )
    )


def transport(packet: Packet) -> Packet:
    """The TCP or UDP layer."""
    layer: Packet = packet[TCP] if packet.haslayer(TCP) else packet[UDP]
    return layer


def l4_start(frame: bytes) -> int:
    """Where the TCP or UDP header begins."""
    return len(frame) - len(transport(Ether(frame)).original)


def fold(data: bytes) -> int:
    """The one's complement sum of 16-bit words (RFC 1071)."""
    words = struct.unpack(f">{(len(data) + 1) // 2}H", data + bytes(len(data) % 2))
    total: int = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def protocol(frame: bytes) -> int:
    return 6 if transport(Ether(frame)).name == "TCP" else 17


def pseudo_header_sum(frame: bytes) -> int:
    packet, start = Ether(frame), l4_start(frame)
    length = len(frame) - start
    tail = struct.pack(">II", length, protocol(frame))
    if packet.haslayer(IP):
        return fold(bytes(packet[IP].original[12:20]) + tail)
    return fold(bytes(packet[IPv6].original[8:40]) + tail)


def blank(frame: bytes) -> tuple[bytes, Vnet]:
    """The frame as a stack with checksum offload gives it, and its vnet header."""
    start, offset = l4_start(frame), CSUM_OFFSET[protocol(frame)]
    at = start + offset
    blanked = frame[:at] + struct.pack(">H", pseudo_header_sum(frame)) + frame[at + 2 :]
    return blanked, Vnet(NEEDS_CSUM, csum_start=start, csum_offset=offset)


def big_tcp(version: int, length: int, mss: int = 1448) -> tuple[bytes, Vnet]:
    """A frame of `length` bytes to be segmented, and its vnet header."""
    headers = len(tcp(version, 0))
    frame, vnet = blank(tcp(version, length - headers))
    kind = {4: 1, 6: 4}[version]
    return frame, vnet._replace(gso_type=kind, gso_size=mss, hdr_len=headers)


def checksum_is_right(frame: bytes) -> bool:
    """Would a receiver take it? Pseudo-header and segment add up to 0xffff."""
    total = struct.pack(">H", pseudo_header_sum(frame)) + frame[l4_start(frame) :]
    return fold(total) == 0xFFFF


def scapy_checksum(frame: bytes) -> int:
    """The checksum that scapy computes for the frame."""
    packet = Ether(frame)
    del transport(packet).chksum
    checksum: int = transport(Ether(bytes(packet))).chksum
    return checksum
