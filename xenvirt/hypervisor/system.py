"""The emulated machine: domains with their memory, ports and published pages.

It knows no socket. The server asks it on behalf of a caller, the daemon on its own.
All that would be missed after a crash of the daemon has a record with the keeper:

    last                          the domid that was given out last
    domain/DOMID                  name, uuid, times, store's port; its memory
    channel/NUMBER                both ends; two eventfds (evtchn.py)
    session/NAME                  whose ports and pages go with a connection
    mapping/NAME/DOMID/GRANTER    that a session's domain was handed memory
    page/DOMID/DEVID/SIDE/QUEUE   a statistics page (published.py)
"""

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Self

from xenvirt.abi.ids import DOM0, DomId, Port
from xenvirt.errors import HypercallError
from xenvirt.hypervisor.domains import Domain, DomainTable
from xenvirt.hypervisor.evtchn import PortEntry, PortTable
from xenvirt.hypervisor.keeper import Keeper, OwnKeeper, Records
from xenvirt.hypervisor.memory import Memory
from xenvirt.hypervisor.published import PublishedPages
from xenvirt.hypervisor.session import Session
from xenvirt.hypervisor.wire import close_fds

if TYPE_CHECKING:
    from xenvirt.hypervisor.keeper import Value

_NR_FDS: Final = {
    "last": 0, "domain": 1, "channel": 2, "session": 0, "mapping": 0, "page": 1,
}  # fmt: skip
"""Our records, and how many descriptors one has."""

_log = logging.getLogger(__name__)


class System:
    """Every domain and what belongs to it; domain 0 is there from the start.

    `orphans` are the sessions, by name, whose connections a killed daemon had.
    """

    def __init__(
        self,
        *,
        now: float,
        keeper: Keeper | None = None,
        last: DomId = DOM0,
    ) -> None:
        self.keeper = keeper if keeper is not None else OwnKeeper()
        self.domains = DomainTable(now=now, last=last)
        self.ports = PortTable(self.keeper)
        self.published = PublishedPages(self.keeper)
        self.orphans: dict[str, Session] = {}
        self._memories: dict[DomId, Memory] = {}
        self._store_ports: dict[DomId, PortEntry] = {}
        self._sessions: set[Session] = set()
        self._kept: set[DomId] = set()
        self._dying: set[DomId] = set()
        self.ports.add_domain(DOM0)

    @classmethod
    def restore(cls, records: Records, keeper: Keeper) -> Self:
        """Return the system of which `records` are, taken out with their descriptors.

        What had not become part of it, or has nobody any more, is dropped. A domain
        of which `is_dying` says so is to be destroyed.
        """
        mine = _take(records)
        host = mine.pop("domain/0", None)
        last = mine.pop("last", None)
        system = cls(
            now=_number(host.value["created"]) if host else time.time(),
            keeper=keeper,
            last=DomId(int(_number(last.value["domid"]))) if last else DOM0,
        )
        store_ports = system._restore_domains(mine)
        system._restore_sessions(mine)
        owners: dict[str | None, Session | None] = {None: None}
        owners.update(system.orphans)
        for key in [key for key in mine if key.startswith("channel/")]:
            system.ports.restore(key, mine.pop(key), owners)
        system._restore_pages(mine)
        for domid, port in store_ports.items():
            try:
                system._store_ports[domid] = system.ports.get(domid, port)
            except HypercallError:
                system._dying.add(domid)
        for key, kept in mine.items():
            keeper.drop(key)
            close_fds(kept.fds)
        if host is None:
            system.keep_domain(DOM0)
        return system

    def create_domain(
        self,
        name: str,
        *,
        now: float,
        domain_uuid: str | None = None,
        bare: bool = False,
    ) -> Domain:
        """Make a domain with memory and a port for the store to bind.

        It is kept over a crash from `keep_domain` on. Errors of
        `DomainTable.create`, ENOMEM; nothing is left behind by one.
        """
        domain = self.domains.create(name, now=now, domain_uuid=domain_uuid, bare=bare)
        domid = domain.domid
        try:
            self._memories[domid] = Memory.create(domid)
            self.ports.add_domain(domid)
            self._store_ports[domid] = self.ports.alloc_unbound(domid, DOM0)
        except OSError as error:
            self.destroy_domain(domid)
            raise HypercallError(
                "ENOMEM", f"no memory for domain {domid} ({name}): {error.strerror}"
            ) from error
        except HypercallError:
            self.destroy_domain(domid)
            raise
        return domain

    def keep_domain(self, domid: DomId) -> None:
        """The domain is complete, and stays until it is destroyed."""
        self.keeper.put("last", {"domid": self.domains.last})
        fds = [self._memories[domid].fd] if domid != DOM0 else []
        self.keeper.put(f"domain/{domid}", self._value(domid), fds)
        self._kept.add(domid)

    def mark_dying(self, domid: DomId) -> None:
        """The domain's destruction has begun, and is to be completed."""
        self._dying.add(domid)
        if domid in self._kept:
            self.keeper.put(f"domain/{domid}", self._value(domid))

    def is_dying(self, domid: DomId) -> bool:
        """Return whether the domain's destruction has begun."""
        return domid in self._dying

    def destroy_domain(self, domid: DomId) -> None:
        """Take down a domain of which no process is left, half-made ones too.

        Its ports close and its pages go. ESRCH, or EINVAL for domain 0.
        """
        self.domains.remove(domid)
        self._kept.discard(domid)
        self._dying.discard(domid)
        self._store_ports.pop(domid, None)
        self.ports.remove_domain(domid)
        self.published.drop_domain(domid)
        memory = self._memories.pop(domid, None)
        if memory is not None:
            memory.close()
        # Last: until then the destruction is to be completed.
        self.keeper.drop(f"domain/{domid}")

    def memory(self, domid: DomId) -> Memory:
        """Return a domain's memory; ESRCH without such a domain, EINVAL for 0."""
        self.domains.get(domid)
        if domid == DOM0:
            raise HypercallError("EINVAL", "domain 0 has no memory to share")
        return self._memories[domid]

    def store_port(self, domid: DomId) -> PortEntry:
        """Return the domain's end of its channel to the store; errors of `memory`."""
        self.memory(domid)
        if domid not in self._store_ports:
            raise HypercallError("ESRCH", f"domain {domid} is being destroyed")
        return self._store_ports[domid]

    def close_port(self, domid: DomId, port: Port) -> None:
        """Close a domain's port as `PortTable.close`; EPERM for the store's."""
        store_port = self._store_ports.get(domid)
        if store_port is not None and store_port.port == port:
            raise HypercallError(
                "EPERM",
                f"port {port} of domain {domid} is the store's and lives "
                "as long as the domain",
            )
        self.ports.close(domid, port)

    def note_mapping(
        self, owner: Session, backend_domid: DomId, granter: DomId
    ) -> None:
        """Remember that `owner`, of `backend_domid`, was handed another's memory."""
        if (backend_domid, granter) not in owner.mappings:
            owner.mappings.add((backend_domid, granter))
            self._keep_mapping(owner, backend_domid, granter)
        self._sessions.add(owner)

    def name_session(self, owner: Session, name: str | None = None) -> None:
        """Give a session a name, by which its process can resume it after a crash.

        One is chosen if it has none; EEXIST when another session has it.
        """
        if owner.name is not None and name in (None, owner.name):
            return
        if owner.name is not None or any(s.name == name for s in self._named()):
            raise HypercallError("EEXIST", "there is such a session already")
        owner.take_name(name)
        self._sessions.add(owner)
        self.keeper.put(f"session/{owner.name}", owner.value())
        for pair in owner.mappings:
            self._keep_mapping(owner, *pair)
        self._rename(owner)

    def unname_session(self, owner: Session) -> None:
        """Have a session end with its connection, also after a crash."""
        for pair in owner.mappings:
            self.keeper.drop(_mapping_key(owner, *pair))
        self.keeper.drop(f"session/{owner.name}")
        owner.name = None
        self._rename(owner)

    def _rename(self, owner: Session) -> None:
        self.ports.rename_owner(owner)
        self.published.rename_owner(owner)

    def resume_session(self, name: str, uid: int) -> Session:
        """Return the orphan of that name, which is one no more; ESRCH, EPERM."""
        session = self.orphans.get(name)
        if session is None:
            raise HypercallError("ESRCH", "there is no such session to resume")
        if session.uid != uid:
            raise HypercallError("EPERM", "the session is another user's")
        del self.orphans[name]
        return session

    def drop_owner(self, owner: Session) -> None:
        """Take back what went to a process that is gone.

        Its ports close, its pages are no longer shown, and grants that it left in
        use are released unless another process of its domain maps the same memory.
        """
        self.ports.close_owned(owner)
        self.published.drop_owner(owner)
        self._sessions.discard(owner)
        if owner.name is not None:
            self.orphans.pop(owner.name, None)
        for pair in owner.mappings:
            if not any(pair in other.mappings for other in self._sessions):
                self._release_grants(*pair)
            if owner.name is not None:
                self.keeper.drop(_mapping_key(owner, *pair))
        if owner.name is not None:
            # Last: until then the grants are to be released.
            self.keeper.drop(f"session/{owner.name}")

    def close(self) -> None:
        """Take down every domain."""
        for domain in list(self.domains):
            if domain.domid != DOM0:
                self.destroy_domain(domain.domid)
        self.ports.remove_domain(DOM0)

    def _named(self) -> Iterator[Session]:
        return (session for session in self._sessions if session.name is not None)

    def _keep_mapping(self, owner: Session, backend: DomId, granter: DomId) -> None:
        if owner.name is not None:
            self.keeper.put(_mapping_key(owner, backend, granter), {})

    def _release_grants(self, backend_domid: DomId, granter: DomId) -> None:
        memory = self._memories.get(granter)
        if memory is None:
            return
        count = memory.release(backend_domid)
        if count:
            _log.info(
                "domain %d left %d grants of domain %d in use; released",
                backend_domid, count, granter,
            )  # fmt: skip

    def _value(self, domid: DomId) -> "Value":
        domain = self.domains.get(domid)
        store_port = self._store_ports.get(domid)
        return {
            "name": domain.name,
            "uuid": domain.uuid,
            "created": domain.created,
            "bare": domain.bare,
            "store_port": store_port.port if store_port is not None else 0,
            "dying": domid in self._dying,
        }

    def _restore_domains(self, mine: Records) -> dict[DomId, Port]:
        store_ports = {}
        for key in [key for key in mine if key.startswith("domain/")]:
            kept = mine.pop(key)
            value = kept.value
            domid = DomId(int(key.rpartition("/")[2]))
            self.domains.add(
                Domain(
                    domid,
                    str(value["name"]),
                    str(value["uuid"]),
                    _number(value["created"]),
                    # Records of an image that knew no bare domains have none.
                    bool(value.get("bare", False)),
                )
            )
            self._kept.add(domid)
            self._memories[domid] = Memory(*kept.fds)
            self.ports.add_domain(domid)
            store_ports[domid] = Port(int(_number(value["store_port"])))
            if value["dying"]:
                self._dying.add(domid)
        return store_ports

    def _restore_sessions(self, mine: Records) -> None:
        for key in [key for key in mine if key.startswith("session/")]:
            name = key.rpartition("/")[2]
            self.orphans[name] = Session.of(name, mine.pop(key).value)
        for key in [key for key in mine if key.startswith("mapping/")]:
            _, name, backend, granter = key.split("/")
            if name in self.orphans:
                del mine[key]
                pair = DomId(int(backend)), DomId(int(granter))
                self.orphans[name].mappings.add(pair)
        self._sessions.update(self.orphans.values())

    def _restore_pages(self, mine: Records) -> None:
        for key in [key for key in mine if key.startswith("page/")]:
            owner = self.orphans.get(str(mine[key].value["owner"]))
            if owner is not None and DomId(int(key.split("/")[1])) in self.domains:
                self.published.restore(key, mine.pop(key), owner)


def _mapping_key(owner: Session, backend: DomId, granter: DomId) -> str:
    return f"mapping/{owner.name}/{backend}/{granter}"


def _take(records: Records) -> Records:
    """Take our records out; one that has lost descriptors is as good as none."""
    mine = {}
    for key in list(records):
        kind = key.partition("/")[0]
        if kind not in _NR_FDS:
            continue
        mine[key] = records.pop(key)
        if key != "domain/0" and len(mine[key].fds) != _NR_FDS[kind]:
            _log.error("the descriptors of %s are lost, and it with them", key)
            close_fds(mine.pop(key).fds)
    return mine


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return value
