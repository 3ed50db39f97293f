"""Xen itself, as an end in dom0, a driver domain or a domU sees it.

Pages come from /dev/xen/gntalloc, others' are used by gntdev, event channels are
evtchn's, and XenStore is xenstored's socket where there is one, else the kernel's
xenbus. No library of Xen's is used.
"""

import errno
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from xenvirt.abi.ids import DevId, DomId, Gref, Port
from xenvirt.hypervisor import claims, conventions, kernel_drivers
from xenvirt.hypervisor.devices import EVTCHN, GNTALLOC, GNTDEV, require_xen
from xenvirt.hypervisor.errnos import refused
from xenvirt.hypervisor.interface import (
    EventChannel,
    GrantedPages,
    Side,
)
from xenvirt.hypervisor.page_links import PageLinks
from xenvirt.hypervisor.xen_channel import XenChannel
from xenvirt.native.gnttab import GntallocPages, GntdevTable, PeerTable
from xenvirt.xenstore.client import Client
from xenvirt.xenstore.errors import StoreConnectionError

log = logging.getLogger(__name__)

XENSTORED_SOCKET: Final = "/run/xenstored/socket"

XENBUS: Final = "/dev/xen/xenbus"
"""The kernel's own way to XenStore, in every domain."""

GNTALLOC_LIMIT: Final = "/sys/module/xen_gntalloc/parameters/limit"

DEVICES: Final = {"backend": (EVTCHN, GNTDEV), "frontend": (EVTCHN, GNTALLOC)}
"""What each end needs."""


def store_path() -> str:
    """Return where xenstored's socket is, where there is one."""
    return os.environ.get("XENSTORED_PATH", XENSTORED_SOCKET)


async def connect_store() -> Client:
    """Connect to XenStore as the own domain; StoreConnectionError."""
    try:
        return await Client.connect_unix(store_path())
    except StoreConnectionError as error:
        if not os.access(XENBUS, os.F_OK):
            raise StoreConnectionError(
                f"no XenStore: no xenstored answers on {store_path()}",
                cause=f"and there is no {XENBUS}",
                hint="systemctl start xenstored, in dom0",
            ) from error
    return await Client.connect_device(XENBUS)


class XenHypervisor:
    """`interface.Hypervisor` on Xen, of the domain in which the process runs.

    `run_dir` is where tools look for statistics pages.
    """

    def __init__(self, domid: DomId, run_dir: Path) -> None:
        self.domid = domid
        self.conventions = conventions.XEN
        self._links = PageLinks(run_dir)
        self._tables: dict[DomId, tuple[GntdevTable, int]] = {}

    @classmethod
    async def open(cls, role: str, run_dir: Path) -> Self:
        """Find out who we are; NotFoundError or NotPermittedError, StoreError.

        `role` is "frontend" or "backend".
        """
        require_xen(*DEVICES[role])
        async with await connect_store() as store:
            return cls(DomId(int(await store.read("domid"))), run_dir)

    def close(self) -> None:
        """Take the statistics pages away from the tools."""
        self._links.remove_all()

    async def open_store(self) -> Client:
        """See `Hypervisor`."""
        return await connect_store()

    def driven_by(self, nodename: str) -> str | None:
        """See `Hypervisor`."""
        return kernel_drivers.driven_by(nodename)

    async def claim(self, nodename: str) -> claims.Claim:
        """See `Hypervisor`."""
        return await claims.claim(self.domid, nodename)

    async def grant(self, domid: DomId, readonly: Sequence[bool]) -> GrantedPages:
        """See `Hypervisor`."""
        try:
            pages = GntallocPages(domid, readonly)
        except OSError as error:
            why = f"{len(readonly)} pages for domain {domid}: {error.strerror}"
            if error.errno == errno.ENOSPC:
                why += f"; gntalloc's limit is raised by: echo 65536 > {GNTALLOC_LIMIT}"
            raise refused(error, why) from error
        grefs = [Gref(gref) for gref in pages.grefs]
        return GrantedPages(pages, grefs, range(len(readonly)))

    def end(self, pages: GrantedPages) -> None:
        """See `Hypervisor`: the kernel waits for the other domain, for each page."""
        assert isinstance(pages.table, GntallocPages)
        pages.table.close()

    async def acquire_table(self, domid: DomId) -> PeerTable:
        """See `Hypervisor`."""
        table, users = self._tables.get(domid, (None, 0))
        if table is None:
            try:
                table = GntdevTable(domid)
            except OSError as error:
                raise refused(error) from error
        self._tables[domid] = table, users + 1
        return table

    def release_table(self, domid: DomId) -> None:
        """See `Hypervisor`."""
        table, users = self._tables.pop(domid)
        if users > 1:
            self._tables[domid] = table, users - 1
        else:
            table.close()

    async def alloc_unbound(self, remote_domid: DomId) -> EventChannel:
        """See `Hypervisor`."""
        return XenChannel.unbound(remote_domid)

    async def bind_interdomain(
        self, remote_domid: DomId, remote_port: Port
    ) -> EventChannel:
        """See `Hypervisor`."""
        return XenChannel.interdomain(remote_domid, remote_port)

    async def close_channel(self, channel: EventChannel) -> None:
        """See `Hypervisor`."""
        assert isinstance(channel, XenChannel)
        channel.close()

    async def publish(
        self, domid: DomId, devid: DevId, side: Side, queue: int, page_fd: int
    ) -> None:
        """See `Hypervisor`: a link in the run directory to the open page."""
        try:
            self._links.add(domid, devid, side, queue, page_fd)
        except OSError as error:
            # The vif works without.
            log.warning("publishing statistics: %s", error)

    async def unpublish(self, domid: DomId, devid: DevId, side: Side) -> None:
        """See `Hypervisor`."""
        self._links.remove(domid, devid, side)
