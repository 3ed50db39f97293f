"""What the store knows of domains, and the hypervisor that it asks about them."""

from typing import Final, Protocol

from xenvirt.abi.ids import DOM0, DOMID_ANY, DomId, Gfn, Port
from xenvirt.abi.xs_wire import ServerFeature
from xenvirt.xenstore.quota import Account, Quotas

FEATURES: Final = (
    ServerFeature.ERROR | ServerFeature.WATCH_DEPTH | ServerFeature.DOMID_ANY
)
"""What this server offers on a ring; C xenstored has no reconnection either."""


class Domains(Protocol):
    """The hypervisor, as far as the store needs it."""

    def exists(self, domid: DomId) -> bool:
        """Whether there is such a domain now."""

    def introduce(self, domid: DomId, gfn: Gfn, port: Port) -> None:
        """Serve the domain's ring page; raises StoreError. May come again."""

    def release(self, domid: DomId) -> None:
        """Stop serving the domain's ring page."""


class DomainTable:
    """Per domain: is it introduced, its target, its features, its account."""

    def __init__(self, hypervisor: Domains, quotas: Quotas) -> None:
        self.hypervisor = hypervisor
        self.quotas = quotas
        self.introduced = {int(DOM0)}
        self.targets: dict[int, int] = {}
        self._features: dict[int, ServerFeature] = {}
        self._accounts: dict[int, Account] = {}

    def exists(self, domid: int) -> bool:
        """Whether a permission that names the domain means somebody."""
        return domid in (DOM0, DOMID_ANY) or self.hypervisor.exists(DomId(domid))

    def account(self, domid: int) -> Account:
        """The domain's limits and use, the same object for all of its connections."""
        return self._accounts.setdefault(domid, Account(self.quotas))

    def features(self, domid: int) -> ServerFeature:
        """What the domain's ring page offers it."""
        return self._features.get(domid, FEATURES)

    def set_features(self, domid: int, features: ServerFeature) -> None:
        """Offer less, as before a migration from an older host."""
        self._features[domid] = features

    def set_default_quota(self, name: str, value: int) -> None:
        """Change a limit of every domain."""
        self.quotas = self.quotas.replaced(name, value)
        for account in self._accounts.values():
            account.quotas = account.quotas.replaced(name, value)

    def forget(self, domid: int) -> bool:
        """Drop everything about a domain; returns whether it had been introduced."""
        was_introduced = domid in self.introduced
        self.introduced.discard(domid)
        self._features.pop(domid, None)
        self._accounts.pop(domid, None)
        self.targets.pop(domid, None)
        for stub in [s for s, target in self.targets.items() if target == domid]:
            del self.targets[stub]
        return was_introduced
