"""up and down: a link in one command."""

import time

import click

from xenvirt.cli import names
from xenvirt.cli.output import note, print_json, say
from xenvirt.cli.settings import Settings, pass_settings, require_root
from xenvirt.errors import NotFoundError
from xenvirt.toolstack import link, vifspec
from xenvirt.toolstack.host import connect


@click.command("up")
@click.argument(
    "words", nargs=-1, metavar="[NAME] [KEY=VALUE]…", shell_complete=names.vif_keys
)
@click.option(
    "--ip",
    multiple=True,
    metavar="A/24",
    help="The frontend's address; again for more.",
)
@click.option(
    "--peer-ip",
    multiple=True,
    metavar="B/24",
    help="The backend's address; again for more.",
)
def up_command(
    words: tuple[str, ...], ip: tuple[str, ...], peer_ip: tuple[str, ...]
) -> None:
    """Make a link: a domain, a vif, and addresses at both ends.

    The frontend is xennet0 in a network namespace of NAME, the backend xvifNi0 on
    the host. Without addresses both ends get some of a free 10.x.y.0/24; with
    bridge= there are none. Keys are those of network-attach.
    """
    started = time.monotonic()
    settings = pass_settings()
    name, keys = _split(words)
    request = link.Request(name, vifspec.parse(keys), ip, peer_ip)
    link.check(request)
    require_root("up")
    for warning in request.spec.warnings:
        note(f"xenvirt: {warning}")
    made = _up(settings, request, started)
    if settings.json:
        print_json(link=made)
    _print_link(made)


def _up(settings: Settings, request: link.Request, started: float) -> link.Link:
    tail = settings.log_tail()
    timeout_s = settings.timeout_s
    try:
        if settings.on_xen:
            from xenvirt.toolstack import xen_links

            with settings.look() as xen:
                return xen_links.up(
                    xen,
                    request,
                    started=started,
                    timeout_s=timeout_s,
                    on_event=tail.show,
                )
        with settings.connect_or_start() as host:
            return link.up(
                host,
                request,
                started=started,
                timeout_s=timeout_s,
                on_event=tail.show,
            )
    finally:
        tail.show()


@click.command("down")
@click.argument("name", nargs=-1, shell_complete=names.domain_names)
@click.option(
    "--all",
    "all_links",
    is_flag=True,
    envvar="XENVIRT_DOWN_ALL",
    help="Every domain there is.",
)
def down_command(name: tuple[str, ...], all_links: bool) -> None:
    """Remove links, and what a crashed run left; one that is gone is no error."""
    settings = pass_settings()
    if bool(name) == all_links:
        raise click.UsageError("Give the names of links, or --all.")
    require_root("down")
    removed = _down_on_xen(settings, name) if settings.on_xen else _down(settings, name)
    if settings.json:
        print_json(removed=removed)
    for each in removed:
        say(f"{each}: removed")


def _down(settings: Settings, name: tuple[str, ...]) -> list[str]:
    """Remove links, all if none is named; return the names of those that were there."""
    run_dir = settings.find_run_dir()
    timeout_s = settings.timeout_s
    try:
        host = connect(run_dir)
    except NotFoundError:
        from xenvirt.toolstack import leftovers

        if leftovers.clean(run_dir, timeout_s=link.STOP_TIMEOUT_S):
            say(leftovers.REMOVED)
        return []
    with host:
        if not name:
            return link.down_all(host, timeout_s=timeout_s)
        return [each for each in name if link.down(host, each, timeout_s=timeout_s)]


def _down_on_xen(settings: Settings, name: tuple[str, ...]) -> list[str]:
    from xenvirt.toolstack import xen_links

    with settings.look() as xen:
        if not name:
            return xen_links.down_all(xen, timeout_s=settings.timeout_s)
        timeout_s = settings.timeout_s
        return [e for e in name if xen_links.down(xen, e, timeout_s=timeout_s)]


def _split(words: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Part the name, which may come first, from the keys of the vif."""
    if words and "=" not in words[0] and words[0] not in ("trusted", "untrusted"):
        return words[0], words[1:]
    return None, words


def _print_link(made: link.Link) -> None:
    name = made.domain.name
    front = " ".join((made.front_ifname, *made.front_addresses))
    back = " ".join((made.back_ifname, *made.back_addresses))
    say(
        f"{name}: {front} (namespace {name}) <-> {back} (host)  "
        f"Connected in {made.connected_s * 1000:.0f} ms"
    )
    if made.front_addresses:
        say(f"  try  ping {made.front_addresses[0].partition('/')[0]}")
    else:
        say(f"  try  xenvirt exec {name} -- ip addr add A/24 dev {made.front_ifname}")
    say(f"       xenvirt shell {name}")
    say(f"       xenvirt show {name}")
    say(f"       xenvirt down {name}")
