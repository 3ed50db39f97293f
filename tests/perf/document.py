"""The table of a run within a document, between two marks; never written by hand."""

import os
from pathlib import Path
from typing import Final

from tests.perf import table, targets
from tests.perf.figures import Run

BEGIN: Final = "<!-- scripts/bench {}: begin -->"
END: Final = "<!-- scripts/bench {}: end -->"


def section(run: Run, picture: str | None) -> str:
    """What stands between the marks; `picture` is the plot, as the document sees it."""
    about = f"{run.machine}; medians of {run.rounds} rounds of {run.seconds:g} s."
    parts = [about, table.markdown(run)]
    if picture:
        parts.append(
            f"![The medians of each row, and what they lie between]({picture})"
        )
    if run.up_ms:
        parts.append(
            f"`xenvirt up`, both ends Connected, ms: {table.spread(run.up_ms)}"
        )
    if run.left_out:
        left_out = (f"- {what}: {_line(why)}" for what, why in run.left_out.items())
        parts.append("\n".join(["Left out:", "", *left_out]))
    parts.append(f"```\n{targets.report(run)}\n```")
    return "\n\n".join(parts)


def _line(text: str) -> str:
    """Of what a program has said, which may be long, the first line."""
    return text.splitlines()[0] if text else text


def replace(document: str, inner: str, benchmark: str = "link") -> str:
    """The document with that between its marks. Raises ValueError without marks."""
    first, last = BEGIN.format(benchmark), END.format(benchmark)
    before, begin, rest = document.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise ValueError(f"it has no lines {first} and {last}")
    return f"{before}{first}\n\n{inner}\n\n{last}{after}"


def put_link(path: Path, run: Run, plot: Path | None) -> None:
    """Write the table of a link into a document. Raises ValueError without marks."""
    picture = os.path.relpath(plot, path.parent) if plot else None
    put(path, section(run, picture), run.benchmark)


def put(path: Path, inner: str, benchmark: str) -> None:
    """Write a benchmark's table into a document. Raises ValueError without marks."""
    try:
        path.write_text(replace(path.read_text(), inner, benchmark))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
