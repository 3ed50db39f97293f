"""What an unprivileged domain may use up, and what it has.

Names and defaults as in C xenstored's domain.c; 0 switches a quota off. Privileged
connections are not limited, but what they make for a domain counts as the domain's.
"""

from dataclasses import dataclass, fields, replace
from typing import Final

from xenvirt.errors import StoreError


@dataclass(frozen=True, slots=True)
class Quotas:
    """One domain's limits; sizes are in bytes."""

    nodes: int = 1000
    watches: int = 128
    transactions: int = 10
    transaction_nodes: int = 1024
    node_permissions: int = 5
    path_max: int = 2048
    node_size: int = 2048
    outstanding: int = 20
    memory: int = 2560 * 1024

    def get(self, name: str) -> int:
        """The quota of that wire name (`node-size`); raises StoreError EINVAL."""
        return int(getattr(self, _field(name)))

    def replaced(self, name: str, value: int) -> "Quotas":
        """These limits with one changed; raises StoreError EINVAL."""
        return replace(self, **{_field(name): value})


QUOTA_NAMES: Final = tuple(f.name.replace("_", "-") for f in fields(Quotas))


def _field(name: str) -> str:
    if name not in QUOTA_NAMES:
        raise StoreError("EINVAL")
    return name.replace("-", "_")


def exceeds(value: int, quota: int) -> bool:
    """Whether a new total of `value` is refused; the most that is reached is quota - 1.

    C xenstored compares `new value >= quota` (domain_quota_val_exceeds).
    """
    return 0 < quota <= value


@dataclass(slots=True)
class Account:
    """What one domain holds over all of its connections; the store counts its nodes."""

    quotas: Quotas
    watches: int = 0
    transactions: int = 0
