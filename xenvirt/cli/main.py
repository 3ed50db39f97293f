"""The command's entry: global options, which module has which command, exit codes."""

import contextlib
import importlib
import os
import sys
from pathlib import Path
from typing import Final

import click

from xenvirt import __version__
from xenvirt.cli.output import print_error
from xenvirt.cli.settings import DEFAULT_TIMEOUT_S, Settings, sudo_command
from xenvirt.errors import NotPermittedError, UsageError, XenvirtError
from xenvirt.hypervisor.detect import found
from xenvirt.hypervisor.interface import HypervisorKind
from xenvirt.toolstack.remedies import remedy

PROGRAM: Final = "xenvirt"

_COMMANDS: Final = {
    "up": "links",
    "down": "links",
    "demo": "demo",
    "create": "domains",
    "destroy": "domains",
    "list": "domains",
    "domid": "domains",
    "domname": "domains",
    "exec": "domains",
    "shell": "domains",
    "network-attach": "vifs",
    "network-list": "vifs",
    "network-detach": "vifs",
    "show": "show",
    "xenstore": "store",
    "daemon": "daemon",
    "backend": "ends",
    "frontend": "ends",
    "completion": "completion",
}
"""Each in the order of --help, with its module, which only it needs."""

_GLOBAL_OPTIONS: Final = (
    "-v", "--verbose", "-q", "--quiet", "-j", "--json", "--run-dir", "--timeout",
    "--hypervisor",
)  # fmt: skip


class LazyGroup(click.Group):
    """A group that imports the module of a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands, in the order in which one comes to need them."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name, None if there is none."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"xenvirt.cli.{_COMMANDS[cmd_name]}")
        command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that `args` begins with; UsageError with a guess."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in _COMMANDS:
            import difflib

            close = difflib.get_close_matches(name, _COMMANDS, n=1)
            guess = f" Did you mean {close[0]}?" if close else ""
            raise click.UsageError(f"No such command {name!r}.{guess}", ctx)
        return super().resolve_command(ctx, args)


@click.command(
    cls=LazyGroup,
    context_settings={
        "auto_envvar_prefix": "XENVIRT",
        "help_option_names": ["-h", "--help"],
    },
)
@click.option("-v", "--verbose", is_flag=True, help="Show the log as it is written.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors alone.")
@click.option(
    "-j", "--json", "as_json", is_flag=True, envvar="XENVIRT_JSON",
    help='Print one JSON object, of "schema": "xenvirt/1".',
)  # fmt: skip
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the daemon's sockets and log are [default: /run/xenvirt].",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.001),
    default=DEFAULT_TIMEOUT_S,
    show_default=True,
    envvar="XENVIRT_TIMEOUT",
    metavar="S",
    help="Seconds in which both ends must have reached a state.",
)
@click.option(
    "--hypervisor",
    type=click.Choice([kind.value for kind in HypervisorKind]),
    help="Which one to use [default: xen where the kernel runs on it].",
)
@click.version_option(__version__, prog_name=PROGRAM)
@click.pass_context
def cli(
    ctx: click.Context,
    verbose: bool,
    quiet: bool,
    as_json: bool,
    run_dir: Path | None,
    timeout_s: float,
    hypervisor: str | None,
) -> None:
    """Xen's split network driver, on plain Linux without Xen, and on Xen.

    `xenvirt up` makes a link; `xenvirt demo` shows one at work. Every option can
    also come from the environment, as in XENVIRT_RUN_DIR or XENVIRT_UP_IP.

    Exit status: 0 done, 1 failed, 2 usage, 3 no such domain or vif, 4 not
    permitted, 5 a state was not reached in time.
    """
    kind = found() if hypervisor is None else HypervisorKind(hypervisor)
    ctx.obj = Settings(verbose, quiet, as_json, run_dir, timeout_s, kind)


def main() -> None:
    """Run the command that was typed, and exit with its status."""
    sys.exit(run(sys.argv[1:]))


def run(args: list[str]) -> int:
    """Run a command line; return its exit status, everything printed."""
    try:
        status = cli.main(args, prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        _print_usage_error(error, as_json=_wants_json(args, error))
        return UsageError.exit_code
    except XenvirtError as error:
        if isinstance(error, NotPermittedError) and "sudo" in error.hint:
            error.hint = sudo_command(sys.argv)
        if not error.hint:
            error.hint = remedy(str(error))
        print_error(error, as_json=_wants_json(args))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # Whoever read the output has seen enough; nothing more may be flushed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        print_error(XenvirtError(what, hint=remedy(what)), as_json=_wants_json(args))
        return 1
    return status if isinstance(status, int) else 0


def _wants_json(args: list[str], error: click.ClickException | None = None) -> bool:
    """Say whether an error is to be JSON; options may not have been parsed yet."""
    ctx = getattr(error, "ctx", None)
    settings = ctx.find_object(Settings) if ctx is not None else None
    if settings is not None:
        return bool(settings.json)
    for arg in args:
        if arg in ("-j", "--json"):
            return True
        if arg in _COMMANDS:
            break
    with contextlib.suppress(click.BadParameter):
        value = os.environ.get("XENVIRT_JSON")
        return bool(value) and bool(click.BOOL.convert(value, None, None))
    return False


def _print_usage_error(error: click.ClickException, *, as_json: bool) -> None:
    if as_json:
        print_error(UsageError(error.format_message()), as_json=True)
        return
    ctx = getattr(error, "ctx", None)
    path = ctx.command_path if ctx is not None else PROGRAM
    hint = f"{path} --help"
    if isinstance(error, click.NoSuchOption) and error.option_name in _GLOBAL_OPTIONS:
        command = path.removeprefix(f"{PROGRAM} ")
        hint = f"{PROGRAM} {error.option_name} {command} …: it comes before {command}"
    print_error(UsageError(error.format_message(), hint=hint), as_json=False)


if __name__ == "__main__":
    main()
