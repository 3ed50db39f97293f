"""What a run has found: a table for people, JSON for programs."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A figure; `limit` says in words what it must be, "" if it only informs."""

    what: str
    value: str
    limit: str = ""
    good: bool = True


@dataclass(frozen=True, slots=True)
class Summary:
    """All figures of a run, and in `wrong` each thing that was not as it must be."""

    seed: int
    rows: Sequence[Row]
    wrong: Sequence[str]

    @property
    def good(self) -> bool:
        """Whether nothing was wrong."""
        return not self.wrong and all(row.good for row in self.rows)

    def text(self) -> str:
        """The table, and what was wrong."""
        widths = [
            max(len(getattr(row, name)) for row in self.rows)
            for name in ("what", "value", "limit")
        ]
        lines = [
            f"{row.what:<{widths[0]}}  {row.value:>{widths[1]}}  "
            f"{row.limit:<{widths[2]}}  {_verdict(row)}".rstrip()
            for row in self.rows
        ]
        lines += ["", *(f"wrong: {each}" for each in self.wrong)]
        lines.append(f"seed {self.seed}: {'clean' if self.good else 'NOT clean'}")
        return "\n".join(lines)

    def json(self) -> str:
        """The same for programs."""
        body = {"schema": "xenvirt-soak/1", "good": self.good, **asdict(self)}
        return json.dumps(body, indent=2)


def _verdict(row: Row) -> str:
    if not row.limit:
        return ""
    return "ok" if row.good else "NOT"


def seconds(values: Sequence[float]) -> str:
    """The median of some times, and the greatest."""
    if not values:
        return "none"
    return f"{statistics.median(values):.3f}, {max(values):.3f} s"
