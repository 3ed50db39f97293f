"""An end's queues, and what C has to know to make one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from xenvirt.native.evtchn import Evtchn
from xenvirt.native.extension import check, ffi, lib
from xenvirt.native.gnttab import OwnPages, PeerTable
from xenvirt.native.queue_stats import QueueStats

UNLIMITED: Final = 2**64 - 1
"""Bytes of credit in each window of a queue without a rate limit."""

NEVER: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class PeerFeatures:
    """What the other end of a vif negotiated that it can take."""

    sg: bool = False
    csum_v4: bool = False
    csum_v6: bool = False
    gso_tcpv4: bool = False
    gso_tcpv6: bool = False
    rx_notify: bool = False


@dataclass(frozen=True, slots=True)
class QueueIO:
    """A queue's descriptors; they stay the caller's and outlive the queue.

    `tx` and `rx` are the same without split event channels.
    """

    tap_fd: int
    tx: Evtchn
    rx: Evtchn


@dataclass(frozen=True, slots=True)
class FrontBuffers:
    """The frontend's granted pages: both rings, and 256 for each direction."""

    tx_ring_frame: int
    rx_ring_frame: int
    tx_grefs: Sequence[int]
    tx_frames: Sequence[int]
    rx_grefs: Sequence[int]
    rx_frames: Sequence[int]


class Queue:
    """One end's half of a TX and an RX ring.

    Owned by the loop, except between `Worker.add` and `Worker.remove`.
    """

    def __init__(self, cdata: object, table: object, stats: QueueStats) -> None:
        self.cdata = cdata
        self.stats = stats
        # Its memory must stay for as long as the queue does.
        self._table = table

    def front_tx(self, budget: int) -> int:
        """Run hop 1, TAP to TX ring; how many frames it moved, at most `budget`."""
        return int(lib.xv_front_tx(self.cdata, budget))

    def back_tx(self, budget: int) -> int:
        """Run hop 2, TX ring to TAP; how many frames it moved."""
        return int(lib.xv_back_tx(self.cdata, budget))

    def back_rx(self, budget: int) -> int:
        """Run hop 3, TAP to RX ring; how many frames it moved."""
        return int(lib.xv_back_rx(self.cdata, budget))

    def front_rx(self, budget: int) -> int:
        """Run hop 4, RX ring to TAP; how many frames it moved."""
        return int(lib.xv_front_rx(self.cdata, budget))

    def tap_ready(self, *, readable: bool = False, writable: bool = False) -> None:
        """Say that the TAP may have a frame, or take one."""
        lib.xv_queue_tap_ready(self.cdata, readable, writable)

    def arm(self) -> bool:
        """Ask to be notified; True when something came, so that hops must run."""
        return bool(lib.xv_queue_arm(self.cdata))

    def set_credit(self, nr_bytes: int, usec: int) -> None:
        """Limit what the frontend sends in each window; a backend's, of no worker.

        `UNLIMITED` bytes are no limit; a window is cut to milliseconds.
        """
        lib.xv_queue_set_credit(self.cdata, nr_bytes, usec)

    def set_rx_timeouts(self, drain_ms: int, stall_ms: int) -> None:
        """How long frames wait for RX buffers; a backend's, of no worker.

        After `drain_ms` they are dropped, and after `stall_ms` the frontend counts as
        stalled (0: never). Nothing changes where it does not notify.
        """
        lib.xv_queue_set_rx_timeouts(self.cdata, drain_ms, stall_ms)

    def set_now(self, now_ms: int) -> None:
        """Say what time it is, ms of the monotonic clock; the worker does it itself."""
        lib.xv_queue_set_now(self.cdata, now_ms)

    def deadline(self) -> int | None:
        """When the hops have to run though nothing wakes them, ms; None: never."""
        deadline: int = lib.xv_queue_deadline(self.cdata)
        return None if deadline == NEVER else deadline

    def close(self) -> None:
        """Free it; a backend unmaps its rings. No worker may have it."""
        if self.cdata is not None:
            lib.xv_queue_destroy(self.cdata)
            self.cdata = None


def _features_struct(features: PeerFeatures) -> object:
    return ffi.new(
        "struct xv_peer_features *",
        {name: getattr(features, name) for name in PeerFeatures.__slots__},
    )


def _io_struct(io: QueueIO) -> object:
    return ffi.new(
        "struct xv_queue_io *",
        {
            "tap_fd": io.tap_fd,
            "tx": (io.tx.pending_fd, io.tx.notify_fd, io.tx.port),
            "rx": (io.rx.pending_fd, io.rx.notify_fd, io.rx.port),
        },
    )


def front_queue(
    io: QueueIO,
    table: OwnPages,
    buffers: FrontBuffers,
    peer: PeerFeatures,
    stats: QueueStats,
) -> Queue:
    """Initialise both rings and post every RX buffer."""
    c_buffers = ffi.new(
        "struct xv_front_buffers *",
        {
            "tx_ring_frame": buffers.tx_ring_frame,
            "rx_ring_frame": buffers.rx_ring_frame,
            "tx_gref": list(buffers.tx_grefs),
            "tx_frame": list(buffers.tx_frames),
            "rx_gref": list(buffers.rx_grefs),
            "rx_frame": list(buffers.rx_frames),
        },
    )
    out = ffi.new("struct xv_queue **")
    check(
        lib.xv_front_queue_create(
            _io_struct(io),
            table.cdata,
            c_buffers,
            _features_struct(peer),
            stats.cdata,
            out,
        ),
        "frontend queue",
    )
    return Queue(out[0], table, stats)


def back_queue(
    io: QueueIO,
    table: PeerTable,
    tx_ring_ref: int,
    rx_ring_ref: int,
    peer: PeerFeatures,
    stats: QueueStats,
) -> Queue:
    """Map both rings and take them up where they are.

    OSError EFAULT when a ring reference cannot be mapped, EIO when a ring's
    indices cannot be.
    """
    out = ffi.new("struct xv_queue **")
    check(
        lib.xv_back_queue_create(
            _io_struct(io),
            table.cdata,
            tx_ring_ref,
            rx_ring_ref,
            _features_struct(peer),
            stats.cdata,
            out,
        ),
        f"mapping shared-frames {tx_ring_ref}/{rx_ring_ref}",
    )
    return Queue(out[0], table, stats)
