"""Vifs: attach, detach, find; what libxl does for them (libxl_device.c)."""

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from xenvirt.abi.ids import DOM0, DevId, DomId
from xenvirt.abi.xenbus import XenbusState
from xenvirt.errors import LocalError, NotFoundError, UsageError, XenvirtError
from xenvirt.netdev import tap
from xenvirt.toolstack import hotplug, vif_nodes, waiting
from xenvirt.toolstack.domain_nodes import remove_if_there
from xenvirt.toolstack.host import Connection
from xenvirt.toolstack.mac import parse_mac, random_mac
from xenvirt.toolstack.vif_nodes import VifConfig, VifPaths
from xenvirt.toolstack.vifspec import DEVID_MAX, VifSpec
from xenvirt.vif.plug import BUILTIN_BRIDGE, BUILTIN_NONE, BUILTINS
from xenvirt.xenstore.errors import StoreNotFoundError
from xenvirt.xenstore.sync_client import SyncNodes

CLOSE_TIMEOUT_S: Final = 10.0
"""LIBXL_DESTROY_TIMEOUT: how long a backend has to become Closed."""

_TIDY_TIMEOUT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A vif that is to be: its configuration, all defaults settled."""

    frontend_id: DomId
    backend_id: DomId
    devid: int | None
    config: VifConfig


def plan(
    spec: VifSpec,
    *,
    frontend_id: DomId,
    backend_id: DomId = DOM0,
    backend_netns: str | None = None,
) -> Plan:
    """Settle what `spec` leaves open, and look for what a vif needs.

    `backend_netns` is the backend domain's namespace, None for the host's, where the
    bridge must be: NotFoundError if it is not. UsageError for a script by path
    elsewhere than on the host, where nobody would run it. Errors of
    `tap.require_driver`.
    """
    tap.require_driver()
    script = spec.script or (BUILTIN_BRIDGE if spec.bridge else BUILTIN_NONE)
    if script not in BUILTINS and backend_id != DOM0:
        raise UsageError(
            f"script={script} cannot run in domain {backend_id}",
            cause="scripts run on the host",
            hint=f"write script={BUILTIN_BRIDGE}, or leave backend= out",
        )
    mtu = spec.mtu or vif_nodes.MTU_DEFAULT
    if script == BUILTIN_BRIDGE:
        if spec.bridge is None:
            raise UsageError(
                f"script={script} has no bridge", hint="write bridge=NAME as well"
            )
        bridge_mtu = _bridge_mtu(spec.bridge, backend_netns)
        mtu = spec.mtu or bridge_mtu
    config = VifConfig(
        mac=spec.mac or random_mac(),
        mtu=mtu,
        script=script,
        trusted=spec.trusted,
        bridge=spec.bridge,
        vifname=spec.vifname,
        ip=spec.ip,
        gatewaydev=spec.gatewaydev,
        rate=_rate(spec),
        vlan=spec.vlan,
        queues=spec.queues,
        front_without=spec.front_without,
        back_without=spec.back_without,
    )
    return Plan(frontend_id, backend_id, spec.devid, config)


def write(host: Connection, planned: Plan) -> VifPaths:
    """Write the vif's nodes, at which both ends begin; return where they are.

    LocalError if the devid is taken.
    """

    tried: list[VifPaths] = []

    def work(nodes: SyncNodes) -> VifPaths:
        for paths in tried:
            # It was done, though the daemon was killed before it said so.
            mac = vif_nodes.read_or_none(nodes, f"{paths.libxl}/mac")
            if mac == planned.config.mac:
                return paths
        devid = _choose_devid(nodes, planned)
        paths = VifPaths(planned.frontend_id, planned.backend_id, devid)
        vif_nodes.write(nodes, paths, planned.config)
        tried.append(paths)
        return paths

    return host.store.transact(work, idempotent=True)


def connect(
    host: Connection,
    paths: VifPaths,
    *,
    timeout_s: float,
    on_event: waiting.OnEvent = waiting.no_event,
) -> None:
    """Wait until both ends are Connected, the hotplug script done on the way.

    Errors of `waiting.until_connected` and `hotplug.run_script`. The vif stays then.
    """
    script = vif_nodes.read_or_none(host.store, f"{paths.backend}/script")
    if script is not None and script not in BUILTINS:
        waiting.until(
            host.store,
            paths,
            lambda progress: progress.back >= XenbusState.INIT_WAIT or progress.failed,
            timeout_s=timeout_s,
            on_event=on_event,
        )
        if vif_nodes.read_state(host.store, paths.backend) is XenbusState.INIT_WAIT:
            _run_script(host, paths, script, "online")
    waiting.until_connected(host.store, paths, timeout_s=timeout_s, on_event=on_event)


def attach(
    host: Connection,
    planned: Plan,
    *,
    timeout_s: float,
    on_event: waiting.OnEvent = waiting.no_event,
) -> VifPaths:
    """Plug a vif into a running domain; return it when both ends are Connected.

    Errors of `write` and `connect`; nothing of the vif is left then.
    """
    paths = write(host, planned)
    try:
        connect(host, paths, timeout_s=timeout_s, on_event=on_event)
    except BaseException:
        remove(host, [paths], forced=True)
        raise
    return paths


def detach(
    host: Connection, paths: VifPaths, *, timeout_s: float = CLOSE_TIMEOUT_S
) -> bool:
    """Unplug a vif; return False if the backend had to be left behind."""
    return remove(host, [paths], forced=False, timeout_s=timeout_s)


def remove_all(
    host: Connection, frontend_id: DomId, *, timeout_s: float = CLOSE_TIMEOUT_S
) -> bool:
    """Unplug all vifs of a domain that goes away, its frontend unasked."""
    return remove(
        host, list_of(host.store, frontend_id), forced=True, timeout_s=timeout_s
    )


def remove(
    host: Connection,
    vifs: Iterable[VifPaths],
    *,
    forced: bool,
    timeout_s: float = CLOSE_TIMEOUT_S,
) -> bool:
    """Tell backends to go, wait, run scripts `offline`, remove the nodes.

    With `forced` the frontends' nodes go first. Returns whether every backend was
    Closed in time; the nodes are removed in either case, and in the end a script's
    error is raised.
    """
    vifs = list(vifs)
    deadline = time.monotonic() + timeout_s
    for paths in vifs:
        host.store.transact(
            partial(vif_nodes.begin_removal, paths=paths, forced=forced),
            idempotent=True,
        )
    closed = [_wait_closed(host, paths, deadline) for paths in vifs]
    failures = []
    for paths in vifs:
        try:
            _run_offline(host, paths)
        except XenvirtError as error:
            failures.append(error)
        host.store.transact(partial(vif_nodes.remove, paths=paths), idempotent=True)
    if failures and not forced:
        raise failures[0]
    return all(closed)


def list_of(nodes: SyncNodes, frontend_id: DomId) -> list[VifPaths]:
    """Return a domain's vifs in order of devid, as the toolstack recorded them."""
    directory = f"/libxl/{frontend_id}/device/vif"
    found = []
    for name in _children(nodes, directory):
        backend = vif_nodes.read_or_none(nodes, f"{directory}/{name}/backend")
        if backend is not None and name.isdigit():
            # /local/domain/B/backend/vif/F/N
            backend_id = DomId(int(backend.split("/")[3]))
            found.append(VifPaths(frontend_id, backend_id, DevId(int(name))))
    return sorted(found, key=lambda paths: paths.devid)


def find(nodes: SyncNodes, frontend_id: DomId, text: str) -> VifPaths:
    """Return the domain's vif with that devid or MAC; NotFoundError, UsageError."""
    vifs = list_of(nodes, frontend_id)
    if ":" in text:
        macs = {
            vif_nodes.read_or_none(nodes, f"{paths.libxl}/mac"): paths for paths in vifs
        }
        found = macs.get(parse_mac(text))
    else:
        found = next((p for p in vifs if str(p.devid) == text), None)
        if found is None and not text.isdigit():
            raise UsageError(
                f"{text!r} is neither a vif's number nor its MAC",
                hint=f"xenvirt network-list {frontend_id} shows all",
            )
    if found is None:
        raise NotFoundError(
            f"domain {frontend_id} has no vif {text}",
            hint=f"xenvirt network-list {frontend_id} shows all",
        )
    return found


def _rate(spec: VifSpec) -> str | None:
    if spec.rate is None:
        return None
    return f"{spec.rate.bytes_per_interval},{spec.rate.interval_usecs}"


def _choose_devid(nodes: SyncNodes, planned: Plan) -> DevId:
    directory = f"/libxl/{planned.frontend_id}/device/vif"
    taken = {int(name) for name in _children(nodes, directory) if name.isdigit()}
    if planned.devid is not None:
        if planned.devid in taken:
            raise LocalError(
                f"domain {planned.frontend_id} has a vif {planned.devid} already",
                hint="leave devid= out for the lowest that is free",
            )
        return DevId(planned.devid)
    return DevId(next(n for n in range(DEVID_MAX + 1) if n not in taken))


def _bridge_mtu(bridge: str, netns: str | None) -> int:
    # Only for a bridge: its import takes as long as the whole handshake.
    from xenvirt.netdev import links, namespaces

    if netns is None:
        return links.require_bridge(bridge).mtu
    with namespaces.inside(netns):
        return links.require_bridge(bridge).mtu


def _wait_closed(host: Connection, paths: VifPaths, deadline: float) -> bool:
    gone = (XenbusState.CLOSED, XenbusState.UNKNOWN)
    closed = waiting.until(
        host.store,
        paths,
        lambda progress: progress.back in gone,
        timeout_s=max(0.0, deadline - time.monotonic()),
    )
    if closed:
        # Like netback, the backend removes it last, when its interface is gone.
        waiting.until(
            host.store,
            paths,
            lambda progress: progress.hotplug_status is None,
            timeout_s=_TIDY_TIMEOUT_S,
        )
    return closed


def _run_offline(host: Connection, paths: VifPaths) -> None:
    script = vif_nodes.read_or_none(host.store, f"{paths.libxl}/script")
    if script is not None and script not in BUILTINS:
        _run_script(host, paths, script, "offline")


def _run_script(
    host: Connection, paths: VifPaths, script: str, action: hotplug.Action
) -> None:
    given = vif_nodes.read_or_none(host.store, f"{paths.backend}/vifname")
    vifname = given or host.back_ifname(paths.frontend_id, paths.devid)
    try:
        with _without_vifname(host, paths, given):
            hotplug.run_script(
                script,
                action,
                domid=paths.frontend_id,
                devid=paths.devid,
                vifname=vifname,
                xenstored_path=str(host.run_dir.xenstored_socket),
                netdev=vif_nodes.read_or_none(
                    host.store, f"{paths.backend}/gatewaydev"
                ),
            )
        _move_stray_mtu(host, paths, vifname)
    except hotplug.HotplugError as error:
        text = vif_nodes.read_or_none(host.store, f"{paths.backend}/hotplug-error")
        raise error.explained(text) from error


@contextlib.contextmanager
def _without_vifname(
    host: Connection, paths: VifPaths, vifname: str | None
) -> Iterator[None]:
    """Hide the interface's name from a script, which would rename to it.

    Linux's scripts know a backend that makes vif1.0, not one that takes the name.
    """
    path = f"{paths.backend}/vifname"
    host.store.transact(partial(remove_if_there, path=path), idempotent=True)
    try:
        yield
    finally:
        if vifname is not None and host.store.exists(paths.backend):
            host.store.write({path: vifname})


def _move_stray_mtu(host: Connection, paths: VifPaths, vifname: str) -> None:
    """Put the MTU that vif-bridge found where it meant to.

    It takes the frontend's numbers from an interface name that it expects to be
    vif1.0, and any other one for a domain's.
    """
    name = vifname.removeprefix("vif")
    domid = name.rpartition(".")[0] or name
    if domid.isdigit():
        return
    stray = f"/local/domain/{domid}"
    devid = name.partition(".")[2] or name
    mtu = vif_nodes.read_or_none(host.store, f"{stray}/device/vif/{devid}/mtu")
    if mtu is not None:
        host.store.write({f"{paths.frontend}/mtu": mtu})
        host.store.rm(stray)


def _children(nodes: SyncNodes, path: str) -> list[str]:
    try:
        return nodes.ls(path)
    except StoreNotFoundError:
        return []
