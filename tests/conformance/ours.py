"""Our store in this process, with a hypervisor that knows its domains and no more."""

from __future__ import annotations

import errno
import mmap
import os
import select
import socket
import threading
from typing import TYPE_CHECKING

from tests.conformance.servers import introduce_all
from tests.conformance.table import DOM0, DOMIDS, PRESENT_DOMID, Who
from tests.conformance.wire import RingChannel, SocketChannel, Wire
from xenvirt.xenstore.server import StoreServer, Upcall, UpcallKind

if TYPE_CHECKING:
    from collections.abc import Callable


class Page:
    """A domain's ring page and the two eventfds of its event channel."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 4096)
        flags = os.EFD_NONBLOCK | os.EFD_CLOEXEC
        self.to_server, self.to_domain = os.eventfd(0, flags), os.eventfd(0, flags)

    def notify(self) -> None:
        """The domain sends an event."""
        os.eventfd_write(self.to_server, 1)

    def close(self) -> None:
        """Both ends of the channel are gone; the memory goes with its last user."""
        os.close(self.to_server)
        os.close(self.to_domain)


class OurHypervisor:
    """Domains as far as the store asks for them; each has a ring page if `rings`."""

    def __init__(self, store: StoreServer, *, rings: bool) -> None:
        self.pages: dict[int, Page | None] = {}
        self._store = store
        self._rings = rings
        self._stop = os.eventfd(0)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def create(self, domid: int) -> None:
        """See Hypervisor."""
        self.pages[domid] = Page() if self._rings else None
        self._store.domain_created(domid)

    def destroy(self, domid: int) -> None:
        """See Hypervisor."""
        self._store.domain_dead(domid)
        if page := self.pages.pop(domid):
            page.close()

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._store.upcall_fd, self._stop], [], [])
            if self._stop in ready:
                return
            while upcall := self._store.next_upcall():
                self._store.answer(upcall.conn_id, self._answer(upcall))

    def _answer(self, upcall: Upcall) -> int:
        if upcall.domid not in self.pages:
            return errno.EINVAL
        page = self.pages[upcall.domid]
        if upcall.kind is UpcallKind.RELEASE:
            self._store.remove_ring(upcall.domid)
        elif page is not None:
            try:
                self._store.add_ring(
                    upcall.domid,
                    memoryview(page.memory),
                    page.to_server,
                    page.to_domain,
                )
            except FileExistsError:
                self._store.reset_ring(upcall.domid)
        return 0

    def close(self) -> None:
        """Answer nothing any more."""
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        os.close(self._stop)
        for page in self.pages.values():
            if page:
                page.close()


class OurStore:
    """Our store; domains are connected by ring or by socket."""

    def __init__(self, *, rings: bool) -> None:
        self._store = StoreServer()
        self.hypervisor = OurHypervisor(self._store, rings=rings)
        for domid in (*DOMIDS.values(), PRESENT_DOMID):
            self.hypervisor.create(domid)
        dom0 = self.connect(DOM0)
        introduce_all(dom0)
        dom0.close()

    def connect(self, who: Who) -> Wire:
        """See Server."""
        domid = DOMIDS.get(who, 0)
        if page := self.hypervisor.pages.get(domid):
            return Wire(RingChannel(page.memory, page.to_domain, page.notify))
        ours, theirs = socket.socketpair()
        self._store.adopt(theirs, domid, privileged=domid == 0)
        return Wire(SocketChannel(ours))

    def close(self) -> None:
        """See Server."""
        self.hypervisor.close()
        self._store.close()


def our_stores() -> dict[str, Callable[[], OurStore]]:
    """Both ways in which a domain reaches it."""
    return {
        "ours, domains by socket": lambda: OurStore(rings=False),
        "ours, domains by ring": lambda: OurStore(rings=True),
    }
