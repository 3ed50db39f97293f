"""How results and errors are printed: for people, or as one JSON object.

Part of both may come from a guest, by the store: for people it is made printable.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import click

from xenvirt.cli.settings import pass_settings
from xenvirt.errors import XenvirtError
from xenvirt.log import printable

SCHEMA: Final = "xenvirt/1"


def print_json(**body: object) -> None:
    """Print one object, with the schema's name first."""
    text = json.dumps({"schema": SCHEMA, **body}, default=_plain, indent=2)
    click.echo(text)


def print_json_line(**body: object) -> None:
    """Print one of many objects, on a line of its own."""
    click.echo(json.dumps({"schema": SCHEMA, **body}, default=_plain))


def say(text: str) -> None:
    """Print a line of a result, unless --quiet or --json is given."""
    settings = pass_settings()
    if not settings.quiet and not settings.json:
        click.echo(text)


def note(text: str) -> None:
    """Print a line beside the result, on standard error, unless --quiet is given."""
    if not pass_settings().quiet:
        click.echo(text, err=True)


def fields(pairs: Iterable[tuple[str, object]], *, indent: int = 0) -> str:
    """Return lines of names and values in two columns; None is left out."""
    shown = [(name, value) for name, value in pairs if value is not None]
    width = max((len(name) for name, _ in shown), default=0)
    return "\n".join(
        f"{' ' * indent}{name:<{width}}  {printable(str(value))}".rstrip()
        for name, value in shown
    )


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table, each column as wide as it must be; numbers to the right."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [
        max(len(text) for text in column) for column in zip(header, *cells, strict=True)
    ]
    right = [
        bool(cells) and all(row[number].isdigit() for row in cells)
        for number in range(len(header))
    ]
    return "\n".join(
        "  ".join(
            f"{text:>{width}}" if to_right else f"{text:<{width}}"
            for text, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in (header, *cells)
    )


def print_error(error: XenvirtError, *, as_json: bool) -> None:
    """Print what went wrong, why, and what to do about it."""
    if as_json:
        print_json(
            error={
                "what": error.what,
                "cause": error.cause or None,
                "do": error.hint or None,
                "exit_code": error.exit_code,
            }
        )
        return
    click.echo(f"xenvirt: {printable(error.what)}", err=True)
    if error.cause:
        for number, line in enumerate(error.cause.split("; ")):
            click.echo(f"  {'' if number else 'cause':<6} {printable(line)}", err=True)
    if error.hint:
        click.echo(f"  {'do':<6} {printable(error.hint)}", err=True)


def _plain(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: getattr(value, field.name)
            for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be JSON")
