"""Raw frames at either end of a link: what goes in, and what really comes out."""

import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Self

from xenvirt.netdev import namespaces

ETH_P_ALL: Final = 3
SOL_PACKET: Final = 263
PACKET_AUXDATA: Final = 8
PACKET_VNET_HDR: Final = 15
PACKET_OUTGOING: Final = 4
SO_RCVBUFFORCE: Final = 33
TP_STATUS_VLAN_VALID: Final = 1 << 4
TP_STATUS_VLAN_TPID_VALID: Final = 1 << 6
RECEIVE_BYTES: Final = 32 << 20

_AUXDATA: Final = struct.Struct("=IIIHHHH")
_VNET: Final = struct.Struct("=BBHHHH")
VNET_NEEDS_CSUM: Final = 1


@dataclass(frozen=True, slots=True)
class Received:
    """A frame as it arrived: its bytes, and what the kernel says is undone."""

    data: bytes
    needs_csum: bool
    gso_type: int


class Tap:
    """A raw socket on one interface, in whatever namespace made it."""

    def __init__(self, ifname: str) -> None:
        self._socket = socket.socket(
            socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)
        )
        self._socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self._socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
        self._socket.bind((ifname, 0))
        self.drain()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, frame: bytes) -> None:
        """Put a frame on the interface as it is."""
        self.send_with(frame, needs_csum=False)

    def send_with(
        self,
        frame: bytes,
        *,
        needs_csum: bool,
        gso_type: int = 0,
        gso_size: int = 0,
        hdr_len: int = 0,
        csum_start: int = 0,
        csum_offset: int = 0,
    ) -> None:
        """Put a frame on the interface, with what a virtio_net_hdr says of it."""
        header = _VNET.pack(
            VNET_NEEDS_CSUM if needs_csum else 0,
            gso_type,
            hdr_len,
            gso_size,
            csum_start,
            csum_offset,
        )
        select.select([], [self._socket], [], 5)
        self._socket.send(header + frame)

    def drain(self) -> None:
        """Forget what has arrived so far."""
        while select.select([self._socket], [], [], 0)[0]:
            self._socket.recv(1)

    def frames(self, timeout_s: float = 5) -> Iterator[Received]:
        """Every frame that arrives from the other end, until none has for a while."""
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], left_s)[0]:
                return
            received = self._receive()
            if received is not None:
                deadline = time.monotonic() + timeout_s
                yield received

    def expect(self, count: int, timeout_s: float = 5) -> list[bytes]:
        """The next `count` frames."""
        frames = []
        for received in self.frames(timeout_s):
            frames.append(received.data)
            if len(frames) == count:
                return frames
        raise AssertionError(f"{len(frames)} of {count} frames came")

    def _receive(self) -> Received | None:
        data, ancillary, _, address = self._socket.recvmsg(
            1 << 17, socket.CMSG_SPACE(_AUXDATA.size)
        )
        if address[2] == PACKET_OUTGOING:
            return None
        flags, gso_type, *_ = _VNET.unpack_from(data)
        frame = data[_VNET.size :]
        for _level, kind, content in ancillary:
            if kind == PACKET_AUXDATA:
                frame = _with_tag(frame, content)
        return Received(frame, bool(flags & VNET_NEEDS_CSUM), gso_type)


def _with_tag(frame: bytes, auxdata: bytes) -> bytes:
    """Put back the VLAN tag that the kernel took out on its way to us."""
    status, *_, tci, tpid = _AUXDATA.unpack_from(auxdata)
    if not status & TP_STATUS_VLAN_VALID:
        return frame
    if not status & TP_STATUS_VLAN_TPID_VALID:
        tpid = 0x8100
    return frame[:12] + struct.pack(">HH", tpid, tci) + frame[12:]


@contextmanager
def both_ends(near: str, netns: str, far: str) -> Iterator[tuple[Tap, Tap]]:
    """A raw socket on `near` here, and one on `far` in the namespace."""
    with namespaces.inside(netns):
        far_tap = Tap(far)
    with far_tap, Tap(near) as near_tap:
        yield near_tap, far_tap
