"""A dom0 of Xen as commands look at it: xenstored's socket, and what processes show."""

from typing import Final

from xenvirt.abi.ids import DevId, DomId
from xenvirt.errors import NotFoundError
from xenvirt.hypervisor import conventions
from xenvirt.hypervisor.page_links import PageLinks
from xenvirt.hypervisor.sync_client import PublishedPage
from xenvirt.hypervisor.xen import store_path
from xenvirt.toolstack import vif_nodes
from xenvirt.toolstack.host import Connection
from xenvirt.toolstack.rundir import RunDir
from xenvirt.xenstore.errors import StoreConnectionError, StoreNotFoundError
from xenvirt.xenstore.sync_client import SyncClient


class XenLookup:
    """`host.Lookup` on Xen, which tells nobody to what a port is bound."""

    sees_ports: Final = False

    def __init__(self, store: SyncClient, run_dir: RunDir) -> None:
        self._store = store
        self._links = PageLinks(run_dir.path)

    def domain_list(self) -> list[dict[str, object]]:
        """Return every domain that the store knows, without its processes."""
        try:
            names = self._store.ls("/local/domain")
        except StoreNotFoundError:
            names = []
        return [self._domain(domid) for domid in sorted(map(int, names))]

    def ports(self, domid: DomId) -> list[dict[str, object]]:
        """Return nothing."""
        del domid
        return []

    def published(self, domid: DomId, devid: DevId) -> list[PublishedPage]:
        """Return the pages that processes of this run directory show."""
        return [
            PublishedPage(page.side, page.queue, page.pid, page.fd)
            for page in self._links.pages(domid, devid)
        ]

    def close(self) -> None:
        """There is nothing to close."""

    def _domain(self, domid: int) -> dict[str, object]:
        path = f"/local/domain/{domid}"
        vm_path = vif_nodes.read_or_none(self._store, f"{path}/vm") or ""
        return {
            "domid": domid,
            "name": vif_nodes.read_or_none(self._store, f"{path}/name") or str(domid),
            "uuid": vm_path.removeprefix("/vm/"),
            "created": 0.0,
            "ends": [],
        }


def connect_xen(run_dir: RunDir) -> Connection:
    """Connect to xenstored; NotFoundError where it does not run."""
    path = store_path()
    try:
        store = SyncClient(path)
    except StoreConnectionError as error:
        raise NotFoundError(
            f"no xenstored answers on {path}",
            cause="this is no dom0, or Xen's services are not started",
            hint="in a domU: xenvirt frontend; on plain Linux: --hypervisor emulated",
        ) from error
    return Connection(run_dir, XenLookup(store, run_dir), store, conventions.XEN)
