"""What the launcher keeps for the daemon: records, and descriptors beside them."""

from collections.abc import Iterator

from xenvirt.hypervisor.keeper import Kept, Records, Value
from xenvirt.hypervisor.wire import close_fds


class Shelf:
    """Records under keys, in the order in which they came first; owns descriptors."""

    def __init__(self) -> None:
        self._records: Records = {}

    def __iter__(self) -> Iterator[tuple[str, Kept]]:
        return iter(self._records.items())

    def put(self, key: str, value: Value, fds: list[int]) -> None:
        """Keep a record, and its descriptors; without any it has those it had."""
        earlier = self._records.get(key)
        if earlier is None:
            self._records[key] = Kept(value, fds)
            return
        earlier.value = value
        if fds:
            close_fds(earlier.fds)
            earlier.fds = fds

    def drop(self, key: str) -> None:
        """Forget a record, if there is one."""
        kept = self._records.pop(key, None)
        if kept is not None:
            close_fds(kept.fds)

    def clear(self) -> None:
        """Forget everything."""
        for key in list(self._records):
            self.drop(key)
