"""xenstore watch and trace: what happens in the store, as it happens."""

import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xenvirt.cli.output import print_json_line
from xenvirt.cli.settings import pass_settings
from xenvirt.cli.storelib import connected, failing, store_path
from xenvirt.errors import NotFoundError, NotPermittedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xenvirt.xenstore.trace import TraceRecord

_CHUNK = 65536


@click.command("watch")
@click.option(
    "-n",
    "--number",
    type=click.IntRange(min=0),
    metavar="NR",
    help="End after as many events.",
)
@click.option(
    "-d",
    "--depth",
    type=click.IntRange(min=0),
    metavar="DEPTH",
    help="Levels below PATH that count; 0 is PATH alone.",
)
@click.option("-s", "socket", is_flag=True, hidden=True, expose_value=False)
@click.argument("path", nargs=-1, required=True)
def watch_command(number: int | None, depth: int | None, path: tuple[str, ...]) -> None:
    """Print the path of every change at PATH and below; once at first."""
    as_json = pass_settings().json
    with connected() as store, failing(f"cannot watch {' '.join(path)}"):
        events = store.follow(path, depth=depth)
        seen = 0
        while number is None or seen < number:
            changed = next(events)
            if as_json:
                print_json_line(path=changed)
            else:
                click.echo(changed)
            sys.stdout.flush()
            seen += 1


@click.command("trace")
@click.option(
    "-j", "--json", is_flag=True, envvar="XENVIRT_JSON", help="One JSON object a line."
)
@click.option(
    "--domid",
    type=click.IntRange(0, 0x7FEF),
    multiple=True,
    metavar="N",
    help="This domain's connections alone; may be repeated.",
)
@click.option(
    "-n",
    "--number",
    type=click.IntRange(min=0),
    metavar="NR",
    help="End after as many records.",
)
@click.option(
    "--trace-socket",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The trace's socket [default: trace, beside the store's].",
)
def trace_command(
    json: bool, domid: tuple[int, ...], number: int | None, trace_socket: Path | None
) -> None:
    """Print every request, reply and event from now on, in the store's order."""
    from xenvirt.xenstore import trace

    show = trace.as_json if json or pass_settings().json else trace.line
    seen = 0
    with _connect(trace_socket or store_path().with_name("trace")) as sock:
        records = _records(sock)
        while number is None or seen < number:
            record = next(records, None)
            if record is None:
                return
            lost = record.kind == trace.TraceKind.LOST
            if domid and not lost and record.domid not in domid:
                continue
            click.echo(show(record))
            sys.stdout.flush()
            seen += 1


def _connect(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(str(path))
    except OSError as error:
        sock.close()
        if isinstance(error, PermissionError):
            raise NotPermittedError(
                f"may not read the trace at {path}",
                cause="it is for the user who runs the store",
                hint="run it as root, with sudo",
            ) from error
        raise NotFoundError(
            f"no store gives a trace at {path}",
            cause=error.strerror or str(error),
            hint="xenvirt daemon does; xenvirt xenstore serve with --trace-socket",
        ) from error
    return sock


def _records(sock: socket.socket) -> "Iterator[TraceRecord]":
    """What the store tells, until it ends."""
    from xenvirt.xenstore.trace import TraceDecoder

    decoder = TraceDecoder()
    while data := sock.recv(_CHUNK):
        yield from decoder.feed(data)
