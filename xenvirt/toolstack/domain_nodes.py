"""The nodes of a domain, as libxl makes and removes them (libxl_create.c)."""

from dataclasses import dataclass
from typing import Final

from xenvirt.abi.ids import PAGE_SIZE, DomId
from xenvirt.xenstore.errors import StoreNotFoundError
from xenvirt.xenstore.sync_client import SyncNodes

_READABLE: Final = ("cpu", "memory", "device", "control")
_WRITABLE: Final = (
    "control/shutdown",
    "control/feature-poweroff",
    "control/feature-reboot",
    "control/feature-suspend",
    "control/sysrq",
    "device/suspend/event-channel",
    "data",
    "drivers",
    "feature",
    "attr",
    "error",
)


@dataclass(frozen=True, slots=True)
class NewDomain:
    """What the nodes of a domain say; `nr_pages` is the size of its memory."""

    domid: DomId
    name: str
    uuid: str
    nr_pages: int
    store_gfn: int
    store_port: int


def domain_path(domid: DomId) -> str:
    """Where a domain's own nodes are."""
    return f"/local/domain/{domid}"


def libxl_path(domid: DomId) -> str:
    """Where the toolstack keeps its own record of a domain."""
    return f"/libxl/{domid}"


def write(nodes: SyncNodes, domain: NewDomain) -> None:
    """Make a domain's nodes in place of what is there; call it in a transaction."""
    path = domain_path(domain.domid)
    vm_path = f"/vm/{domain.uuid}"
    readable = ["n0", f"r{domain.domid}"]
    writable = [f"n{domain.domid}"]

    _make_anew(nodes, path, readable)
    _make_anew(nodes, vm_path, readable)
    _make_anew(nodes, libxl_path(domain.domid), ["n0"])
    _make(nodes, f"{libxl_path(domain.domid)}/device", ["n0"])
    nodes.write({f"{path}/vm": vm_path, f"{path}/name": domain.name})
    for name in _READABLE:
        _make(nodes, f"{path}/{name}", readable)
    for name in _WRITABLE:
        _make(nodes, f"{path}/{name}", writable)
    nodes.write({f"{vm_path}/uuid": domain.uuid, f"{vm_path}/name": domain.name})

    memory_kib = str(domain.nr_pages * PAGE_SIZE // 1024)
    nodes.write(
        {
            f"{path}/memory/static-max": memory_kib,
            f"{path}/memory/target": memory_kib,
            f"{path}/domid": str(domain.domid),
            f"{path}/store/port": str(domain.store_port),
            f"{path}/store/ring-ref": str(domain.store_gfn),
            f"{path}/cpu/0/availability": "online",
            f"{libxl_path(domain.domid)}/type": "pv",
        }
    )


def remove(nodes: SyncNodes, domid: DomId, uuid: str) -> None:
    """Remove all nodes of a domain; again is harmless. Call it in a transaction."""
    for path in (f"/vm/{uuid}", domain_path(domid), libxl_path(domid)):
        remove_if_there(nodes, path)


def remove_if_there(nodes: SyncNodes, path: str) -> None:
    """Remove a node and all below it, wherever its path ends."""
    try:
        nodes.rm(path)
    except StoreNotFoundError:
        return


def _make_anew(nodes: SyncNodes, path: str, perms: list[str]) -> None:
    remove_if_there(nodes, path)
    _make(nodes, path, perms)


def _make(nodes: SyncNodes, path: str, perms: list[str]) -> None:
    nodes.write({path: ""})
    nodes.set_perms(path, perms)
