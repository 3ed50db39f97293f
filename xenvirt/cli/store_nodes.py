"""xenstore ls, read, write, rm, list, exists, chmod: as xenstore-*, and with JSON."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import click

from xenvirt.cli import storetree
from xenvirt.cli.output import print_json
from xenvirt.cli.settings import pass_settings
from xenvirt.cli.storelib import as_text, connected, failing, named, transact
from xenvirt.errors import UsageError, XenvirtError
from xenvirt.xenstore.errors import RequestError
from xenvirt.xenstore.escapes import escape, unescape
from xenvirt.xenstore.sync_client import SyncNodes
from xenvirt.xenstore.tree import walk

if TYPE_CHECKING:
    from xenvirt.xenstore.payloads import Value

F = TypeVar("F", bound=Callable[..., object])

_prefix = click.option("-p", "--prefix", is_flag=True, help="Paths before values.")
_raw = click.option("-R", "--raw", is_flag=True, help="Bytes as they are.")


def _socket_option(command: F) -> F:
    """Take -s as xenstore-* does: there is nothing but the socket here."""
    return click.option("-s", "socket", is_flag=True, hidden=True, expose_value=False)(
        command
    )


@click.command("ls")
@click.option("-f", "--flat", is_flag=True, help="Whole paths, whole values.")
@click.option("-p", "--prefix", is_flag=True, help="Permissions.")
@click.argument("path", nargs=-1)
@_socket_option
def ls_command(flat: bool, prefix: bool, path: tuple[str, ...]) -> None:
    """Print the trees below each PATH, which is / if none is given."""
    as_json = pass_settings().json
    width = None if flat else storetree.DEFAULT_WIDTH
    if sys.stdout.isatty():
        width = os.get_terminal_size(sys.stdout.fileno()).columns - 2
    found = []
    with connected() as store:
        for each in path or ("/",):
            with failing(f"cannot list {each}"):
                for node in walk(store, each, perms=prefix or as_json):
                    if as_json:
                        found.append(node)
                        continue
                    sys.stdout.write(
                        storetree.line(node, full_path=flat, perms=prefix, width=width)
                        + "\n"
                    )
    if as_json:
        print_json(
            nodes=[
                {"path": node.path, "value": as_text(node.value), "perms": node.perms}
                for node in found
            ]
        )


@click.command("read")
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
            value = named("couldn't read path", each, nodes.read_bytes)
            values.append((each, value))

    try:
        transact(work)
    finally:
        if not pass_settings().json:
            for name, value in values:
                before = f"{name}: " if prefix else ""
                shown = value if raw else escape(value).encode()
                click.echo(before.encode() + shown, nl=not raw)
    if pass_settings().json:
        print_json(values={name: as_text(value) for name, value in values})


@click.command("write", context_settings={"ignore_unknown_options": True})
@_raw
@click.argument("pairs", nargs=-1, required=True, metavar="PATH VALUE…")
@_socket_option
def write_command(raw: bool, pairs: tuple[str, ...]) -> None:
    """Set the values of nodes, all or none."""
    if len(pairs) % 2:
        raise click.UsageError(f"{pairs[-1]} has no value.")
    values: list[tuple[str, Value]] = [
        (path, os.fsencode(value) if raw else unescape(value))
        for path, value in zip(pairs[::2], pairs[1::2], strict=True)
    ]

    def work(nodes: SyncNodes) -> None:
        for path, value in values:
            with failing(f"could not write path {path}"):
                nodes.write({path: value})

    transact(work)
    if pass_settings().json:
        print_json(written=[path for path, _ in values])


@click.command("rm")
@click.option("-t", "--tidy", is_flag=True, help="Parents that are left empty as well.")
@click.argument("path", nargs=-1, required=True)
@_socket_option
def rm_command(tidy: bool, path: tuple[str, ...]) -> None:
    """Remove nodes and all that is below them."""

    def work(nodes: SyncNodes) -> None:
        for each in path:
            named("could not remove path", each, nodes.rm)
            if tidy:
                _tidy(nodes, each)

    transact(work)
    if pass_settings().json:
        print_json(removed=list(path))


@click.command("list")
@_prefix
@click.argument("path", nargs=-1, required=True)
@_socket_option
def list_command(prefix: bool, path: tuple[str, ...]) -> None:
    """Print the names of nodes' children."""
    children: list[tuple[str, list[str]]] = []

    def work(nodes: SyncNodes) -> None:
        children.clear()
        children.extend(
            (each, named("could not list path", each, nodes.ls)) for each in path
        )

    try:
        transact(work)
    finally:
        if not pass_settings().json:
            for parent, names in children:
                for name in names:
                    click.echo(f"{parent}/{name}" if prefix else name)
    if pass_settings().json:
        print_json(children=dict(children))


@click.command("exists")
@click.argument("path", nargs=-1, required=True)
@_socket_option
@click.pass_context
def exists_command(ctx: click.Context, path: tuple[str, ...]) -> None:
    """Exit with 0 if all nodes are there and can be read, with 1 otherwise."""
    there = transact(lambda nodes: {p: _can_be_read(nodes, p) for p in path})
    if pass_settings().json:
        print_json(exists=there)
    ctx.exit(0 if all(there.values()) else 1)


@click.command("chmod")
@click.option("-u", "--upto", is_flag=True, help="All nodes above it as well.")
@click.option("-r", "--recurse", is_flag=True, help="All nodes below it as well.")
@click.argument("path")
@click.argument("modes", nargs=-1, required=True, metavar="MODE…")
@_socket_option
def chmod_command(upto: bool, recurse: bool, path: str, modes: tuple[str, ...]) -> None:
    """Set permissions: n0 r1 is domain 0's, and domain 1 may read."""
    if upto and not path.startswith("/"):
        raise XenvirtError(f"what is above {path} is not in its path")
    for mode in modes:
        if mode[:1] not in ("n", "r", "w", "b") or not mode[1:].isdecimal():
            raise UsageError(
                f"{mode} is no permission",
                hint="a letter of n, r, w, b and a domid: r1",
            )

    def work(nodes: SyncNodes) -> list[str]:
        paths = [path]
        if upto:
            paths += _ancestors(path)
        if recurse:
            paths += [node.path for node in walk(nodes, path, perms=False)]
        for each in paths:
            named(
                "could not set permissions of",
                each,
                lambda p: nodes.set_perms(p, modes),
            )
        return paths

    changed = transact(work)
    if pass_settings().json:
        print_json(changed=changed)


def _can_be_read(nodes: SyncNodes, path: str) -> bool:
    try:
        nodes.read_bytes(path)
    except RequestError:
        return False
    return True


def _tidy(nodes: SyncNodes, path: str) -> None:
    for parent in _ancestors(path):
        try:
            if nodes.read_bytes(parent) or nodes.ls(parent):
                return
        except RequestError:
            return
        named("could not remove path", parent, nodes.rm)


def _ancestors(path: str) -> Sequence[str]:
    """Return the paths above one, the nearest first, without the root."""
    parts = path.split("/")
    above = ("/".join(parts[:end]) for end in range(len(parts) - 1, 0, -1))
    return [parent for parent in above if parent]
