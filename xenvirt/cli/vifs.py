"""network-attach, network-list and network-detach."""

import click

from xenvirt.cli import names
from xenvirt.cli.output import note, print_json, say
from xenvirt.cli.settings import pass_settings, require_root
from xenvirt.errors import StateTimeoutError, UsageError
from xenvirt.toolstack import domains, vif_nodes, vifs, vifspec
from xenvirt.toolstack.domains import DomainInfo
from xenvirt.toolstack.host import Connection
from xenvirt.toolstack.vif_nodes import VifPaths

_HEADER = (
    f"{'Idx':<3} {'BE':<2} {'Mac Addr.':<17} {'handle':<6} {'state':<5} "
    f"{'evt-ch':<6} {'tx-':>5}/{'rx-ring-ref':<5} {'BE-path':<30}"
)


@click.command("network-attach")
@click.argument("domain", shell_complete=names.domain_names)
@click.argument("keys", nargs=-1, shell_complete=names.vif_keys, metavar="[KEY=VALUE]…")
def network_attach_command(domain: str, keys: tuple[str, ...]) -> None:
    """Plug a vif into a running domain.

    Keys are xl's: mac, bridge, script, ip, backend, rate, mtu, vifname, devid, type,
    model, trusted, gatewaydev, vlan. Our own are queues, 1 to 8 and else one for
    each CPU; x-front-without and x-back-without, which take features away from an
    end: sg, gso, csum, split, with / between.
    """
    settings = pass_settings()
    spec = vifspec.parse(keys)
    require_root("network-attach")
    for warning in spec.warnings:
        note(f"xenvirt: {warning}")
    with settings.connect() as host:
        found = domains.find(host, domain)
        if found.domid == 0:
            raise UsageError(f"{found.name} is the host and has no vifs of its own")
        tail = settings.log_tail()
        try:
            paths = vifs.attach(
                host,
                domains.plan_vif(host, found, spec),
                timeout_s=settings.timeout_s,
                on_event=tail.show,
            )
        finally:
            tail.show()
        row = _row(host, found, paths)
    if settings.json:
        print_json(vif=row)
    say(f"{found.name}/{paths.devid}: {row['ifname'] or 'vif'} is Connected")


@click.command("network-list")
@click.argument("domain", nargs=-1, required=True, shell_complete=names.domain_names)
def network_list_command(domain: tuple[str, ...]) -> None:
    """List a domain's vifs, in xl's columns."""
    settings = pass_settings()
    with settings.look() as host:
        known = domains.list_all(host)
        rows = [
            _row(host, found, paths)
            for found in [domains.find_in(known, name) for name in domain]
            for paths in vifs.list_of(host.store, found.domid)
        ]
    if settings.json:
        print_json(vifs=rows)
        return
    click.echo(_HEADER)
    for row in rows:
        click.echo(
            f"{row['devid']:<3} {row['backend_id']:<2} {row['mac']}"
            f"{row['devid']:>6} {row['state']:>5} {row['evtchn']:>6} "
            f"{row['tx_ring_ref']:>5}/{row['rx_ring_ref']:<11} {row['backend']:<30}"
        )


@click.command("network-detach")
@click.argument("domain", shell_complete=names.domain_names)
@click.argument("vif", shell_complete=names.devids, metavar="DEVID|MAC")
def network_detach_command(domain: str, vif: str) -> None:
    """Unplug a vif from a running domain."""
    settings = pass_settings()
    require_root("network-detach")
    with settings.connect() as host:
        found = domains.find(host, domain)
        paths = vifs.find(host.store, found.domid, vif)
        closed = vifs.detach(host, paths, timeout_s=settings.timeout_s)
    if not closed:
        raise StateTimeoutError(
            f"the backend of {found.name}/{paths.devid} did not become Closed within "
            f"{settings.timeout_s:g} s",
            cause="its nodes were removed all the same",
            hint="the log in the run directory shows what its processes do",
        )
    if settings.json:
        print_json(detached={"domain": found.name, "devid": paths.devid})


def _row(host: Connection, domain: DomainInfo, paths: VifPaths) -> dict[str, object]:
    """Return a vif as xl's network-list shows it; numbers that are missing are -1.

    Of several queues the first is shown, of which xl knows nothing.
    """
    front = vif_nodes.read_frontend(host.store, paths)
    back = vif_nodes.read_directory(host.store, paths.backend)
    first = vif_nodes.queue_prefixes(front)[0]
    channels = (f"{first}event-channel", f"{first}event-channel-tx")
    return {
        "domain": domain.name,
        "domid": domain.domid,
        "devid": paths.devid,
        "backend_id": paths.backend_id,
        "mac": vif_nodes.read_or_none(host.store, f"{paths.libxl}/mac") or "",
        "state": _number(front, "state"),
        "evtchn": _number(front, *channels),
        "tx_ring_ref": _number(front, f"{first}tx-ring-ref"),
        "rx_ring_ref": _number(front, f"{first}rx-ring-ref"),
        "backend": paths.backend,
        "ifname": back.get("vifname"),
    }


def _number(directory: dict[str, str], *keys: str) -> int:
    for key in keys:
        text = directory.get(key, "")
        if text.isascii() and text.isdigit():
            return int(text)
    return -1
