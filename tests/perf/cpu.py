"""What a measurement costs: CPU seconds, of the machine and of a link's processes.

Much of a link's work is the kernel's, in softirqs that belong to no process, and the
traffic's own programs do some of it. So the machine's whole time that was not idle
is the honest figure for all the processes involved; it counts a stranger's work too.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
IDLE, IOWAIT, STEAL = 3, 4, 7
"""Fields of /proc/stat's "cpu", after its name."""
UTIME, STIME = 11, 12
"""Fields of /proc/PID/stat, after the program's name."""


def unused_s(stat: str) -> float:
    """The time that nothing here used, of all CPUs together, from /proc/stat."""
    fields = stat.splitlines()[0].split()[1:]
    return sum(int(fields[index]) for index in (IDLE, IOWAIT, STEAL)) * TICK_S


def process_s(stat: str) -> float:
    """The CPU time of a process, from /proc/PID/stat."""
    # The name may hold spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    return (int(fields[UTIME]) + int(fields[STIME])) * TICK_S


@dataclass(slots=True)
class Meter:
    """Counts within its block.

    `machine_s` is what all CPUs were busy for, `link_s` what the processes of `pids`
    used of it.
    """

    pids: Sequence[int]
    machine_s: float = 0
    link_s: float = 0
    _begin: tuple[float, float, float] = field(init=False)

    def __enter__(self) -> "Meter":
        self._begin = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        at, unused, used = (
            new - old for new, old in zip(self._now(), self._begin, strict=True)
        )
        # Idle time is counted exactly where ticks stop in idle; what is busy is
        # sampled at ticks, and misses what sleeps between them.
        self.machine_s = max(0.0, at * (os.cpu_count() or 1) - unused)
        self.link_s = used

    def _now(self) -> tuple[float, float, float]:
        used = (process_s(Path(f"/proc/{pid}/stat").read_text()) for pid in self.pids)
        unused = unused_s(Path("/proc/stat").read_text())
        return time.monotonic(), unused, sum(used)
