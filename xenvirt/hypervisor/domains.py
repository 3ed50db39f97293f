"""The table of domains: who exists, by number and by name."""

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from xenvirt.abi.ids import DOM0, DOMID_FIRST_RESERVED, DomId
from xenvirt.errors import HypercallError

DOM0_NAME: Final = "Domain-0"
NAME_MAX: Final = 32

# A name is also a network namespace's and a file's.
_NAME: Final = re.compile(r"(?![.-])[A-Za-z0-9_.-]{1,32}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain; `created` is in seconds since the epoch.

    Of a `bare` one we run no ends: whoever had it made is its frontend, or backend.
    """

    domid: DomId
    name: str
    uuid: str
    created: float
    bare: bool = False


def check_name(name: str) -> None:
    """Raise EINVAL, saying which rule it breaks, unless a domain may have this name.

    1 to 32 of A-Z a-z 0-9 _ . - with neither `-` nor `.` first; digits alone would
    be read as a domid; `Domain-0` is the host.
    """
    if name == DOM0_NAME:
        raise HypercallError("EINVAL", f"the name {DOM0_NAME} is the host's own")
    if not 1 <= len(name) <= NAME_MAX:
        raise HypercallError(
            "EINVAL", f"a name has 1 to {NAME_MAX} characters, not {len(name)}"
        )
    if not _NAME.fullmatch(name):
        raise HypercallError(
            "EINVAL",
            f"the name {name!r} has other characters than A-Z a-z 0-9 _ . - "
            "or begins with - or .",
        )
    if name.isdigit():
        raise HypercallError("EINVAL", f"the name {name!r} would be read as a domid")


class DomainTable:
    """Domain 0 is always in it.

    `last` is the domid that was given out last: the search for a free one goes on
    there.
    """

    def __init__(self, *, now: float, last: DomId = DOM0) -> None:
        dom0 = Domain(DOM0, DOM0_NAME, str(uuid.UUID(int=0)), now)
        self._domains: dict[DomId, Domain] = {DOM0: dom0}
        self.last = last

    def __len__(self) -> int:
        return len(self._domains)

    def __iter__(self) -> Iterator[Domain]:
        return iter(sorted(self._domains.values(), key=lambda d: d.domid))

    def __contains__(self, domid: object) -> bool:
        return domid in self._domains

    def get(self, domid: DomId) -> Domain:
        """Return a domain; ESRCH if there is none of that number."""
        try:
            return self._domains[domid]
        except KeyError:
            raise HypercallError("ESRCH", f"there is no domain {domid}") from None

    def named(self, name: str) -> Domain | None:
        """Return the domain of that name, None if there is none."""
        return next((d for d in self._domains.values() if d.name == name), None)

    def create(
        self,
        name: str,
        *,
        now: float,
        domain_uuid: str | None = None,
        bare: bool = False,
    ) -> Domain:
        """Enter a new domain under the next free domid; its uuid is chosen if None.

        EINVAL for a bad name, EEXIST for a taken one, ENOSPC with no domid left.
        """
        check_name(name)
        taken = self.named(name)
        if taken is not None:
            raise HypercallError(
                "EEXIST", f"domain {taken.domid} has the name {name} already"
            )
        self.last = self._next_domid()
        domain = Domain(self.last, name, domain_uuid or str(uuid.uuid4()), now, bare)
        self.add(domain)
        return domain

    def add(self, domain: Domain) -> None:
        """Enter a domain that was known before."""
        self._domains[domain.domid] = domain

    def remove(self, domid: DomId) -> None:
        """Forget a domain; ESRCH if there is none, EINVAL for domain 0."""
        if domid == DOM0:
            raise HypercallError("EINVAL", "domain 0 is the host and stays")
        self.get(domid)
        del self._domains[domid]

    def _next_domid(self) -> DomId:
        # As Xen does: a number comes back as late as possible, so that whoever
        # still holds on to the old domain does not meet a new one under it.
        for step in range(1, DOMID_FIRST_RESERVED):
            span = DOMID_FIRST_RESERVED - 1
            domid = DomId(1 + (self.last - 1 + step) % span)
            if domid not in self._domains:
                return domid
        raise HypercallError(
            "ENOSPC", f"all {DOMID_FIRST_RESERVED - 1} domain numbers are in use"
        )
