"""xenstore serve: a store of its own, without a daemon, for other projects' tests."""

import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from xenvirt import log
from xenvirt.abi.ids import DOMID_FIRST_RESERVED
from xenvirt.cli.output import print_json_line
from xenvirt.cli.settings import pass_settings
from xenvirt.errors import UsageError
from xenvirt.xenstore.standalone import StandaloneStore

_READY: Final = b"READY=1\n"


def _domain_sockets(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[int, Path], ...]:
    """Return domid and path of each `N=PATH`; BadParameter for anything else."""
    found = []
    for value in values:
        number, equals, path = value.partition("=")
        if not (equals and path and number.isascii() and number.isdigit()):
            raise click.BadParameter(f"{value} is not N=PATH.", ctx, param)
        if not 0 < int(number) < DOMID_FIRST_RESERVED:
            largest = DOMID_FIRST_RESERVED - 1
            raise click.BadParameter(f"{number} is not 1..{largest}.", ctx, param)
        found.append((int(number), Path(path)))
    return tuple(found)


@click.command("serve")
@click.option(
    "--socket",
    type=click.Path(path_type=Path),
    required=True,
    metavar="PATH",
    help="Where privileged clients (domain 0) connect.",
)
@click.option(
    "--domain",
    callback=_domain_sockets,
    multiple=True,
    metavar="N=PATH",
    help="Domain N exists, and connects there; may be repeated.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Keep the nodes there, from one run to the next.",
)
@click.option(
    "--trace-socket",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Where xenvirt xenstore trace --trace-socket connects.",
)
@click.option(
    "--ready-fd",
    type=click.IntRange(min=0),
    metavar="N",
    help="Write READY=1 to this descriptor when clients can connect, and close it.",
)
def serve_command(
    socket: Path,
    domain: tuple[tuple[int, Path], ...],
    state: Path | None,
    trace_socket: Path | None,
    ready_fd: int | None,
) -> None:
    """Be a XenStore on a Unix socket, until SIGTERM or SIGINT.

    It needs no root, no Xen and no daemon. Every domain of --domain is introduced; its
    clients have the rights of that guest. As with Xen, it is a toolstack that gives a
    domain its nodes: write /local/domain/N and set its permissions first.
    """
    log.setup("xenstore", debug=pass_settings().verbose)
    paths = [socket, *(path for _, path in domain)]
    if trace_socket is not None:
        paths.append(trace_socket)
    if state is not None:
        paths.append(state)
    _check_different(paths, [domid for domid, _ in domain])
    if ready_fd is not None:
        _check_descriptor(ready_fd)
    with contextlib.ExitStack() as stack:
        stop_fd = stack.enter_context(_stop_signals())
        store = stack.enter_context(StandaloneStore(state))
        store.listen(socket)
        if trace_socket is not None:
            store.trace(trace_socket)
        for domid, path in domain:
            store.add_domain(domid, path)
        _say_ready(socket, domain, trace_socket)
        if ready_fd is not None:
            os.write(ready_fd, _READY)
            os.close(ready_fd)
        store.run(stop_fd)


def _say_ready(
    socket_path: Path,
    domains: tuple[tuple[int, Path], ...],
    trace_socket: Path | None,
) -> None:
    if pass_settings().json:
        print_json_line(
            ready=True,
            env={"XENSTORED_PATH": str(socket_path.absolute())},
            domains={str(domid): str(path.absolute()) for domid, path in domains},
            trace=None if trace_socket is None else str(trace_socket.absolute()),
        )
    else:
        for domid, path in domains:
            click.echo(f"# as domain {domid}: {_export(path)}")
        click.echo(_export(socket_path))
        click.echo("ready")
    sys.stdout.flush()


def _export(path: Path) -> str:
    return f"export XENSTORED_PATH={shlex.quote(str(path.absolute()))}"


def _check_different(paths: list[Path], domids: list[int]) -> None:
    absolute = [path.absolute() for path in paths]
    for path in absolute:
        if absolute.count(path) > 1:
            raise UsageError(f"{path} is named twice", hint="a path for each")
    for domid in domids:
        if domids.count(domid) > 1:
            raise UsageError(f"domain {domid} is named twice")


def _check_descriptor(fd: int) -> None:
    try:
        os.fstat(fd)
    except OSError as error:
        raise UsageError(
            f"descriptor {fd} is not open", hint="--ready-fd 3 3>&1, for one"
        ) from error


@contextlib.contextmanager
def _stop_signals() -> Iterator[int]:
    """A descriptor that is readable once the command is to end."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    handlers = {
        number: signal.signal(number, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    previous = signal.set_wakeup_fd(writer)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(previous)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
