"""daemon: hypervisor and XenStore."""

import os
import sys

import click

from xenvirt.cli.output import note, print_json, say
from xenvirt.cli.settings import pass_settings
from xenvirt.toolstack import link


@click.group("daemon", invoke_without_command=True)
@click.option("--foreground", is_flag=True, help="Stay, and log to standard error.")
@click.option("--stop", is_flag=True, help="Take everything down, and end it.")
@click.pass_context
def daemon_command(context: click.Context, foreground: bool, stop: bool) -> None:
    """Start the hypervisor and XenStore; other commands do it when they must."""
    if foreground and stop:
        raise click.UsageError("--foreground and --stop exclude each other.")
    if context.invoked_subcommand is not None:
        if foreground or stop:
            raise click.UsageError(
                f"{context.invoked_subcommand} takes neither --foreground nor --stop."
            )
        return
    settings = pass_settings()
    run_dir = settings.find_run_dir()
    if stop:
        pid = link.stop_daemon(run_dir)
        if pid is None and os.geteuid() == 0:
            from xenvirt.toolstack import leftovers

            if leftovers.clean(run_dir, timeout_s=link.STOP_TIMEOUT_S):
                note(f"xenvirt: {leftovers.REMOVED}")
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


@daemon_command.command("live-update")
@click.option("--force", is_flag=True, help="Abort transactions that do not end.")
@click.option("--abort", is_flag=True, help="Give up an update that waits.")
def live_update(force: bool, abort: bool) -> None:
    """Go on with the code that is on disk now; no client is disconnected.

    Transactions that are open are waited for, --timeout seconds at most.
    """
    if force and abort:
        raise click.UsageError("--force and --abort exclude each other.")
    settings = pass_settings()
    with settings.connect() as host:
        if abort:
            host.store.control("live-update", "-a")
            return
        link.update_daemon(host, timeout_s=settings.timeout_s, force=force)
    if settings.json:
        print_json(updated=True)
    say("the daemon is updated")
