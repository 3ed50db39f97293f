"""xenstore snapshot and restore: a subtree as text, and the way back."""

import sys
from typing import TextIO

import click

from xenvirt.cli.output import print_json
from xenvirt.cli.settings import pass_settings
from xenvirt.cli.storelib import as_text, connected, failing
from xenvirt.errors import XenvirtError
from xenvirt.xenstore import snapshot
from xenvirt.xenstore.errors import (
    RequestError,
    StoreAgainError,
    StoreQuotaError,
    StoreTooBigError,
)


@click.command("snapshot")
@click.option(
    "-o",
    "--output",
    type=click.File("w", encoding="ascii", lazy=True),
    metavar="FILE",
    help="Write there [default: standard output].",
)
@click.argument("path")
def snapshot_command(output: TextIO | None, path: str) -> None:
    """Write PATH and all below it as text, with permissions and every byte.

    The same tree gives the same text, one line for each node. What is written was
    there at one moment.
    """
    with connected() as store, failing(f"cannot read all of {path}"):
        try:
            taken = store.transact(lambda nodes: snapshot.take(nodes, path))
        except StoreAgainError as error:
            raise XenvirtError(
                f"cannot read {path} as it is at one moment",
                cause="it changes all the time",
            ) from error
    if pass_settings().json:
        print_json(
            path=path,
            nodes=[
                {"path": node.path, "perms": node.perms, "value": as_text(node.value)}
                for node in taken.nodes
            ],
        )
        return
    (output or sys.stdout).write(snapshot.dump(taken))


@click.command("restore")
@click.option("--to", "target", metavar="PATH", help="Instead of where it was taken.")
@click.argument(
    "file", type=click.File("r", encoding="utf-8", errors="surrogateescape")
)
def restore_command(target: str | None, file: TextIO) -> None:
    """Make a subtree again what FILE, a snapshot, says; - is standard input.

    What is there now goes. All is done, or nothing.
    """
    saved = snapshot.load(file.read(), file.name)
    path = target or saved.path
    with connected() as store:
        try:
            store.transact(lambda nodes: snapshot.restore(nodes, saved, path))
        except RequestError as error:
            raise XenvirtError(
                f"cannot restore {path}; nothing was changed",
                cause=f"{error.path}: {_reason(error)}" if error.path else str(error),
            ) from error
    if pass_settings().json:
        print_json(restored=len(saved.nodes), path=path)


def _reason(error: RequestError) -> str:
    match error:
        case StoreQuotaError():
            return "a quota of this client does not let it fit into one transaction"
        case StoreTooBigError():
            return "path and value do not fit into one message"
        case StoreAgainError():
            return "others change it all the time"
    return error.errno_name
