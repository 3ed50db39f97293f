"""What the kernel says of a domain's process, in xl's letters."""

import os
from dataclasses import dataclass
from pathlib import Path

from xenvirt.abi.ids import DOM0
from xenvirt.toolstack.domains import DomainInfo

_LETTERS = {"R": "r-----", "T": "--p---", "t": "--p---", "Z": "-----d", "X": "-----d"}
_ASLEEP = "-b----"
_NO_PROCESS = "---s--"


@dataclass(frozen=True, slots=True)
class RunState:
    """As xl prints it: running, blocked, paused, shut down, crashed, dying."""

    letters: str
    cpu_time_s: float


def of_domain(domain: DomainInfo) -> RunState:
    """Return the state of a domain's process; the backend is the host's."""
    end = domain.end("backend" if domain.domid == DOM0 else "frontend")
    fields = _stat_fields(end.pid) if end is not None and end.pid else None
    if fields is None:
        letters = "r-----" if domain.domid == DOM0 else _NO_PROCESS
        return RunState(letters, 0.0)
    state, utime, stime = fields[0], int(fields[11]), int(fields[12])
    letters = _LETTERS.get(state, _ASLEEP)
    if domain.domid == DOM0:
        letters = "r-----"
    return RunState(letters, (utime + stime) / os.sysconf("SC_CLK_TCK"))


def vcpus(domain: DomainInfo) -> int:
    """Return how many processors a domain has: one thread moves all its frames."""
    return (os.cpu_count() or 1) if domain.domid == DOM0 else 1


def _stat_fields(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from `state` (3) on; None if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name before, in brackets, may have spaces and brackets of its own.
    return text.rpartition(")")[2].split()
