"""The data plane in C, and nothing of it that Python need not see.

The only importer of the extension. Objects here own what C allocated and keep
alive what C points at; C's -errno becomes an OSError, its GNTST_* a GrantError.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

# Spelt as re-exports: tests look at C's declarations through this module.
from xenvirt._native import ffi as ffi
from xenvirt._native import lib as lib
from xenvirt.errors import GrantError, RingIndexError

CAPABILITIES: Final[Mapping[str, int]] = {
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
}
"""Numbers of the capabilities that a process of ours may keep (capability.h)."""


class WritableBuffer(Protocol):
    """Memory such as an mmap object: shared, writable, and of a fixed place."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...


def check(result: int, what: str) -> int:
    """A result of C that is not negative; OSError for -errno, about `what`."""
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
    return result


class OwnPages:
    """Pages of our own that other domains may use, numbered by `frame`."""

    cdata: object

    def page(self, frame: int) -> memoryview:
        """The page, shared with whoever it is granted to; IndexError."""
        page = lib.xv_gnttab_page(self.cdata, frame)
        if page == ffi.NULL:
            raise IndexError(f"no page {frame}")
        return memoryview(ffi.buffer(page, 4096))


class GntallocPages(OwnPages):
    """Pages that Xen granted to one domain, from the start and until `close`."""

    def __init__(self, domid: int, readonly: Sequence[bool]) -> None:
        """One page for each of `readonly`; OSError, ENOSPC when there are no more."""
        out = ffi.new("struct xv_gnttab **")
        grefs = ffi.new("uint32_t[]", len(readonly))
        check(
            lib.xv_gntalloc_create(domid, len(readonly), bytes(readonly), grefs, out),
            "/dev/xen/gntalloc",
        )
        self.cdata = ffi.gc(out[0], lib.xv_gnttab_destroy)
        self.grefs = tuple(grefs)

    def close(self) -> None:
        """End the grants; nobody of ours may touch the pages after it."""
        ffi.release(self.cdata)


class GrantTable(OwnPages):
    """A domain's own grant table, at the start of its memory.

    Keeps `memory` alive. Grefs and frames are the caller's to hand out.
    """

    def __init__(
        self, memory: WritableBuffer, nr_pages: int, nr_grant_frames: int
    ) -> None:
        self._memory = ffi.from_buffer(memory, require_writable=True)
        out = ffi.new("struct xv_gnttab **")
        check(
            lib.xv_gnttab_create(self._memory, nr_pages, nr_grant_frames, out),
            "grant table",
        )
        self.cdata = ffi.gc(out[0], lib.xv_gnttab_destroy)

    def grant(self, gref: int, domid: int, frame: int, *, readonly: bool) -> None:
        """Let `domid` use page `frame`; OSError EINVAL or EBUSY."""
        check(
            lib.xv_gnttab_grant(self.cdata, gref, domid, frame, readonly),
            f"grant {gref} of frame {frame}",
        )

    def end(self, gref: int) -> bool:
        """Take a grant back. False while the other domain still holds the page."""
        result: int = lib.xv_gnttab_end(self.cdata, gref)
        if result == -16:  # EBUSY
            return False
        check(result, f"end of grant {gref}")
        return True


def gnttab_release(memory: WritableBuffer, nr_entries: int, domid: int) -> int:
    """Clear the in-use bits that dead `domid` left; how many entries had some."""
    released: int = lib.xv_gnttab_release(
        ffi.from_buffer(memory, require_writable=True), nr_entries, domid
    )
    return released


class PeerTable:
    """Another domain's grants, as we may use them."""

    cdata: object

    def map(self, gref: int, *, readonly: bool) -> memoryview:
        """Hold the page of `gref` until `unmap`; GrantError says why not."""
        page = ffi.new("void **")
        status: int = lib.xv_gnttab_map(self.cdata, gref, readonly, page)
        if status != 0:
            raise GrantError(f"can't map grant ref {gref}", status)
        return memoryview(ffi.buffer(page[0], 4096))

    def unmap(self, gref: int, *, readonly: bool) -> None:
        """Let go of a page that `map` gave with the same arguments."""
        lib.xv_gnttab_unmap(self.cdata, gref, readonly)


class GntdevTable(PeerTable):
    """The grants of domain `domid`, by Xen; OSError without /dev/xen/gntdev."""

    def __init__(self, domid: int) -> None:
        out = ffi.new("struct xv_gnttab_peer **")
        check(lib.xv_gntdev_create(domid, out), "/dev/xen/gntdev")
        self.cdata = ffi.gc(out[0], lib.xv_gnttab_peer_destroy)

    def close(self) -> None:
        """Let go of all that is mapped; no queue may use it."""
        ffi.release(self.cdata)


class PeerGrantTable(PeerTable):
    """Another domain's grant table, as the domain `domid` may use it.

    `copying` has queues copy payload, as they must on Xen, instead of using it where
    it lies.
    """

    def __init__(
        self,
        memory: WritableBuffer,
        nr_pages: int,
        nr_grant_frames: int,
        domid: int,
        *,
        copying: bool = False,
    ) -> None:
        self._memory = ffi.from_buffer(memory, require_writable=True)
        out = ffi.new("struct xv_gnttab_peer **")
        check(
            lib.xv_gnttab_peer_create(
                self._memory, nr_pages, nr_grant_frames, domid, out
            ),
            "grant table of a peer",
        )
        self.cdata = ffi.gc(out[0], lib.xv_gnttab_peer_destroy)
        lib.xv_gnttab_peer_set_copying(self.cdata, copying)


def evtchn_bind_unbound_port(fd: int, remote_domid: int) -> int:
    """Bind /dev/xen/evtchn to a new port that `remote_domid` may bind; OSError."""
    return check(
        lib.xv_evtchn_bind_unbound_port(fd, remote_domid),
        f"event channel for domain {remote_domid}",
    )


def evtchn_bind_interdomain(fd: int, remote_domid: int, remote_port: int) -> int:
    """Bind /dev/xen/evtchn to a new port, connected to the remote one; OSError."""
    return check(
        lib.xv_evtchn_bind_interdomain(fd, remote_domid, remote_port),
        f"event channel {remote_port} of domain {remote_domid}",
    )


def evtchn_notify(fd: int, port: int) -> None:
    """Make the other end of Xen's event channel pending; OSError."""
    check(lib.xv_evtchn_notify(fd, port), f"notifying by port {port}")


class XsRingPage:
    """The domain's side of its XenStore ring page (xs_wire.h), with barriers."""

    _SERVER_FEATURES: Final = 2064
    _CONNECTION: Final = 2068
    _ERROR: Final = 2072

    def __init__(self, memory: WritableBuffer, offset: int) -> None:
        self._memory = ffi.from_buffer(memory, require_writable=True)
        self._page = self._memory + offset

    def close(self) -> None:
        """Let go of the memory, which could not be unmapped before; no use after it."""
        ffi.release(self._memory)

    def read(self, limit: int) -> bytes:
        """Take up to `limit` bytes that the other side wrote; b"" when empty."""
        data = ffi.new("uint8_t[]", limit)
        n: int = lib.xv_xs_ring_read(self._page, data, limit)
        if n < 0:
            raise RingIndexError("producer and consumer index are too far apart")
        return bytes(ffi.buffer(data, n))

    def write(self, data: bytes | memoryview) -> int:
        """Put as many bytes as there is room for; returns how many."""
        n: int = lib.xv_xs_ring_write(self._page, ffi.from_buffer(data), len(data))
        if n < 0:
            raise RingIndexError("producer and consumer index are too far apart")
        return n

    def _load(self, offset: int) -> int:
        value: int = lib.xv_xs_ring_load(self._page, offset)
        return value

    @property
    def server_features(self) -> int:
        """What the server can do, bits of `ServerFeature`."""
        return self._load(self._SERVER_FEATURES)

    @server_features.setter
    def server_features(self, value: int) -> None:
        lib.xv_xs_ring_store(self._page, self._SERVER_FEATURES, value)

    @property
    def connection(self) -> int:
        """A `RingConnection`."""
        return self._load(self._CONNECTION)

    @connection.setter
    def connection(self, value: int) -> None:
        lib.xv_xs_ring_store(self._page, self._CONNECTION, value)

    @property
    def error(self) -> int:
        """A `RingError`."""
        return self._load(self._ERROR)

    @error.setter
    def error(self, value: int) -> None:
        lib.xv_xs_ring_store(self._page, self._ERROR, value)


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
class Evtchn:
    """One end of an event channel: two eventfds, or Xen's device with one port.

    On Xen `notify_fd` is `pending_fd`. Port 0, which is none of Xen's, means eventfds.
    """

    pending_fd: int
    notify_fd: int
    port: int = 0


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


STATS_SIZE: Final = 4096
"""Bytes of the page that holds a queue's statistics."""


def _counter_names() -> Iterator[str]:
    number = 0
    while (name := lib.xv_counter_name(number)) != ffi.NULL:
        yield ffi.string(name).decode()
        number += 1


COUNTER_NAMES: Final = tuple(_counter_names())


class QueueStats:
    """A queue's counters and ring indices, in a page that others may watch."""

    def __init__(self, page: memoryview | WritableBuffer) -> None:
        self._page = ffi.from_buffer(page)
        self.cdata = ffi.cast("struct xv_queue_stats *", self._page)

    def counters(self) -> dict[str, int]:
        """Every counter by name; TX is frontend to backend."""
        return {
            name: self.cdata.counters[number]
            for number, name in enumerate(COUNTER_NAMES)
        }

    def broken(self) -> str | None:
        """Why the queue stopped for good, as the real drivers word it."""
        reason = self.cdata.broken
        if reason == 0:
            return None
        text = ffi.string(lib.xv_broken_format(reason)).decode()
        arguments = tuple(self.cdata.broken_args)[: text.count("%u")]
        return str(text.replace("%u", "%d") % arguments)

    def indices(self) -> dict[str, int]:
        """The end's private ring indices: requests and responses of each ring."""
        return {
            "tx_req": self.cdata.tx_req,
            "tx_rsp": self.cdata.tx_rsp,
            "rx_req": self.cdata.rx_req,
            "rx_rsp": self.cdata.rx_rsp,
        }


class Queue:
    """One end's half of a TX and an RX ring.

    Owned by the loop, except between `Worker.add` and `Worker.remove`.
    """

    def __init__(self, cdata: object, *keep_alive: object) -> None:
        self.cdata = cdata
        self._keep_alive = keep_alive

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


class Worker:
    """The thread that runs queues; it sleeps while they have no work."""

    def __init__(self, name: str) -> None:
        out = ffi.new("struct xv_worker **")
        check(lib.xv_worker_create(name.encode()[:15], out), "worker thread")
        self._cdata = out[0]

    @property
    def broken_fd(self) -> int:
        """An eventfd, readable when a queue broke. The worker's own."""
        fd: int = lib.xv_worker_broken_fd(self._cdata)
        return fd

    def add(self, queue: Queue) -> None:
        """Hand a queue over; it is the worker's until `remove` returns."""
        check(lib.xv_worker_add(self._cdata, queue.cdata), "worker_add")

    def remove(self, queue: Queue) -> None:
        """Take a queue back; the worker no longer touches it."""
        check(lib.xv_worker_remove(self._cdata, queue.cdata), "worker_remove")

    def close(self) -> None:
        """End the thread; every queue must have been removed."""
        if self._cdata is not None:
            lib.xv_worker_destroy(self._cdata)
            self._cdata = None


def drop_privileges(uid: int, gid: int, capabilities: Sequence[str]) -> None:
    """Become `uid` with nothing but `capabilities`, for good; OSError if refused."""
    mask = sum(1 << CAPABILITIES[name] for name in capabilities)
    check(lib.xv_drop_privileges(uid, gid, mask), f"becoming uid {uid}")


def set_name(name: str) -> None:
    """Be called `name`, cut to 15 bytes, where `ps -e` and top show it."""
    check(lib.xv_set_name(name.encode()[:15]), "process name")


def set_parent_death_signal(signal: int) -> None:
    """Ask for `signal` when the parent dies; dropping privileges forgets it."""
    check(lib.xv_set_parent_death_signal(signal), "parent death signal")
