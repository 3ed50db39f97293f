"""Threads of C that run queues."""

from xenvirt.native.extension import check, ffi, lib
from xenvirt.native.queue import Queue


class Worker:
    """The thread that runs queues; it sleeps while they have no work."""

    def __init__(self, name: str, *, cpu: int | None = None, poll_us: int = 0) -> None:
        """Start it, on one CPU alone unless that is None.

        `poll_us`: how long, at most, a queue is looked at before the thread sleeps.
        """
        out = ffi.new("struct xv_worker **")
        check(
            lib.xv_worker_create(
                name.encode()[:15], -1 if cpu is None else cpu, poll_us, out
            ),
            "worker thread",
        )
        self._cdata = out[0]

    @property
    def changed_fd(self) -> int:
        """Readable when a queue broke, stalled, is ready again, or settled.

        The worker's own.
        """
        fd: int = lib.xv_worker_changed_fd(self._cdata)
        return fd

    def add(self, queue: Queue) -> None:
        """Hand a queue over; it is the worker's until `remove` returns."""
        check(lib.xv_worker_add(self._cdata, queue.cdata), "worker_add")

    def remove(self, queue: Queue) -> None:
        """Take a queue back; the worker no longer touches it."""
        check(lib.xv_worker_remove(self._cdata, queue.cdata), "worker_remove")

    def set_credit(self, queue: Queue, nr_bytes: int, usec: int) -> None:
        """`Queue.set_credit` for a queue that this worker has."""
        check(
            lib.xv_worker_set_credit(self._cdata, queue.cdata, nr_bytes, usec),
            "worker_set_credit",
        )

    def settle(self, queue: Queue, *, held: bool) -> None:
        """Have a queue read nothing more from its TAP, for good.

        It is `settled` when all that its rings hold now is moved; with `held` a
        backend also waits for the slots of a frame that it holds.
        """
        check(lib.xv_worker_settle(self._cdata, queue.cdata, held), "worker_settle")

    def close(self) -> None:
        """End the thread; every queue must have been removed."""
        if self._cdata is not None:
            lib.xv_worker_destroy(self._cdata)
            self._cdata = None
