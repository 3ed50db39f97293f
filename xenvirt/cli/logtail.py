"""What -v shows: the log's lines about one domain, while something is waited for."""

import re
from pathlib import Path
from typing import Final

import click

from xenvirt.abi.ids import DomId

_LINE: Final = re.compile(r"\S+ (?P<process>\S+?)\[\d+\] (?P<message>.*)")


class LogTail:
    """Shows what the log says of one domain from now on, on standard error.

    It shows nothing unless `on`. Which domain, `show` is told. `is_result`: the
    lines are what was asked for and go to standard output.
    """

    def __init__(self, path: Path, *, on: bool, is_result: bool = False) -> None:
        self._path = path
        self._on = on
        self._err = not is_result
        self._rest = ""
        self._offset = path.stat().st_size if path.exists() else 0
        self._domid: DomId | None = None

    def show(self, domid: DomId | None = None) -> None:
        """Print the lines that came since the last time; None: of the same domain."""
        self._domid = domid or self._domid
        if not self._on or self._domid is None or not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        self._offset += len(data)
        *lines, self._rest = (self._rest + data.decode(errors="replace")).split("\n")
        for line in lines:
            if is_about(line, self._domid):
                click.echo(line, err=self._err)


def is_about(line: str, domid: DomId) -> bool:
    """Say whether a line is a domain's own, or about it or one of its vifs."""
    match = _LINE.match(line)
    if match is None:
        return False
    if match["process"] == f"frontend-{domid}":
        return True
    about = rf"xvif{domid}i\d+\b|(.* of )?domain {domid} "
    return re.match(about, match["message"]) is not None
