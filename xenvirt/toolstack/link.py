"""A link in one step: a domain, a vif, and addresses at both of its ends."""

import contextlib
import fcntl
import os
import select
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from xenvirt.abi.ids import DOM0
from xenvirt.errors import (
    LocalError,
    NotFoundError,
    StateTimeoutError,
    UsageError,
)
from xenvirt.netdev.operstate import wait_until_up
from xenvirt.toolstack import domains, vif_nodes, vifs, waiting
from xenvirt.toolstack.domains import DomainInfo
from xenvirt.toolstack.host import Connection, Host, connect
from xenvirt.toolstack.rundir import RunDir
from xenvirt.toolstack.vif_nodes import VifPaths
from xenvirt.toolstack.vifspec import VifSpec
from xenvirt.xenstore.errors import (
    StoreBusyError,
    StoreIOError,
    StoreUncertainError,
)

if TYPE_CHECKING:
    from xenvirt.netdev.addresses import Interface

STOP_TIMEOUT_S: Final = 30.0
"""More than every end of a daemon takes to leave."""

DEFAULT_NAME: Final = "link"

_ADDRESS_LOCK: Final = Path("/run/xenvirt-addresses.lock")
"""Of the host and not of a run directory: all of them share its addresses."""

_SWITCH_INTERVAL_S: Final = 0.0005

_SENDS_S: Final = 2.0
"""Linux delays what a carrier's change brings with it by a second at most, and its own
work; nobody's first frame is worth a longer wait."""


@dataclass(frozen=True, slots=True)
class Request:
    """What `up` was asked for; no addresses means: choose some.

    `name` None takes the first of link0, link1, … that is free.
    """

    name: str | None
    spec: VifSpec
    front_addresses: tuple[str, ...] = ()
    back_addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Link:
    """A link that is up; `connected_s` is how long its ends took."""

    domain: DomainInfo
    paths: VifPaths
    front_ifname: str
    back_ifname: str
    front_addresses: tuple[str, ...]
    back_addresses: tuple[str, ...]
    connected_s: float


def check(request: Request) -> None:
    """Raise UsageError for what cannot be meant, before anything is made."""
    if request.name is not None:
        domains.check_new_name(request.name)
    if request.spec.bridge is not None and request.back_addresses:
        raise UsageError(
            "--peer-ip and bridge= exclude each other",
            cause="a port of a bridge has no address of its own",
            hint=f"give the address to the bridge {request.spec.bridge}",
        )
    if request.front_addresses or request.back_addresses:
        _parse_addresses(request)


def up(
    host: Host,
    request: Request,
    *,
    started: float,
    timeout_s: float,
    on_event: waiting.OnEvent = waiting.no_event,
) -> Link:
    """Make a link; return when both ends are Connected and have their addresses.

    `started` (monotonic seconds) is what `connected_s` counts from. Errors of
    `domains.create` and `vifs.attach`, and of a name that is taken; nothing is left.
    """
    with contextlib.ExitStack() as undo:
        domain = _create(host, request.name)
        undo.callback(domains.destroy, host, domain, timeout_s=vifs.CLOSE_TIMEOUT_S)
        paths = vifs.write(host, domains.plan_vif(host, domain, request.spec))
        with _netlink_ready():
            vifs.connect(host, paths, timeout_s=timeout_s, on_event=on_event)
            connected_s = time.monotonic() - started
        link = configure(host, domain, paths, request, connected_s)
        undo.pop_all()
    return link


def down(host: Host, name: str, *, timeout_s: float) -> bool:
    """Take down the domain of that name or number; False if it is gone already."""
    try:
        domain = domains.find(host, name)
    except NotFoundError:
        return False
    domains.destroy(host, domain, timeout_s=timeout_s)
    return True


def down_all(host: Host, *, timeout_s: float) -> list[str]:
    """Take down every domain but the host; return their names."""
    found = [d for d in domains.list_all(host) if d.domid != DOM0]
    for domain in found:
        domains.destroy(host, domain, timeout_s=timeout_s)
    return [domain.name for domain in found]


def stop_daemon(run_dir: RunDir) -> int | None:
    """Have the daemon take everything down; return its pid when it has ended.

    None if there is none.
    """
    try:
        host = connect(run_dir)
    except NotFoundError:
        return None
    with host:
        pid = host.hypervisor.shutdown()
    wait_for_end(pid)
    return pid


def update_daemon(host: Host, *, timeout_s: float, force: bool) -> None:
    """Have the daemon go on with the code that is on disk now.

    StateTimeoutError when transactions are open after `timeout_s`, unless `force`
    aborts them; LocalError when that code does not start.
    """
    log = host.run_dir.log
    try:
        host.store.control(
            "live-update", "-s", "-t", str(int(timeout_s)), *(["-F"] if force else [])
        )
    except StoreBusyError as error:
        raise StateTimeoutError(
            f"the daemon was not updated within {timeout_s:g} s",
            cause="a client keeps a transaction open, or another update is under way",
            hint="xenvirt daemon live-update --force aborts transactions",
        ) from error
    except StoreIOError as error:
        raise LocalError(
            "the daemon was not updated",
            cause="the code on disk cannot be loaded",
            hint=f"see {log}",
        ) from error
    except StoreUncertainError as error:
        raise LocalError(
            "the daemon died while it was updated",
            cause="it was started again, with everything that it had",
            hint=f"see {log}",
        ) from error


def wait_for_end(pid: int) -> None:
    """Wait until a process has ended, whoever's child it is.

    StateTimeoutError when it has not after STOP_TIMEOUT_S.
    """
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not select.select([fd], [], [], STOP_TIMEOUT_S)[0]:
            raise StateTimeoutError(
                f"the daemon, process {pid}, did not end in {STOP_TIMEOUT_S:g} s",
                hint=f"kill -9 {pid}; the next command then cleans up",
            )
    finally:
        os.close(fd)


def _create(host: Host, name: str | None) -> DomainInfo:
    if name is not None:
        return domains.create(host, name)
    taken = {domain.name for domain in domains.list_all(host)}
    number = 0
    while True:
        candidate = f"{DEFAULT_NAME}{number}"
        number += 1
        if candidate in taken:
            continue
        try:
            return domains.create(host, candidate)
        except domains.NameTakenError:
            continue


@contextlib.contextmanager
def _netlink_ready() -> Iterator[None]:
    """Import pyroute2 while the block waits for others, and have it at its end."""
    thread = threading.Thread(target=_import_netlink, name="import")
    interval_s = sys.getswitchinterval()
    # The block wakes up for an instant now and then, and should not wait for the
    # other thread's turn to end.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        sys.setswitchinterval(interval_s)


def _import_netlink() -> None:
    from xenvirt.netdev import addresses, links, namespaces  # noqa: F401

    # Netlink's own import is put off to its first use.
    links.get("lo")


def configure(
    host: Connection,
    domain: DomainInfo,
    paths: VifPaths,
    request: Request,
    connected_s: float,
) -> Link:
    """Give the interfaces of a vif that is Connected their addresses.

    Returns when Linux sends by them, or will not: a script may have left one down.
    """
    front_ifname = _ifname(host, paths.frontend, f"xennet{paths.devid}")
    default = host.back_ifname(paths.frontend_id, paths.devid)
    back_ifname = _ifname(host, paths.backend, default)
    backend = None
    if paths.backend_id not in (DOM0, paths.frontend_id):
        backend = domains.find(host, str(paths.backend_id)).name
    with _address_lock():
        front, back = _addresses(request)
        _assign(domain.name, front_ifname, front)
        _assign(backend, back_ifname, back)
    for netns, ifname in ((domain.name, front_ifname), (backend, back_ifname)):
        with _inside(netns):
            wait_until_up(ifname, _SENDS_S)
    return Link(
        domain,
        paths,
        front_ifname,
        back_ifname,
        tuple(map(str, front)),
        tuple(map(str, back)),
        connected_s,
    )


def _ifname(host: Connection, directory: str, default: str) -> str:
    return vif_nodes.read_or_none(host.store, f"{directory}/vifname") or default


def _addresses(request: Request) -> tuple[list["Interface"], list["Interface"]]:
    """Return the addresses of the frontend's interface and of the backend's."""
    from xenvirt.netdev.addresses import free_subnet

    if request.front_addresses or request.back_addresses:
        return _parse_addresses(request)
    if request.spec.bridge is not None:
        return [], []
    back, front = free_subnet()
    return [front], [back]


def _parse_addresses(
    request: Request,
) -> tuple[list["Interface"], list["Interface"]]:
    from xenvirt.netdev import addresses

    front = [addresses.parse(a, what="--ip") for a in request.front_addresses]
    back = [addresses.parse(a, what="--peer-ip") for a in request.back_addresses]
    for address in front:
        if address.ip in [other.ip for other in back]:
            raise UsageError(
                f"--ip and --peer-ip are both {address.ip}",
                hint="each end needs an address of its own",
            )
    if request.spec.bridge is None:
        if not back:
            back = [_neighbour(address) for address in front]
        if not front:
            front = [_neighbour(address) for address in back]
    return front, back


def _neighbour(address: "Interface") -> "Interface":
    """Return another host's address in the same network: the lowest."""
    for host in address.network.hosts():
        if host != address.ip:
            return type(address)((host, address.network.prefixlen))
    raise UsageError(
        f"the network of {address} has no other address",
        hint="give both ends one: --ip A/24 --peer-ip B/24",
    )


def _assign(netns: str | None, ifname: str, interfaces: Sequence["Interface"]) -> None:
    from xenvirt.netdev import addresses

    if not interfaces:
        return
    with _inside(netns):
        for interface in interfaces:
            addresses.add(ifname, interface)


def _inside(netns: str | None) -> AbstractContextManager[None]:
    from xenvirt.netdev import namespaces

    return namespaces.inside(netns) if netns else contextlib.nullcontext()


@contextlib.contextmanager
def _address_lock() -> Iterator[None]:
    """Hold off other commands from choosing addresses, whatever their daemon."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(_ADDRESS_LOCK, flags, 0o600)
    except OSError as error:
        raise LocalError(
            f"cannot open {_ADDRESS_LOCK}", cause=error.strerror or ""
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
