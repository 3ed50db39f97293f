"""xenstore: the store, in xenstore-*'s words and a few more."""

import importlib
import shlex
from pathlib import Path
from typing import Final

import click

from xenvirt.cli.output import print_json
from xenvirt.cli.settings import pass_settings
from xenvirt.cli.storelib import choose_store, store_path

_COMMANDS: Final = {
    "ls": "store_nodes",
    "read": "store_nodes",
    "write": "store_nodes",
    "rm": "store_nodes",
    "list": "store_nodes",
    "exists": "store_nodes",
    "chmod": "store_nodes",
    "watch": "store_watch",
    "snapshot": "store_snapshot",
    "restore": "store_snapshot",
    "trace": "store_watch",
    "features": "store_admin",
    "quota": "store_admin",
    "control": "store_admin",
    "serve": "store_serve",
    "env": "store",
}
"""Each in the order of --help, with its module, which only it needs."""


class StoreGroup(click.Group):
    """A group that imports the module of a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name, None if there is none."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"xenvirt.cli.{_COMMANDS[cmd_name]}")
        command = getattr(module, f"{cmd_name}_command")
        assert isinstance(command, click.Command)
        return command


@click.group("xenstore", cls=StoreGroup, short_help="The store: xenstore-*'s words.")
@click.option(
    "--socket",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The store that listens there [default: XENSTORED_PATH, or the daemon's].",
)
@click.pass_context
def xenstore_command(ctx: click.Context, socket: Path | None) -> None:
    """Read, write and watch the store, in the words of xenstore-*.

    Xen's own tools work as well: eval "$(xenvirt xenstore env)".
    """
    choose_store(ctx, socket)


@click.command("env")
def env_command() -> None:
    """Print what xenstore-* need to find the store, for eval."""
    path = str(store_path())
    if pass_settings().json:
        print_json(env={"XENSTORED_PATH": path})
        return
    click.echo(f"export XENSTORED_PATH={shlex.quote(path)}")
