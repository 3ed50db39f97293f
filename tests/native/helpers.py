"""Both ends of a queue in one process: memory, grants, event channel and TAP.

Whatever must be closed goes onto the caller's ExitStack. TX is frontend to
backend, RX backend to frontend.
"""

import mmap
import os
import select
import socket
from contextlib import ExitStack
from struct import Struct
from typing import Final, NamedTuple

from xenvirt.native.evtchn import Evtchn
from xenvirt.native.gnttab import GrantTable, PeerGrantTable
from xenvirt.native.queue import (
    FrontBuffers,
    PeerFeatures,
    Queue,
    QueueIO,
    back_queue,
    front_queue,
)
from xenvirt.native.queue_stats import QueueStats
from xenvirt.testing.pages import Page

PAGE: Final = 4096
BACK_DOMID: Final = 3
RING_SIZE: Final = 256
NR_GRANT_FRAMES: Final = 5
FIRST_GREF: Final = 8
BUDGET: Final = 64

EVERYTHING: Final = PeerFeatures(
    sg=True, csum_v4=True, csum_v6=True, gso_tcpv4=True, gso_tcpv6=True, rx_notify=True
)

VNET: Final = Struct("<BBHHHH")
NEEDS_CSUM: Final = 1
DATA_VALID: Final = 2
GSO_TCPV4: Final = 1
GSO_TCPV6: Final = 4


class Vnet(NamedTuple):
    """A virtio_net_hdr of 10 bytes."""

    flags: int = 0
    gso_type: int = 0
    hdr_len: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0


NO_OFFLOAD: Final = Vnet()


class Received(NamedTuple):
    """What a queue wrote to its TAP."""

    vnet: Vnet
    frame: bytes


def socket_pair(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Two ends, non-blocking, that keep frames apart."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
        stack.enter_context(end)
    return ends


class FakeTap:
    """A socket pair in place of a TAP: one read is one frame."""

    def __init__(self, ends: tuple[socket.socket, socket.socket]) -> None:
        self._queue_end, self._network = ends

    @property
    def fd(self) -> int:
        """The queue's side."""
        return self._queue_end.fileno()

    def send(self, frame: bytes, vnet: Vnet = NO_OFFLOAD) -> None:
        self._network.send(VNET.pack(*vnet) + frame)

    def receive(self, timeout_s: float = 0) -> Received | None:
        """The oldest frame that the queue wrote, or None."""
        readable, _, _ = select.select([self._network], [], [], timeout_s)
        if not readable:
            return None
        data = self._network.recv(1 << 17)
        return Received(Vnet(*VNET.unpack_from(data)), data[VNET.size :])

    def received(self) -> list[Received]:
        """Every frame that the queue wrote."""
        frames = []
        while (one := self.receive()) is not None:
            frames.append(one)
        return frames

    def frames(self) -> list[bytes]:
        return [one.frame for one in self.received()]

    def waiting(self) -> bool:
        """Has the queue not read everything that the network sent?"""
        return bool(select.select([self._queue_end], [], [], 0)[0])

    def writable(self) -> bool:
        """May the queue write?"""
        return bool(select.select([], [self._queue_end], [], 0)[1])

    def fill(self) -> None:
        """Leave the queue no room to write, until `received` takes what is there."""
        while True:
            try:
                self._queue_end.send(bytes(16384))
            except BlockingIOError:
                return


class Link:
    """What both ends of a vif share: the frontend's memory and event channels.

    `copying`: backends copy payload instead of using it where it lies.
    """

    copying = False

    def __init__(self, stack: ExitStack) -> None:
        self.nr_pages = NR_GRANT_FRAMES * 513
        self.map = mmap.mmap(-1, self.nr_pages * PAGE)
        self.memory = memoryview(self.map)
        self.table = GrantTable(self.map, self.nr_pages, NR_GRANT_FRAMES)
        self.peer_table = PeerGrantTable(
            self.map,
            self.nr_pages,
            NR_GRANT_FRAMES,
            BACK_DOMID,
            copying=self.copying,
        )
        self._stack = stack
        self._next_gref = FIRST_GREF
        self._next_frame = NR_GRANT_FRAMES

    def page(self, frame: int) -> memoryview:
        return self.memory[frame * PAGE : (frame + 1) * PAGE]

    def share(self, *, readonly: bool = False) -> Page:
        """Grant a page that nobody used yet."""
        gref, frame = self._next_gref, self._next_frame
        self._next_gref += 1
        self._next_frame += 1
        self.table.grant(gref, BACK_DOMID, frame, readonly=readonly)
        return Page(gref, frame, self.page(frame))

    def entry(self, gref: int) -> memoryview:
        """A grant's entry: flags, domid, frame."""
        return self.memory[8 * gref : 8 * gref + 8]

    def flags(self, gref: int) -> int:
        """The grant entry's flags, in-use bits included."""
        return int.from_bytes(self.memory[8 * gref : 8 * gref + 2], "little")

    def in_use(self) -> list[int]:
        """Every gref that the backend holds now."""
        return [g for g in range(NR_GRANT_FRAMES * 512) if self.flags(g) & 0x18]

    def buffers(self) -> FrontBuffers:
        """Both rings and all buffers, granted."""
        rings = [self.share() for _ in range(2)]
        tx = [self.share(readonly=True) for _ in range(RING_SIZE)]
        rx = [self.share() for _ in range(RING_SIZE)]
        return FrontBuffers(
            tx_ring_frame=rings[0].frame,
            rx_ring_frame=rings[1].frame,
            tx_grefs=[page.gref for page in tx],
            tx_frames=[page.frame for page in tx],
            rx_grefs=[page.gref for page in rx],
            rx_frames=[page.frame for page in rx],
        )


class Channel:
    """A queue's event channel, two eventfds."""

    def __init__(self, stack: ExitStack) -> None:
        self.front, self.back = (os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2))
        stack.callback(os.close, self.front)
        stack.callback(os.close, self.back)

    def front_notified(self) -> bool:
        return self._take(self.front)

    def back_notified(self) -> bool:
        return self._take(self.back)

    def _take(self, fd: int) -> bool:
        try:
            return os.eventfd_read(fd) > 0
        except BlockingIOError:
            return False


class End:
    """One end's queue, its TAP and its statistics."""

    queue: Queue

    def __init__(self, tap: FakeTap) -> None:
        self.tap = tap
        self.stats = QueueStats(mmap.mmap(-1, PAGE))

    def counted(self, *names: str) -> dict[str, int]:
        counters = self.stats.counters()
        return {name: counters[name] for name in names}

    def all_counted(self) -> dict[str, int]:
        """Every counter that is not 0, but those that scheduling changes."""
        ignored = {
            "notify_sent", "wakeups", "spurious_events", "rx_no_slots", "tx_ring_full",
        }  # fmt: skip
        return {
            name: value
            for name, value in self.stats.counters().items()
            if value and name not in ignored
        }


class FrontEnd(End):
    """A real frontend queue."""

    def __init__(
        self,
        stack: ExitStack,
        link: Link,
        channel: Channel,
        back_takes: PeerFeatures = EVERYTHING,
        tap: FakeTap | None = None,
    ) -> None:
        super().__init__(tap or FakeTap(socket_pair(stack)))
        self.buffers = link.buffers()
        evtchn = Evtchn(channel.front, channel.back)
        io = QueueIO(self.tap.fd, evtchn, evtchn)
        self.queue = front_queue(io, link.table, self.buffers, back_takes, self.stats)
        stack.callback(self.queue.close)

        first = self.buffers.tx_grefs[0] - 2
        self.ring_refs = (first, first + 1)


class BackEnd(End):
    """A real backend queue."""

    def __init__(
        self,
        stack: ExitStack,
        link: Link,
        channel: Channel,
        ring_refs: tuple[int, int],
        front_takes: PeerFeatures = EVERYTHING,
        tap: FakeTap | None = None,
    ) -> None:
        super().__init__(tap or FakeTap(socket_pair(stack)))
        evtchn = Evtchn(channel.back, channel.front)
        io = QueueIO(self.tap.fd, evtchn, evtchn)
        self.queue = back_queue(
            io, link.peer_table, *ring_refs, front_takes, self.stats
        )
        stack.callback(self.queue.close)


class Pair:
    """A frontend and a backend queue on the same rings, run by hand."""

    def __init__(
        self,
        stack: ExitStack,
        *,
        back_takes: PeerFeatures = EVERYTHING,
        front_takes: PeerFeatures = EVERYTHING,
        taps: tuple[FakeTap | None, FakeTap | None] = (None, None),
    ) -> None:
        self.link = Link(stack)
        self.channel = Channel(stack)
        self.front = FrontEnd(stack, self.link, self.channel, back_takes, taps[0])
        refs = self.front.ring_refs
        self.back = BackEnd(stack, self.link, self.channel, refs, front_takes, taps[1])

    def run(self) -> None:
        """Run all four hops until none of them moves anything."""
        moved = 1
        while moved:
            for end in (self.front, self.back):
                end.queue.tap_ready(readable=True, writable=True)
            moved = self.front.queue.front_tx(BUDGET)
            moved += self.back.queue.back_tx(BUDGET)
            moved += self.back.queue.back_rx(BUDGET)
            moved += self.front.queue.front_rx(BUDGET)
