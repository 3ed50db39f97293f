"""create, destroy, list, domid, domname, exec and shell."""

import os
from collections.abc import Callable
from typing import NoReturn

import click

from xenvirt.abi.ids import DOM0
from xenvirt.cli import names
from xenvirt.cli.output import note, print_json, say
from xenvirt.cli.settings import pass_settings, require_root
from xenvirt.errors import NotFoundError, XenvirtError
from xenvirt.toolstack import domains, runstate
from xenvirt.toolstack.domains import DomainInfo
from xenvirt.toolstack.host import Connection

_HEADER = "Name                                        ID   Mem VCPUs\tState\tTime(s)"
_NOT_FOUND = 127
_NOT_EXECUTABLE = 126


@click.command("create")
@click.option(
    "--bare",
    "is_bare",
    is_flag=True,
    envvar="XENVIRT_CREATE_BARE",
    help="No processes of ours, and no network namespace: the drivers are yours.",
)
@click.argument("name")
def create_command(name: str, is_bare: bool) -> None:
    """Make a domain, without a vif; network-attach plugs some in."""
    settings = pass_settings()
    domains.check_new_name(name)
    with settings.connect_or_start() as host:
        domain = domains.create(host, name, bare=is_bare)
    if settings.json:
        print_json(domain=domain)
    say(f"{domain.name}: domain {domain.domid}")


@click.command("destroy")
@click.argument("domain", shell_complete=names.domain_names)
def destroy_command(domain: str) -> None:
    """Take a domain down, with its vifs."""
    settings = pass_settings()
    with settings.connect() as host:
        found = domains.find(host, domain)
        domains.destroy(host, found, timeout_s=settings.timeout_s)
    if settings.json:
        print_json(destroyed=[found.name])


@click.command("list")
@click.option(
    "-l",
    "--long",
    "is_long",
    is_flag=True,
    envvar="XENVIRT_LIST_LONG",
    help="Everything, as JSON.",
)
@click.argument("domain", nargs=-1, shell_complete=names.domain_names)
def list_command(is_long: bool, domain: tuple[str, ...]) -> None:
    """List domains, in xl's columns.

    State: r runs, b sleeps, p stopped by a signal, s without a process.
    """
    settings = pass_settings()
    with settings.connect() as host:
        found = domains.list_all(host)
        if domain:
            found = [domains.find_in(found, name) for name in domain]
        if settings.json or is_long:
            print_json(domains=[_details(host, d, is_long=is_long) for d in found])
            return
        click.echo(_HEADER)
        for each in found:
            click.echo(_row(host, each))


@click.command("domid")
@click.argument("name", shell_complete=names.domain_names)
def domid_command(name: str) -> None:
    """Print the number of a domain."""
    _print_domain(name, lambda domain: str(domain.domid))


@click.command("domname")
@click.argument("domid")
def domname_command(domid: str) -> None:
    """Print the name of a domain."""
    _print_domain(domid, lambda domain: domain.name)


@click.command(
    "exec",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("domain", shell_complete=names.domain_names)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_command(domain: str, command: tuple[str, ...]) -> None:
    """Run a command in a domain's network namespace.

    The exit status is the command's: 127 if there is none, 126 if it cannot run.
    """
    require_root("exec")
    if command[0] == "--":
        command = command[1:]
    if not command:
        raise click.UsageError("There is no command after --.")
    _enter(domain)
    _execute(command, os.environ.copy())


@click.command("shell")
@click.argument("domain", shell_complete=names.domain_names)
def shell_command(domain: str) -> None:
    """Start a shell in a domain's network namespace."""
    require_root("shell")
    name = _enter(domain)
    note(f"a shell in {name}'s network namespace; `exit` leaves it")
    shell = os.environ.get("SHELL") or "/bin/sh"
    # Debian's prompt shows it.
    _execute((shell,), os.environ | {"debian_chroot": name})


def _row(host: Connection, domain: DomainInfo) -> str:
    mem_mib = domains.resident_kib(host, domain.domid) // 1024
    vcpus = runstate.vcpus(domain)
    state = runstate.of_domain(domain)
    return (
        f"{domain.name:<40} {domain.domid:>5} {mem_mib:>5} {vcpus:>5}     "
        f"{state.letters}  {state.cpu_time_s:>8.1f}"
    )


def _details(
    host: Connection, domain: DomainInfo, *, is_long: bool
) -> dict[str, object]:
    state = runstate.of_domain(domain)
    details: dict[str, object] = {
        "name": domain.name,
        "domid": domain.domid,
        "uuid": domain.uuid,
        "created": domain.created,
        "mem_mib": domains.resident_kib(host, domain.domid) // 1024,
        "vcpus": runstate.vcpus(domain),
        "state": state.letters,
        "cpu_time_s": state.cpu_time_s,
        "ends": list(domain.ends),
    }
    if is_long:
        from xenvirt.toolstack import inspect

        details["vifs"] = inspect.of_domain(host, domain)
    return details


def _print_domain(text: str, shown: Callable[[DomainInfo], str]) -> None:
    settings = pass_settings()
    with settings.look() as host:
        domain = domains.find(host, text)
    if settings.json:
        print_json(name=domain.name, domid=domain.domid)
    else:
        click.echo(shown(domain))


def _enter(text: str) -> str:
    from xenvirt.netdev import namespaces

    settings = pass_settings()
    if settings.on_xen:
        from xenvirt.toolstack import xen_links

        with settings.look() as xen:
            name = xen_links.find(xen, text).name
        namespaces.enter(name)
        return name
    with settings.connect() as host:
        domain = domains.find(host, text)
    if domain.domid != DOM0:
        try:
            namespaces.enter(domain.name)
        except NotFoundError as error:
            raise NotFoundError(
                f"domain {domain.name} has no network namespace",
                cause="it is bare, its daemon does not run as root, or it was deleted",
            ) from error
    return domain.name


def _execute(command: tuple[str, ...], environment: dict[str, str]) -> NoReturn:
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        failure = XenvirtError(f"cannot run {command[0]}", cause=error.strerror or "")
        missing = isinstance(error, FileNotFoundError)
        failure.exit_code = _NOT_FOUND if missing else _NOT_EXECUTABLE
        raise failure from error
