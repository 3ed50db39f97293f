"""daemon: hypervisor and XenStore."""

import sys

import click

from xenvirt.cli.output import print_json, say
from xenvirt.cli.settings import pass_settings
from xenvirt.toolstack import link


@click.command("daemon")
@click.option("--foreground", is_flag=True, help="Stay, and log to standard error.")
@click.option("--stop", is_flag=True, help="Take everything down, and end it.")
def daemon_command(foreground: bool, stop: bool) -> None:
    """Start the hypervisor and XenStore; other commands do it when they must."""
    if foreground and stop:
        raise click.UsageError("--foreground and --stop exclude each other.")
    settings = pass_settings()
    run_dir = settings.find_run_dir()
    if stop:
        pid = link.stop_daemon(run_dir)
        if settings.json:
            print_json(stopped=pid)
        elif pid is None:
            say(f"no daemon runs in {run_dir.path}")
        return
    from xenvirt.toolstack.daemon import ensure_daemon, run_daemon

    if foreground:
        status = run_daemon(run_dir, foreground=True, debug=settings.verbose)
        sys.exit(status)
    ensure_daemon(run_dir).close()
    if settings.json:
        print_json(run_dir=str(run_dir.path))
    say(f"a daemon runs in {run_dir.path}; its log is {run_dir.log}")
