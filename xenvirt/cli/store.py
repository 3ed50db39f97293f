"""xenstore: xenstore-*'s words, options and output."""

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

import click

from xenvirt.abi.xs_wire import XsWire
from xenvirt.cli import storetree
from xenvirt.cli.escapes import escape, unescape
from xenvirt.cli.output import print_json
from xenvirt.cli.settings import pass_settings
from xenvirt.errors import XenvirtError
from xenvirt.toolstack.domain_nodes import remove_if_there
from xenvirt.xenstore import payloads
from xenvirt.xenstore.errors import RequestError, StoreNotFoundError
from xenvirt.xenstore.sync_client import SyncClient, SyncNodes

if TYPE_CHECKING:
    from xenvirt.xenstore.payloads import Value

_TOKEN: Final = "xenvirt"

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])

_prefix = click.option("-p", "prefix", is_flag=True, help="Paths before values.")
_raw = click.option("-R", "raw", is_flag=True, help="Bytes as they are.")


def _socket_option(command: F) -> F:
    """Take -s as xenstore-* does: there is nothing but the socket here."""
    return click.option("-s", "socket", is_flag=True, hidden=True, expose_value=False)(
        command
    )


@click.group("xenstore", short_help="The store: xenstore-*'s words.")
def xenstore_command() -> None:
    """Read, write and watch the store, in the words of xenstore-*.

    Xen's own tools work as well: eval "$(xenvirt xenstore env)".
    """


@xenstore_command.command("ls")
@click.option("-f", "full_path", is_flag=True, help="Whole paths, whole values.")
@click.option("-p", "perms", is_flag=True, help="Permissions.")
@click.argument("path", default="/")
@_socket_option
def ls_command(full_path: bool, perms: bool, path: str) -> None:
    """Print the tree below PATH."""
    with _store() as store, _failing(f"cannot list {path}"):
        found = list(storetree.walk(store, path, perms=perms or pass_settings().json))
    if pass_settings().json:
        print_json(
            nodes=[
                {"path": node.path, "value": _text(node.value), "perms": node.perms}
                for node in found
            ]
        )
        return
    width = storetree.DEFAULT_WIDTH
    if sys.stdout.isatty():
        width = os.get_terminal_size(sys.stdout.fileno()).columns - 2
    for node in found:
        click.echo(storetree.line(node, full_path=full_path, perms=perms, width=width))


@xenstore_command.command("read")
@_prefix
@_raw
@click.argument("path", nargs=-1, required=True)
@_socket_option
def read_command(prefix: bool, raw: bool, path: tuple[str, ...]) -> None:
    """Print the values of nodes; of those before one that cannot be read, too."""
    values: list[tuple[str, bytes]] = []

    def work(nodes: SyncNodes) -> None:
        values.clear()
        for each in path:
            value = _named("couldn't read path", each, nodes.read_bytes)
            values.append((each, value))

    try:
        _transact(work)
    finally:
        if not pass_settings().json:
            for name, value in values:
                before = f"{name}: " if prefix else ""
                shown = value if raw else escape(value).encode()
                click.echo(before.encode() + shown, nl=not raw)
    if pass_settings().json:
        print_json(values={name: _text(value) for name, value in values})


@xenstore_command.command("write", context_settings={"ignore_unknown_options": True})
@_raw
@click.argument("pairs", nargs=-1, required=True, metavar="PATH VALUE…")
@_socket_option
def write_command(raw: bool, pairs: tuple[str, ...]) -> None:
    """Set the values of nodes, all or none."""
    if len(pairs) % 2:
        raise click.UsageError(f"{pairs[-1]} has no value.")
    values: dict[str, Value] = {
        path: os.fsencode(value) if raw else unescape(value)
        for path, value in zip(pairs[::2], pairs[1::2], strict=True)
    }

    def work(nodes: SyncNodes) -> None:
        for path in values:
            _named("could not write path", path, lambda p: nodes.write({p: values[p]}))

    _transact(work)
    if pass_settings().json:
        print_json(written=list(values))


@xenstore_command.command("rm")
@click.option("-t", "tidy", is_flag=True, help="Parents that are left empty as well.")
@click.argument("path", nargs=-1, required=True)
@_socket_option
def rm_command(tidy: bool, path: tuple[str, ...]) -> None:
    """Remove nodes and all that is below them."""

    def work(nodes: SyncNodes) -> None:
        for each in path:
            _named("could not remove path", each, nodes.rm)
            if tidy:
                _tidy(nodes, each)

    _transact(work)
    if pass_settings().json:
        print_json(removed=list(path))


@xenstore_command.command("list")
@_prefix
@click.argument("path", nargs=-1, required=True)
@_socket_option
def list_command(prefix: bool, path: tuple[str, ...]) -> None:
    """Print the names of nodes' children."""
    children: list[tuple[str, list[str]]] = []

    def work(nodes: SyncNodes) -> None:
        children.clear()
        children.extend(
            (each, _named("could not list path", each, nodes.ls)) for each in path
        )

    try:
        _transact(work)
    finally:
        if not pass_settings().json:
            for parent, names in children:
                for name in names:
                    click.echo(f"{parent}/{name}" if prefix else name)
    if pass_settings().json:
        print_json(children=dict(children))


@xenstore_command.command("exists")
@click.argument("path", nargs=-1, required=True)
@_socket_option
@click.pass_context
def exists_command(ctx: click.Context, path: tuple[str, ...]) -> None:
    """Exit with 0 if all nodes are there, with 1 otherwise."""
    there = _transact(lambda nodes: {p: nodes.exists(p) for p in path})
    if pass_settings().json:
        print_json(exists=there)
    ctx.exit(0 if all(there.values()) else 1)


@xenstore_command.command("chmod")
@click.option("-u", "upwards", is_flag=True, help="All nodes above it as well.")
@click.option("-r", "recursive", is_flag=True, help="All nodes below it as well.")
@click.argument("path")
@click.argument("modes", nargs=-1, required=True, metavar="MODE…")
@_socket_option
def chmod_command(
    upwards: bool, recursive: bool, path: str, modes: tuple[str, ...]
) -> None:
    """Set permissions: n0 r1 is domain 0's, and domain 1 may read."""

    def work(nodes: SyncNodes) -> list[str]:
        paths = [path]
        if upwards:
            paths += _ancestors(path)
        if recursive:
            paths += [node.path for node in storetree.walk(nodes, path, perms=False)]
        for each in paths:
            _named(
                "could not set permissions of",
                each,
                lambda p: nodes.set_perms(p, modes),
            )
        return paths

    changed = _transact(work)
    if pass_settings().json:
        print_json(changed=changed)


@xenstore_command.command("watch")
@click.option("-n", "count", type=click.IntRange(min=0), help="End after as many.")
@click.argument("path", nargs=-1, required=True)
@_socket_option
def watch_command(count: int | None, path: tuple[str, ...]) -> None:
    """Print the path of every change at PATH and below; once at first."""
    with _store() as store:
        for each in path:
            with _failing(f"cannot watch {each}"):
                store.request(XsWire.WATCH, payloads.strings(each, _TOKEN), each)
        seen = 0
        while count is None or seen < count:
            changed = store.next_event(_TOKEN, None)
            if pass_settings().json:
                print_json(path=changed)
            else:
                click.echo(changed)
            sys.stdout.flush()
            seen += 1


@xenstore_command.command("env")
def env_command() -> None:
    """Print what xenstore-* need to find the store, for eval."""
    path = str(pass_settings().find_run_dir().xenstored_socket)
    if pass_settings().json:
        print_json(env={"XENSTORED_PATH": path})
        return
    import shlex

    click.echo(f"export XENSTORED_PATH={shlex.quote(path)}")


@contextlib.contextmanager
def _store() -> Iterator[SyncClient]:
    with pass_settings().connect() as host:
        yield host.store


def _transact(work: Callable[[SyncNodes], T]) -> T:
    with _store() as store:
        return store.transact(work)


def _named(what: str, path: str, request: Callable[[str], T]) -> T:
    """Make a request about a path; say in xenstore-*'s words that it failed."""
    try:
        return request(path)
    except RequestError as error:
        raise _failure(f"{what} {path}", error) from error


@contextlib.contextmanager
def _failing(what: str) -> Iterator[None]:
    try:
        yield
    except RequestError as error:
        raise _failure(what, error) from error


def _failure(what: str, error: RequestError) -> XenvirtError:
    number = getattr(errno, error.errno_name, 0)
    return XenvirtError(what, cause=f"{os.strerror(number)} ({error.errno_name})")


def _tidy(nodes: SyncNodes, path: str) -> None:
    for parent in _ancestors(path):
        try:
            if nodes.read_bytes(parent) or nodes.ls(parent):
                return
        except StoreNotFoundError:
            return
        remove_if_there(nodes, parent)


def _ancestors(path: str) -> Sequence[str]:
    """Return the paths above one, the nearest first, without the root."""
    parts = path.split("/")
    above = ("/".join(parts[:end]) for end in range(len(parts) - 1, 0, -1))
    return [parent for parent in above if parent]


def _text(value: bytes | None) -> str | None:
    """Return a value for JSON, which has no bytes: what is not UTF-8 is escaped."""
    return None if value is None else value.decode("utf-8", "backslashreplace")
