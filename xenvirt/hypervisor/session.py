"""Whose ports and pages are whose: a session is what a connection holds them by.

A session ends with its connection. Only when the daemon was killed, which ends every
connection, it waits for the process that had it to come back and resume it by name.
"""

import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from xenvirt.abi.ids import DomId
    from xenvirt.hypervisor.keeper import Value


@dataclass(eq=False, slots=True)
class Session:
    """What one connection holds; `name` is None until somebody wants to resume it.

    `mappings` are pairs of a backend's domid and of the domid whose memory it got.
    """

    pid: int = 0
    uid: int = 0
    name: str | None = None
    started: int | None = None
    mappings: "set[tuple[DomId, DomId]]" = field(default_factory=set)

    def take_name(self, name: str | None = None) -> None:
        """Have this name, or choose one."""
        self.name = name or uuid.uuid4().hex
        self.started = start_time(self.pid)

    @property
    def process_lives(self) -> bool:
        """Whether the process with its pid is still the one that had it.

        True also where /proc does not tell (hidepid), if there was such a process.
        """
        return self.started is None or start_time(self.pid) == self.started

    def value(self) -> "Value":
        """Return the record of a session that has a name."""
        return {"pid": self.pid, "uid": self.uid, "started": self.started}

    @classmethod
    def of(cls, name: str, value: "Value") -> Self:
        """Return the session that a record was of."""
        started = value["started"]
        assert started is None or isinstance(started, int)
        return cls(int(str(value["pid"])), int(str(value["uid"])), name, started)


def owner_name(owner: Session | None) -> str | None:
    """Return how a record names an owner: None is the domain, "" nobody for long."""
    return None if owner is None else owner.name or ""


def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks; None if it has ended.

    With the pid it tells a process from all others.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name before, in brackets, may have spaces and brackets of its own.
    fields = text.rpartition(")")[2].split()
    return int(fields[19]) if fields[0] not in "ZX" else None
