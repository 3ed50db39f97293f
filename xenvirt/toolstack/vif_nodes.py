"""The nodes of a vif: keys, permissions and order of writes of libxl.

vif/features.py says who writes the rest. TX is frontend to backend.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from xenvirt.abi.ids import DOM0, DevId, DomId
from xenvirt.abi.netif import MAX_QUEUES_DEFAULT
from xenvirt.abi.xenbus import XenbusState
from xenvirt.toolstack.domain_nodes import domain_path, libxl_path, remove_if_there
from xenvirt.xenstore.errors import StoreNotFoundError
from xenvirt.xenstore.sync_client import SyncNodes

MTU_DEFAULT: Final = 1500
"""Bytes; any other one is also told to the backend."""


@dataclass(frozen=True, slots=True)
class VifPaths:
    """Which vif, and where its nodes are."""

    frontend_id: DomId
    backend_id: DomId
    devid: DevId

    @property
    def frontend(self) -> str:
        """The frontend's directory."""
        return f"{domain_path(self.frontend_id)}/device/vif/{self.devid}"

    @property
    def backend(self) -> str:
        """The backend's directory."""
        return (
            f"{domain_path(self.backend_id)}/backend/vif/"
            f"{self.frontend_id}/{self.devid}"
        )

    @property
    def libxl(self) -> str:
        """The toolstack's own copy, which neither end can change."""
        return f"{libxl_path(self.frontend_id)}/device/vif/{self.devid}"

    @property
    def frontend_error(self) -> str:
        """Where the frontend leaves why it failed."""
        return f"{domain_path(self.frontend_id)}/error/device/vif/{self.devid}/error"

    @property
    def backend_error(self) -> str:
        """Where the backend leaves why it failed."""
        return (
            f"{domain_path(self.backend_id)}/error/backend/vif/"
            f"{self.frontend_id}/{self.devid}/error"
        )


@dataclass(frozen=True, slots=True)
class VifConfig:
    """Everything that a vif's nodes say, with no default left open.

    `rate` is "bytes,usec"; `queues` goes to both ends. Keys that are None are not
    written.
    """

    mac: str
    mtu: int
    script: str
    type: str = "vif"
    trusted: bool = True
    bridge: str | None = None
    vifname: str | None = None
    ip: str | None = None
    gatewaydev: str | None = None
    rate: str | None = None
    vlan: str | None = None
    queues: int | None = None
    front_without: str | None = None
    back_without: str | None = None


def write(nodes: SyncNodes, paths: VifPaths, config: VifConfig) -> None:
    """Write a vif's nodes in place of what is there; call it in a transaction."""
    back = dict(_back_keys(paths, config))

    remove_errors(nodes, paths)
    remove_if_there(nodes, paths.libxl)
    nodes.write(
        {
            f"{paths.libxl}/frontend": paths.frontend,
            f"{paths.libxl}/backend": paths.backend,
        }
    )
    _write_frontend(nodes, paths, config)

    remove_if_there(nodes, paths.backend)
    nodes.mkdir(paths.backend)
    nodes.set_perms(paths.backend, [f"n{paths.backend_id}", f"r{paths.frontend_id}"])
    nodes.write({f"{paths.backend}/{key}": value for key, value in back.items()})

    del back["frontend"]
    nodes.write({f"{paths.libxl}/{key}": value for key, value in back.items()})


def begin_removal(nodes: SyncNodes, paths: VifPaths, *, forced: bool) -> None:
    """Tell the backend to go; in a transaction. `forced`: the frontend's node goes.

    A backend that is Closed already stays so.
    """
    if forced:
        remove_if_there(nodes, paths.frontend)
    try:
        state = XenbusState.parse(nodes.read(f"{paths.backend}/state"))
    except StoreNotFoundError:
        return
    nodes.write({f"{paths.backend}/online": "0"})
    if state is not XenbusState.CLOSED:
        nodes.write({f"{paths.backend}/state": str(int(XenbusState.CLOSING))})


def remove(nodes: SyncNodes, paths: VifPaths) -> None:
    """Remove a vif's nodes and directories that are empty then; in a transaction."""
    _remove_tidily(nodes, paths.frontend, levels=1)
    _remove_tidily(nodes, paths.libxl, levels=1)
    _remove_tidily(nodes, paths.backend, levels=2)
    remove_errors(nodes, paths)


def remove_errors(nodes: SyncNodes, paths: VifPaths) -> None:
    """Remove what either end has left as its error."""
    _remove_tidily(nodes, paths.frontend_error, levels=3)
    # Domain 0's `error` is made by its first error, a guest's with the domain.
    _remove_tidily(
        nodes, paths.backend_error, levels=5 if paths.backend_id == DOM0 else 4
    )


def read_directory(nodes: SyncNodes, path: str) -> dict[str, str]:
    """Return a directory's keys and values; {} if there is none."""
    try:
        names = nodes.ls(path)
    except StoreNotFoundError:
        return {}
    values = {name: read_or_none(nodes, f"{path}/{name}") for name in names}
    return {name: value for name, value in values.items() if value is not None}


def read_frontend(nodes: SyncNodes, paths: VifPaths) -> dict[str, str]:
    """Return the frontend's keys and values, those of its queues as `queue-K/…`."""
    front = read_directory(nodes, paths.frontend)
    for prefix in filter(None, queue_prefixes(front)):
        queue = read_directory(nodes, f"{paths.frontend}/{prefix.rstrip('/')}")
        front |= {prefix + name: value for name, value in queue.items()}
    return front


def queue_prefixes(front: Mapping[str, str]) -> list[str]:
    """Return what stands before each queue's keys: "" for the only one, else queue-K/.

    A frontend may have written anything; more than 8 are not looked for.
    """
    numbered = [
        f"queue-{number}/"
        for number in range(MAX_QUEUES_DEFAULT)
        if f"queue-{number}" in front
    ]
    return numbered or [""]


def read_or_none(nodes: SyncNodes, path: str) -> str | None:
    """Return a node's value, None if there is no such node."""
    try:
        return nodes.read(path)
    except StoreNotFoundError:
        return None


def read_state(nodes: SyncNodes, directory: str) -> XenbusState:
    """Return an end's state; UNKNOWN if its directory is gone."""
    return XenbusState.parse(read_or_none(nodes, f"{directory}/state"))


def _write_frontend(nodes: SyncNodes, paths: VifPaths, config: VifConfig) -> None:
    own = [f"n{paths.frontend_id}", f"r{paths.backend_id}"]
    remove_if_there(nodes, paths.frontend)
    nodes.mkdir(paths.frontend)
    nodes.set_perms(paths.frontend, own)
    nodes.write({f"{paths.frontend}/backend": paths.backend})
    for key, value in _front_keys(paths, config):
        nodes.write({f"{paths.frontend}/{key}": value})
        nodes.set_perms(f"{paths.frontend}/{key}", own)
    # The frontend may read it and not write: it is the host's to say.
    nodes.write({f"{paths.frontend}/mtu": str(config.mtu)})
    nodes.set_perms(
        f"{paths.frontend}/mtu", [f"n{paths.backend_id}", f"r{paths.frontend_id}"]
    )


def _front_keys(paths: VifPaths, config: VifConfig) -> Iterator[tuple[str, str]]:
    yield "backend-id", str(paths.backend_id)
    yield "state", str(int(XenbusState.INITIALISING))
    yield "handle", str(paths.devid)
    yield "mac", config.mac
    yield "trusted", str(int(config.trusted))
    yield from _own_keys(config)
    if config.front_without is not None:
        yield "x-without", config.front_without


def _back_keys(paths: VifPaths, config: VifConfig) -> Iterator[tuple[str, str]]:
    yield "frontend", paths.frontend
    yield "frontend-id", str(paths.frontend_id)
    yield "online", "1"
    yield "state", str(int(XenbusState.INITIALISING))
    yield "script", config.script
    if config.vifname is not None:
        yield "vifname", config.vifname
    yield "mac", config.mac
    for key in ("ip", "gatewaydev", "rate"):
        value: str | None = getattr(config, key)
        if value is not None:
            yield key, value
    if config.mtu != MTU_DEFAULT:
        yield "mtu", str(config.mtu)
    for key in ("vlan", "bridge"):
        value = getattr(config, key)
        if value is not None:
            yield key, value
    yield "handle", str(paths.devid)
    yield "type", config.type
    yield from _own_keys(config)
    if config.back_without is not None:
        yield "x-without", config.back_without
    # Empty and not missing: the backend then waits for the script.
    yield "hotplug-status", ""


def _own_keys(config: VifConfig) -> Iterator[tuple[str, str]]:
    """Yield what libxl does not know, and both ends are told."""
    if config.queues is not None:
        yield "x-queues", str(config.queues)


def _remove_tidily(nodes: SyncNodes, path: str, *, levels: int) -> None:
    """Remove a node, then up to `levels` parents as long as they are empty."""
    remove_if_there(nodes, path)
    for _ in range(levels):
        path = path.rpartition("/")[0]
        try:
            if nodes.ls(path):
                return
        except StoreNotFoundError:
            continue
        nodes.rm(path)
