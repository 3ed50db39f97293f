"""Everything that can be seen of a vif: store, event channels, rings, processes.

TX is frontend to backend, RX backend to frontend, in every name.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from xenvirt.abi.ids import DOM0, DomId
from xenvirt.errors import HypercallError
from xenvirt.hypervisor.sync_client import PublishedPage
from xenvirt.toolstack import domains, vif_nodes, vifs, waiting
from xenvirt.toolstack.domains import DomainInfo, EndProcess
from xenvirt.toolstack.host import Connection
from xenvirt.toolstack.vif_nodes import VifPaths
from xenvirt.vif import queue_stats
from xenvirt.vif.features import negotiate

T = TypeVar("T")

_FEATURE_PREFIXES: Final = ("feature-", "request-", "multi-queue-")


@dataclass(frozen=True, slots=True)
class QueueView:
    """One end's half of a queue, as its process publishes it.

    `indices` are that end's private ring indices, free-running modulo 2**32.
    `broken` says why the queue has stopped for good. `rx_stalled`: for want of RX
    buffers the backend has taken the carrier away.
    """

    queue: int
    pid: int
    indices: dict[str, int]
    counters: dict[str, int]
    broken: str | None
    rx_stalled: bool


@dataclass(frozen=True, slots=True)
class EndView:
    """One end of a vif. `keys` is its whole directory, `error` its error node.

    `features` are the keys that it wrote, `takes` what they let the other end send.
    """

    domid: int
    state: str
    state_number: int
    ifname: str | None
    mac: str | None
    process: EndProcess | None
    features: dict[str, str]
    takes: dict[str, bool]
    error: str | None
    queues: list[QueueView]
    keys: dict[str, str]


@dataclass(frozen=True, slots=True)
class ChannelView:
    """An event channel; `back_port` is None while no backend has bound it.

    Unless it `is_seen`, that is not known.
    """

    key: str
    front_port: int
    back_port: int | None
    is_seen: bool


@dataclass(frozen=True, slots=True)
class RingsView:
    """Where a queue's rings are, as the frontend says; None is what it does not."""

    queue: int
    tx_ring_ref: int | None
    rx_ring_ref: int | None


@dataclass(frozen=True, slots=True)
class VifView:
    """A vif. `waiting` says who waits for whom, "" when both ends are Connected.

    `tx_ring_ref` and `rx_ring_ref` are the first queue's; `rings` has all.
    """

    domain: str
    domid: int
    devid: int
    front: EndView
    back: EndView
    mtu: int | None
    bridge: str | None
    script: str | None
    rate: str | None
    tx_ring_ref: int | None
    rx_ring_ref: int | None
    rings: list[RingsView]
    event_channels: list[ChannelView]
    hotplug_status: str | None
    hotplug_error: str | None
    waiting: str
    frontend_path: str
    backend_path: str


def of_domain(host: Connection, domain: DomainInfo) -> list[VifView]:
    """Return all vifs of a domain, in order of devid."""
    return [of_vif(host, domain, p) for p in vifs.list_of(host.store, domain.domid)]


def of_vif(host: Connection, domain: DomainInfo, paths: VifPaths) -> VifView:
    """Return everything that can be seen of one vif; what is missing is None."""
    front = vif_nodes.read_frontend(host.store, paths)
    rings = _rings(front)
    back = vif_nodes.read_directory(host.store, paths.backend)
    progress = waiting.look(host.store, paths)
    pages = _published(host, paths, len(rings))
    back_ifname = back.get("vifname") or _default_ifname(host, paths)
    backend = _find_or_none(host, paths.backend_id)
    return VifView(
        domain=domain.name,
        domid=domain.domid,
        devid=paths.devid,
        front=EndView(
            domid=paths.frontend_id,
            state=progress.front.label,
            state_number=progress.front,
            ifname=front.get("vifname"),
            mac=front.get("mac"),
            process=domain.end("frontend") or _publisher("frontend", pages["front"]),
            features=_features(front),
            takes=_takes(front),
            error=progress.front_error,
            queues=pages["front"],
            keys=front,
        ),
        back=EndView(
            domid=paths.backend_id,
            state=progress.back.label,
            state_number=progress.back,
            ifname=back_ifname,
            mac=_host_mac(paths, back_ifname),
            process=(backend.end("backend") if backend else None)
            or _publisher("backend", pages["back"]),
            features=_features(back),
            takes=_takes(back),
            error=progress.back_error,
            queues=pages["back"],
            keys=back,
        ),
        mtu=_number(front, "mtu"),
        bridge=back.get("bridge"),
        script=back.get("script"),
        rate=back.get("rate"),
        tx_ring_ref=rings[0].tx_ring_ref,
        rx_ring_ref=rings[0].rx_ring_ref,
        rings=rings,
        event_channels=_channels(host, paths, front),
        hotplug_status=progress.hotplug_status,
        hotplug_error=progress.hotplug_error,
        waiting=progress.who_waits(),
        frontend_path=paths.frontend,
        backend_path=paths.backend,
    )


def _default_ifname(host: Connection, paths: VifPaths) -> str | None:
    """Return the interface of a backend that does not tell its name, if it is here."""
    name = host.back_ifname(paths.frontend_id, paths.devid)
    return name if Path(f"/sys/class/net/{name}").exists() else None


def _publisher(role: str, queues: list[QueueView]) -> EndProcess | None:
    """Return the process that shows its queues, where no daemon knows of it."""
    return EndProcess(role, queues[0].pid, 0) if queues else None


def _features(keys: Mapping[str, str]) -> dict[str, str]:
    return {
        key: value for key, value in keys.items() if key.startswith(_FEATURE_PREFIXES)
    }


def _takes(keys: Mapping[str, str]) -> dict[str, bool]:
    return {
        name: value
        for name, value in dataclasses.asdict(negotiate(keys)).items()
        if name != "rx_notify"
    }


def _host_mac(paths: VifPaths, ifname: str | None) -> str | None:
    if paths.backend_id != DOM0 or ifname is None:
        return None
    try:
        return Path(f"/sys/class/net/{ifname}/address").read_text().strip()
    except OSError:
        return None


def _number(keys: Mapping[str, str], key: str) -> int | None:
    """Return a key's number, None for one that is missing or malformed.

    An end may have written anything into its own node.
    """
    text = keys.get(key, "")
    return int(text) if text.isascii() and text.isdigit() else None


def _channels(
    host: Connection, paths: VifPaths, front: Mapping[str, str]
) -> list[ChannelView]:
    ports = _unless_gone(lambda: host.hypervisor.ports(paths.backend_id))
    bound = {
        (port["remote_domid"], port["remote_port"]): int(str(port["port"]))
        for port in ports
    }
    channels = []
    for prefix in vif_nodes.queue_prefixes(front):
        for name in ("event-channel", "event-channel-tx", "event-channel-rx"):
            key = prefix + name
            port = _number(front, key)
            if port is not None:
                back_port = bound.get((paths.frontend_id, port))
                is_seen = host.hypervisor.sees_ports
                channels.append(ChannelView(key, port, back_port, is_seen))
    return channels


def _rings(front: Mapping[str, str]) -> list[RingsView]:
    return [
        RingsView(
            number,
            _number(front, f"{prefix}tx-ring-ref"),
            _number(front, f"{prefix}rx-ring-ref"),
        )
        for number, prefix in enumerate(vif_nodes.queue_prefixes(front))
    ]


def _published(
    host: Connection, paths: VifPaths, nr_queues: int
) -> dict[str, list[QueueView]]:
    """Return the queues that each end shows, less those that an earlier connect had."""
    views: dict[str, list[QueueView]] = {"front": [], "back": []}
    pages = _unless_gone(
        lambda: host.hypervisor.published(paths.frontend_id, paths.devid)
    )
    for page in pages:
        view = _queue_view(page)
        if view.queue < nr_queues:
            views[page.side].append(view)
    return views


def _queue_view(page: PublishedPage) -> QueueView:
    try:
        stats = queue_stats.read(page.fd, page.queue)
    finally:
        os.close(page.fd)
    return QueueView(
        page.queue,
        page.pid,
        stats.indices(),
        stats.counters(),
        stats.broken(),
        stats.rx_stalled(),
    )


def _find_or_none(host: Connection, domid: DomId) -> DomainInfo | None:
    return next((d for d in domains.list_all(host) if d.domid == domid), None)


def _unless_gone(call: Callable[[], list[T]]) -> list[T]:
    try:
        return call()
    except HypercallError as error:
        if error.errno_name != "ESRCH":
            raise
        return []
