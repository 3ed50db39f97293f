"""Domains: look up, create, destroy."""

import contextlib
import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass

from xenvirt.abi.ids import DOM0, DomId
from xenvirt.errors import HypercallError, LocalError, NotFoundError, UsageError
from xenvirt.hypervisor.domains import DOM0_NAME, check_name
from xenvirt.netdev import namespaces
from xenvirt.toolstack import domain_nodes, vifs
from xenvirt.toolstack.host import Connection, Host
from xenvirt.toolstack.vifspec import VifSpec
from xenvirt.xenstore.errors import StoreNotFoundError


class NameTakenError(LocalError):
    """Another domain, or a network namespace, has the name."""


@dataclass(frozen=True, slots=True)
class EndProcess:
    """A process that serves a domain; `pid` is None while it is started again."""

    role: str
    pid: int | None
    restarts: int


@dataclass(frozen=True, slots=True)
class DomainInfo:
    """A domain; `created` is in seconds since the epoch."""

    domid: DomId
    name: str
    uuid: str
    created: float
    ends: tuple[EndProcess, ...]

    def end(self, role: str) -> EndProcess | None:
        """Return the domain's `frontend` or `backend`, None if it has none."""
        return next((end for end in self.ends if end.role == role), None)


def list_all(host: Connection) -> list[DomainInfo]:
    """Return every domain, by number; domain 0 is the host."""
    return [_info(row) for row in host.hypervisor.domain_list()]


def find(host: Connection, text: str) -> DomainInfo:
    """Return the domain of that name or number; NotFoundError."""
    return find_in(list_all(host), text)


def find_in(domains: list[DomainInfo], text: str) -> DomainInfo:
    """Return the domain of that name or number among `domains`; NotFoundError."""
    for domain in domains:
        if text in (domain.name, str(domain.domid)):
            return domain
    close = difflib.get_close_matches(text, [d.name for d in domains], n=1)
    raise NotFoundError(
        f"there is no domain {text}",
        cause=f"did you mean {close[0]}?" if close else "",
        hint="xenvirt list shows all",
    )


def check_new_name(name: str) -> None:
    """Raise UsageError unless a new domain may have that name."""
    try:
        check_name(name)
    except HypercallError as error:
        raise UsageError(error.why) from error


def create(host: Host, name: str, *, bare: bool = False) -> DomainInfo:
    """Make a domain: processes, memory, nodes, and its way to the store.

    A `bare` one has no processes: the caller is its frontend, or its backend.
    NameTakenError if somebody has the name. When it raises, nothing is left.
    """
    check_new_name(name)
    try:
        made = host.hypervisor.domain_create(name, bare=bare)
    except HypercallError as error:
        taken = _name_taken(host, name)
        if taken is None:
            raise
        raise taken from error
    domid = DomId(_int(made["domid"]))
    with contextlib.ExitStack() as undo:
        info = _created(host, domid)
        undo.callback(_remove_nodes, host, info)
        undo.callback(_destroy_in_hypervisor, host, domid)
        _introduce(host, info, _int(made["store_gfn"]), _int(made["store_port"]))
        undo.pop_all()
    return info


def destroy(host: Host, domain: DomainInfo, *, timeout_s: float) -> None:
    """Take a domain down: its vifs, its processes and memory, its nodes.

    A backend that does not close within `timeout_s` is not waited for. UsageError
    for domain 0. What is gone already is no error.
    """
    if domain.domid == DOM0:
        raise UsageError(f"{domain.name} is the host and cannot be destroyed")
    vifs.remove_all(host, domain.domid, timeout_s=timeout_s)
    # libxl pauses the domain before it takes the nodes away; a frontend that still
    # runs would be left without a store.
    _destroy_in_hypervisor(host, domain.domid)
    _remove_nodes(host, domain)


def plan_vif(host: Host, domain: DomainInfo, spec: VifSpec) -> vifs.Plan:
    """Settle what a vif of `domain` is to be; errors of `vifs.plan`.

    NotFoundError without the domain that `backend=` names.
    """
    if spec.backend in ("0", DOM0_NAME):
        return vifs.plan(spec, frontend_id=domain.domid)
    backend = find(host, spec.backend)
    return vifs.plan(
        spec,
        frontend_id=domain.domid,
        backend_id=backend.domid,
        backend_netns=backend.name,
    )


def resident_kib(host: Connection, domid: DomId) -> int:
    """Return the size of a domain's memory in KiB; the host's own for domain 0."""
    if domid == DOM0:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024
    try:
        return int(host.store.read(f"/local/domain/{domid}/memory/target"))
    except StoreNotFoundError:
        return 0


def _name_taken(host: Host, name: str) -> NameTakenError | None:
    """Return who has a name that could not be had, None if nobody."""
    what = f"the name {name} is taken"
    for domain in list_all(host):
        if domain.name == name:
            return NameTakenError(
                what,
                cause=f"domain {domain.domid} has it",
                hint=f"xenvirt down {name}, or choose another name",
            )
    if namespaces.exists(name):
        return NameTakenError(
            what,
            cause="a network namespace has it that is no domain's of this daemon",
            hint=f"choose another name, or: ip netns delete {name}",
        )
    return None


def _created(host: Host, domid: DomId) -> DomainInfo:
    result, _ = host.hypervisor.call("domain_list", (), first=domid)
    rows = result["domains"]
    assert isinstance(rows, list)
    return _info(rows[0])


def _introduce(host: Host, domain: DomainInfo, store_gfn: int, store_port: int) -> None:
    new = domain_nodes.NewDomain(
        domain.domid,
        domain.name,
        domain.uuid,
        _nr_pages(host, domain.domid),
        store_gfn,
        store_port,
    )
    host.store.transact(lambda nodes: domain_nodes.write(nodes, new), idempotent=True)
    host.store.introduce(domain.domid, store_gfn, store_port)


def _nr_pages(host: Host, domid: DomId) -> int:
    result, fds = host.hypervisor.call("memory", (), domid=domid)
    for fd in fds:
        os.close(fd)
    return _int(result["nr_pages"])


def _remove_nodes(host: Host, domain: DomainInfo) -> None:
    host.store.transact(
        lambda nodes: domain_nodes.remove(nodes, domain.domid, domain.uuid),
        idempotent=True,
    )


def _destroy_in_hypervisor(host: Host, domid: DomId) -> None:
    try:
        host.hypervisor.domain_destroy(domid)
    except HypercallError as error:
        if error.errno_name != "ESRCH":
            raise


def _info(row: Mapping[str, object]) -> DomainInfo:
    ends = row["ends"]
    assert isinstance(ends, list)
    return DomainInfo(
        DomId(_int(row["domid"])),
        str(row["name"]),
        str(row["uuid"]),
        float(str(row["created"])),
        tuple(EndProcess(end["role"], end["pid"], end["restarts"]) for end in ends),
    )


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value
