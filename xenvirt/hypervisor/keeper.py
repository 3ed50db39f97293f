"""Where the hypervisor's tables are kept, so that they outlive its process.

A record is a value for JSON and descriptors beside it, under a key such as
`domain/1`. Whoever changes a table puts the record at once; a hypercall is answered
only when `settled`, so that nothing that was answered is lost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Value = Mapping[str, object]


@dataclass(slots=True)
class Kept:
    """A record; whoever was handed it owns the descriptors."""

    value: Value
    fds: list[int] = field(default_factory=list)


Records = dict[str, Kept]


class Keeper(Protocol):
    """Takes records, in order, and never makes its caller wait."""

    def put(self, key: str, value: Value, fds: Sequence[int] = ()) -> None:
        """Keep a record in place of an earlier one; `fds` stay the caller's.

        Without `fds` it has those of the earlier one.
        """

    def drop(self, key: str) -> None:
        """Forget a record, if there is one."""

    @property
    def settled(self) -> bool:
        """Whether all that was put would be found after a crash."""

    async def settle(self) -> None:
        """Return when it is."""


class OwnKeeper:
    """Keeps the records in this process, with which they die: there is no launcher.

    The descriptors in `records` stay those of the tables.
    """

    def __init__(self, records: Records | None = None) -> None:
        self.records: Records = dict(records or {})

    def put(self, key: str, value: Value, fds: Sequence[int] = ()) -> None:
        """See `Keeper.put`."""
        earlier = self.records.get(key)
        kept = list(fds) if fds or earlier is None else earlier.fds
        self.records[key] = Kept(value, kept)

    def drop(self, key: str) -> None:
        """See `Keeper.drop`."""
        self.records.pop(key, None)

    @property
    def settled(self) -> bool:
        """See `Keeper.settled`."""
        return True

    async def settle(self) -> None:
        """See `Keeper.settle`."""
