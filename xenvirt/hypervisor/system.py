"""The emulated machine: domains with their memory, ports and published pages.

It knows no socket. The server asks it on behalf of a caller, the daemon on its own.
"""

import logging
from typing import TYPE_CHECKING

from xenvirt.abi.ids import DOM0, DomId
from xenvirt.errors import HypercallError
from xenvirt.hypervisor.domains import Domain, DomainTable
from xenvirt.hypervisor.evtchn import PortEntry, PortTable
from xenvirt.hypervisor.memory import Memory
from xenvirt.hypervisor.published import PublishedPages

if TYPE_CHECKING:
    from xenvirt.abi.ids import Port

_log = logging.getLogger(__name__)


class System:
    """Every domain and what belongs to it; domain 0 is there from the start."""

    def __init__(self, *, now: float) -> None:
        self.domains = DomainTable(now=now)
        self.ports = PortTable()
        self.published = PublishedPages()
        self._memories: dict[DomId, Memory] = {}
        self._store_ports: dict[DomId, PortEntry] = {}
        self._mappings: dict[object, set[tuple[DomId, DomId]]] = {}
        self.ports.add_domain(DOM0)

    def create_domain(self, name: str, *, now: float) -> Domain:
        """Make a domain with memory and a port for the store to bind.

        Errors of `DomainTable.create`, ENOMEM; nothing is left behind by one.
        """
        domain = self.domains.create(name, now=now)
        domid = domain.domid
        try:
            self._memories[domid] = Memory(domid)
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

    def destroy_domain(self, domid: DomId) -> None:
        """Take down a domain of which no process is left, half-made ones too.

        Its ports close and its pages go. ESRCH, or EINVAL for domain 0.
        """
        self.domains.remove(domid)
        self._store_ports.pop(domid, None)
        self.ports.remove_domain(domid)
        self.published.drop_domain(domid)
        memory = self._memories.pop(domid, None)
        if memory is not None:
            memory.close()

    def memory(self, domid: DomId) -> Memory:
        """Return a domain's memory; ESRCH without such a domain, EINVAL for 0."""
        self.domains.get(domid)
        if domid == DOM0:
            raise HypercallError("EINVAL", "domain 0 has no memory to share")
        return self._memories[domid]

    def store_port(self, domid: DomId) -> PortEntry:
        """Return the domain's end of its channel to the store; errors of `memory`."""
        self.memory(domid)
        return self._store_ports[domid]

    def close_port(self, domid: DomId, port: "Port") -> None:
        """Close a domain's port as `PortTable.close`; EPERM for the store's."""
        store_port = self._store_ports.get(domid)
        if store_port is not None and store_port.port == port:
            raise HypercallError(
                "EPERM",
                f"port {port} of domain {domid} is the store's and lives "
                "as long as the domain",
            )
        self.ports.close(domid, port)

    def note_mapping(self, owner: object, backend_domid: DomId, granter: DomId) -> None:
        """Remember that `owner`, of `backend_domid`, was handed another's memory."""
        self._mappings.setdefault(owner, set()).add((backend_domid, granter))

    def drop_owner(self, owner: object) -> None:
        """Take back what went to a process that is gone.

        Its ports close, its pages are no longer shown, and grants that it left in
        use are released unless another process of its domain maps the same memory.
        """
        self.ports.close_owned(owner)
        self.published.drop_owner(owner)
        gone = self._mappings.pop(owner, set())
        for backend_domid, granter in gone.difference(*self._mappings.values()):
            self._release_grants(backend_domid, granter)

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

    def close(self) -> None:
        """Take down every domain."""
        for domain in list(self.domains):
            if domain.domid != DOM0:
                self.destroy_domain(domain.domid)
        self.ports.remove_domain(DOM0)
