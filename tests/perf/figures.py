"""Figures of a run: what each is, its values by peer, and their file."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

SCHEMA: Final = "xenvirt/1"
OURS: Final = "xenvirt"

TCP: Final = "TCP, Gbit/s"
DELIVERED: Final = "UDP delivered, thousand packets/s"
LOSS_FREE: Final = "UDP without a loss, thousand packets/s"
ROUND_TRIP: Final = "Round trip, µs"
CPU_BYTES: Final = "CPU of the machine, s/Gbyte"
CPU_PACKETS: Final = "CPU of the machine, s/million packets"
LINK_CPU_BYTES: Final = "of which the link's processes, s/Gbyte"
LINK_CPU_PACKETS: Final = "of which the link's processes, s/million packets"

ATTACH: Final = "Attach to Connected, ms"
MEMORY: Final = "Memory of an idle vif, KiB"
IDLE: Final = "CPU of all processes while nothing is sent, ms a second"
BUSY: Final = "TCP of a busy vif, Gbit/s"
FAIR: Final = "Several busy vifs at once"

SECTIONS: Final = (
    TCP,
    DELIVERED,
    LOSS_FREE,
    ROUND_TRIP,
    CPU_BYTES,
    LINK_CPU_BYTES,
    CPU_PACKETS,
    LINK_CPU_PACKETS,
    ATTACH,
    MEMORY,
    IDLE,
    BUSY,
    FAIR,
)
"""In the order of the table."""
MORE_IS_BETTER: Final = frozenset({TCP, DELIVERED, LOSS_FREE, BUSY, FAIR})
WORK: Final = (TCP, DELIVERED, LOSS_FREE, ROUND_TRIP)
"""What a user gets; the other sections say what it costs."""


@dataclass(frozen=True, slots=True, order=True)
class Figure:
    """One row: a section, which has the unit, and what was done."""

    section: str
    name: str

    @property
    def more_is_better(self) -> bool:
        """Whether more is better."""
        return self.section in MORE_IS_BETTER


Figures = Mapping[Figure, float]
"""Of one peer, one work, one round."""


@dataclass(slots=True)
class Run:
    """What was measured in one run.

    `values` has one value a round; where a peer cannot do a work, it has none.
    `left_out` says which peer or work is missing, and why.
    """

    machine: str
    rounds: int
    seconds: float
    peers: list[str]
    values: dict[Figure, dict[str, list[float]]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    up_ms: list[float] = field(default_factory=list)
    benchmark: str = "link"

    def record(self, peer: str, figures: Figures) -> None:
        """Add what one round gave for a peer."""
        for figure, value in figures.items():
            self.values.setdefault(figure, {}).setdefault(peer, []).append(value)

    def median(self, figure: Figure, peer: str) -> float | None:
        """A peer's median; None where it has no value."""
        values = self.values.get(figure, {}).get(peer)
        return statistics.median(values) if values else None

    def ratio(self, figure: Figure, peer: str) -> float | None:
        """Our median to the peer's; None where one is missing or nothing."""
        ours, theirs = self.median(figure, OURS), self.median(figure, peer)
        return ours / theirs if ours is not None and theirs else None

    def section(self, section: str) -> list[Figure]:
        """The figures of a section, in the order in which they were measured."""
        return [figure for figure in self.values if figure.section == section]

    def save(self, path: Path) -> None:
        """Write every value of every round."""
        path.write_text(json.dumps(self.as_json(), indent=1) + "\n")

    def as_json(self) -> dict[str, object]:
        """The same for programs."""
        rows = [
            {**asdict(figure), "values": by_peer}
            for figure, by_peer in self.values.items()
        ]
        shown = {name: getattr(self, name) for name in PLAIN}
        return {"schema": SCHEMA, **shown, "rows": rows}

    @classmethod
    def load(cls, path: Path, benchmark: str = "link") -> "Run":
        """Read what `save` wrote. Raises ValueError when it is something else."""
        saved = json.loads(path.read_text())
        if not isinstance(saved, dict) or saved.get("benchmark") != benchmark:
            raise ValueError(f"{path} is no file of scripts/bench {benchmark} --json")
        run = cls(**{name: saved[name] for name in PLAIN})
        for row in saved["rows"]:
            run.values[Figure(row["section"], row["name"])] = row["values"]
        return run


PLAIN: Final[Sequence[str]] = (
    "benchmark",
    "machine",
    "rounds",
    "seconds",
    "peers",
    "left_out",
    "up_ms",
)
"""Fields of a run that are JSON as they are."""
