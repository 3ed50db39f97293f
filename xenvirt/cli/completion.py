"""completion: click's script for a shell."""

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> None:
    """Print a script that completes commands, and names of domains and vifs.

    For bash: xenvirt completion bash > /etc/bash_completion.d/xenvirt
    """
    kind = get_completion_class(shell)
    assert kind is not None
    root = ctx.find_root()
    program = root.info_name or "xenvirt"
    script = kind(root.command, {}, program, f"_{program.upper()}_COMPLETE")
    click.echo(script.source())
