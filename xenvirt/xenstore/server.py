"""The store as its clients meet it: Unix sockets and ring pages, in a thread of C."""

import errno
import logging
import os
import socket
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from xenvirt.native.extension import check, ffi, lib
from xenvirt.xenstore.payloads import parse_strings

PAGE_SIZE: Final = 4096

_log = logging.getLogger(__name__)


class UpcallKind(IntEnum):
    """What a request needs somebody else for."""

    INTRODUCE = lib.XV_XENSTORE_INTRODUCE
    """Serve the ring page of `domid`, or begin anew with it."""
    RELEASE = lib.XV_XENSTORE_RELEASE
    """Stop serving the ring page of `domid`."""
    LIVE_UPDATE = lib.XV_XENSTORE_LIVE_UPDATE
    """Replace this process, as `parameters` say."""


class Upcall(NamedTuple):
    """A request that waits for `StoreServer.answer`, and its client with it."""

    conn_id: int
    kind: UpcallKind
    domid: int
    gfn: int
    evtchn: int
    parameters: list[str]


class StoreServer:
    """One store, served by a thread of its own; any thread may call any method.

    What the thread has to say, a domain that broke its ring for one, is logged when
    somebody asks for the next upcall.
    """

    def __init__(self, journal: Path | None = None) -> None:
        """Take up what the file `journal` holds, and keep it there from now on.

        It is made if it is missing; with None nothing outlives the object. OSError:
        EBUSY when another process has it, EILSEQ when it is damaged.
        """
        self._begin(journal, -1)

    @classmethod
    def restore(cls, state_fd: int, journal: Path | None = None) -> "StoreServer":
        """Go on where another process has stopped, with what its `save` returned.

        The descriptors must be as they were there, so that only a process which that
        one has become by execve can do this. Each ring goes on when it is added again.
        `state_fd` stays the caller's. OSError as for the journal; EILSEQ also when
        `state_fd` holds something else.
        """
        server = cls.__new__(cls)
        server._begin(journal, state_fd)
        return server

    def _begin(self, journal: Path | None, state_fd: int) -> None:
        out = ffi.new("struct xv_xenstore **")
        damage = ffi.new("struct xv_xenstore_damage *")
        path = ffi.NULL if journal is None else os.fsencode(journal)
        result = lib.xv_xenstore_create(path, state_fd, out, damage)
        if result == -errno.EILSEQ:
            raise OSError(errno.EILSEQ, _damage(journal, damage))
        check(result, f"XenStore's journal {journal}")
        self._store: Any = out[0]
        self._pages: dict[int, Any] = {}

    def save(self, *, force: bool = False) -> int:
        """Stop, and leave all that is in memory to the process that comes next.

        The result is a descriptor, the caller's, of which the number goes to
        `restore` there; all that it needs is inherited by execve, under the same
        numbers. The ids of connections stay, so that the next process can `answer` the
        request for this. Until then the store does nothing; `resume` goes on.
        OSError EBUSY while a client has a transaction, or waits for another answer:
        nothing has happened, and a moment later it may succeed. With `force`
        transactions do not count, and do not exist for the next process.
        """
        result: int = lib.xv_xenstore_save(self._store, force)
        return check(result, "leaving XenStore's state")

    def resume(self) -> None:
        """Go on after `save`, because there is no next process."""
        check(lib.xv_xenstore_resume(self._store), "going on with XenStore")

    def close(self) -> None:
        """Stop the thread and close every connection; the journal stays."""
        if self._store is not None:
            lib.xv_xenstore_destroy(self._store)
            self._store = None
        for domid in list(self._pages):
            self._let_go(domid)

    def listen(
        self, sock: socket.socket, domid: int = 0, *, privileged: bool = True
    ) -> None:
        """Serve who connects to a listening Unix socket, as domain `domid`.

        The socket is the store's from now on, even if this fails; its file is not.
        """
        check(
            lib.xv_xenstore_listen(self._store, sock.detach(), domid, privileged),
            "listening for XenStore clients",
        )

    def adopt(self, sock: socket.socket, domid: int, *, privileged: bool) -> None:
        """Serve the other end of a connected Unix socket, as domain `domid`.

        The socket is the store's from now on, even if this fails.
        """
        check(
            lib.xv_xenstore_adopt(self._store, sock.detach(), domid, privileged),
            "a XenStore client",
        )

    def trace(self, sock: socket.socket) -> None:
        """Give the trace to whoever connects to a listening Unix socket.

        The socket is the store's from now on. `trace.TraceDecoder` reads what comes;
        a reader that is more than 4 MiB behind loses records.
        """
        check(
            lib.xv_xenstore_trace(self._store, sock.detach()),
            "listening for readers of XenStore's trace",
        )

    def domain_created(self, domid: int) -> None:
        """There is such a domain from now on: permissions may name it."""
        check(lib.xv_xenstore_domain_created(self._store, domid), f"domain {domid}")

    def domain_dead(self, domid: int) -> None:
        """Drop a domain's connections, ring, nodes and rights; @releaseDomain tells."""
        lib.xv_xenstore_domain_dead(self._store, domid)
        self._let_go(domid)

    def is_introduced(self, domid: int) -> bool:
        """Whether INTRODUCE was served for it; after a restart, by the last process."""
        return bool(lib.xv_xenstore_introduced(self._store, domid))

    def sockets_of(self, domid: int) -> int:
        """How many connected sockets speak as `domid`."""
        return int(lib.xv_xenstore_sockets(self._store, domid))

    def domains(self) -> list[int]:
        """The domids that the store knows of, in order.

        They are those of which it was told, or that a node or its permissions name;
        with a journal also those that the last process knew of.
        """
        domids = ffi.new("uint16_t[]", 1 << 16)
        count = lib.xv_xenstore_domains(self._store, domids, len(domids))
        return list(domids[0:count])

    def nodes(self) -> int:
        """How many nodes there are."""
        return int(lib.xv_xenstore_nodes(self._store))

    def add_ring(
        self,
        domid: int,
        page: memoryview,
        event_fd: int,
        notify_fd: int,
        *,
        served: bool = False,
    ) -> None:
        """Serve a domain's ring page from where its indices are.

        `page` is 4096 writable bytes, in use until `remove_ring`, `domain_dead` or
        `close`. `event_fd` is the eventfd that the domain notifies and `notify_fd`
        the one that notifies it; both stay the caller's. `served`: by a process that
        has died without `save`; a message may be cut there, and the domain's watches
        are gone, so it is told to connect again (error 1). OSError EEXIST when
        the domain has a ring already.
        """
        if len(page) != PAGE_SIZE:
            raise ValueError(f"a ring page of {len(page)} bytes")
        memory = ffi.from_buffer(page, require_writable=True)
        try:
            check(
                lib.xv_xenstore_add_ring(
                    self._store, domid, memory, event_fd, notify_fd, served
                ),
                f"XenStore ring of domain {domid}",
            )
        except OSError:
            ffi.release(memory)
            raise
        self._pages[domid] = memory

    def reset_ring(self, domid: int) -> None:
        """Begin anew with an empty ring: all its indices are 0.

        The domain's watches and transactions there are dropped. OSError ENOENT
        without a ring.
        """
        check(
            lib.xv_xenstore_reset_ring(self._store, domid),
            f"XenStore ring of domain {domid}",
        )

    def remove_ring(self, domid: int) -> None:
        """Leave a domain's page alone; nothing happens if it has no ring."""
        lib.xv_xenstore_remove_ring(self._store, domid)
        self._let_go(domid)

    def _let_go(self, domid: int) -> None:
        # Its memory could not be unmapped before.
        memory = self._pages.pop(domid, None)
        if memory is not None:
            ffi.release(memory)

    @property
    def upcall_fd(self) -> int:
        """Readable when `next_upcall` has something. The store's own."""
        return int(lib.xv_xenstore_upcall_fd(self._store))

    def next_upcall(self) -> Upcall | None:
        """Take what somebody else has to do next; None, and `upcall_fd` is quiet."""
        upcall = ffi.new("struct xv_xenstore_upcall *")
        while lib.xv_xenstore_next_upcall(self._store, upcall):
            text = bytes(ffi.buffer(upcall.text, upcall.text_len))
            if upcall.kind != lib.XV_XENSTORE_LOG:
                return Upcall(
                    upcall.conn_id,
                    UpcallKind(upcall.kind),
                    upcall.domid,
                    upcall.gfn,
                    upcall.evtchn,
                    parse_strings(text),
                )
            _log.warning("%s", text.decode(errors="backslashreplace"))
        return None

    def answer(self, conn_id: int, error: int = 0) -> None:
        """Let the request of an upcall end with success or with an errno.

        Nothing happens if its client has gone.
        """
        lib.xv_xenstore_answer(self._store, conn_id, error)


def _damage(journal: Path | None, damage: Any) -> str:
    if damage.what == ffi.NULL:
        return f"XenStore's journal {journal} or saved state is damaged"
    what = ffi.string(damage.what).decode()
    return f"XenStore's journal {journal} is damaged at byte {damage.at}: {what}"
