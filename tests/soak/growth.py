"""What processes hold that live for long: private memory, and lines of the log."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from tests.integration.daemons import GONE_WRONG
from tests.perf.many.processes import private_of
from tests.soak.world import World

GROWTH_KIB: Final = 4096
"""What a process may have more at the end: Python's allocator takes arenas of 1 MiB."""


@dataclass(frozen=True, slots=True)
class Held:
    """KiB of private memory by process, with its pid; the log's lines, and crashes."""

    memory_kib: Mapping[tuple[str, int], int]
    log_lines: int
    crashes: tuple[str, ...]

    @classmethod
    def look(cls, world: World) -> "Held":
        """What there is now."""
        processes = {"launcher": world.launcher} | world.children()
        log = world.links.log()
        return cls(
            {(name, pid): private_of([pid]) for name, pid in processes.items()},
            log.count("\n"),
            tuple(GONE_WRONG.findall(log)),
        )

    def replaced(self, before: "Held", names: Iterable[str]) -> list[str]:
        """Which of these are not the processes that they were before."""
        return [
            name
            for name in names
            if [key for key in self.memory_kib if key[0] == name]
            != [key for key in before.memory_kib if key[0] == name]
        ]

    def growth_kib(self, before: "Held") -> dict[str, int]:
        """How much more each process has that was there before."""
        return {
            key[0]: kib - before.memory_kib[key]
            for key, kib in self.memory_kib.items()
            if key in before.memory_kib
        }
