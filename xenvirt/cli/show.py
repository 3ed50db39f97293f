"""show: everything that can be seen of a vif."""

from collections.abc import Iterator

import click

from xenvirt.abi.ids import DOM0
from xenvirt.cli import names
from xenvirt.cli.output import fields, print_json, table
from xenvirt.cli.settings import pass_settings
from xenvirt.toolstack import domains, inspect, vifs
from xenvirt.toolstack.host import Connection
from xenvirt.toolstack.inspect import ChannelView, EndView, QueueView, VifView
from xenvirt.vif import rate

_NOTHING = "nothing"


@click.command("show")
@click.argument(
    "vif", default="", metavar="[DOM[/DEVID]]", shell_complete=names.vif_names
)
@click.option(
    "-a",
    "--all",
    "all_counters",
    is_flag=True,
    envvar="XENVIRT_SHOW_ALL",
    help="Counters of 0 too.",
)
def show_command(vif: str, all_counters: bool) -> None:
    """Show both ends of vifs: states, features, rings, event channels, counters.

    TX is frontend to backend, RX backend to frontend, at both ends.
    """
    settings = pass_settings()
    with settings.look() as host:
        views = _views(host, _vif_of_link(host, vif) if settings.on_xen else vif)
    if pass_settings().json:
        print_json(vifs=views)
        return
    click.echo("\n\n".join(describe(v, all_counters=all_counters) for v in views))


def _vif_of_link(host: Connection, text: str) -> str:
    """Return the vif of a link within one domain of Xen; other text as it is."""
    from xenvirt.toolstack import xen_links

    if text not in xen_links.names(host):
        return text
    record = xen_links.find(host, text)
    return f"{record.domid}/{record.devid}"


def describe(view: VifView, *, all_counters: bool = False) -> str:
    """Return a vif in lines for people."""
    parts = [
        f"{view.domain}/{view.devid}: domain {view.domid} <-> domain {view.back.domid}",
        fields(_fields(view), indent=2),
    ]
    counters = _counters(view, all_counters=all_counters)
    if counters:
        parts.append(counters)
    return "\n".join(parts)


def _views(host: Connection, text: str) -> list[VifView]:
    name, slash, devid = text.partition("/")
    if not name:
        return [
            view
            for domain in domains.list_all(host)
            if domain.domid != DOM0
            for view in inspect.of_domain(host, domain)
        ]
    domain = domains.find(host, name)
    if not slash:
        return inspect.of_domain(host, domain)
    paths = vifs.find(host.store, domain.domid, devid)
    return [inspect.of_vif(host, domain, paths)]


def _fields(view: VifView) -> Iterator[tuple[str, object]]:
    yield "frontend", _end(view.front)
    yield "", view.frontend_path
    yield "backend", _end(view.back)
    yield "", view.backend_path
    yield "waiting", view.waiting or None
    yield "frontend error", view.front.error
    yield "backend error", view.back.error
    yield "hotplug-status", view.hotplug_status or None
    yield "hotplug-error", view.hotplug_error
    yield "mtu", view.mtu
    yield "bridge", view.bridge
    yield "script", view.script
    yield "rate", _rate(view.rate)
    if len(view.rings) > 1:
        yield "queues", len(view.rings)
    for rings in view.rings:
        if rings.tx_ring_ref is not None:
            key = _queue_key("ring refs", rings.queue, view)
            yield key, f"TX {rings.tx_ring_ref}  RX {rings.rx_ring_ref}"
    for channel in view.event_channels:
        yield channel.key, _channel(channel)
    yield "TX may have", _offers(view.back)
    yield "RX may have", _offers(view.front)
    for side, end in (("frontend", view.front), ("backend", view.back)):
        for queue in end.queues:
            yield f"{side} ring {queue.queue}", _indices(queue)
            yield f"{side} broken", queue.broken
            yield f"{side} stalled", _stalled(queue)


def _queue_key(name: str, queue: int, view: VifView) -> str:
    """Return a line's name, with the queue's path where there are several."""
    return f"queue-{queue}/{name}" if len(view.rings) > 1 else name


def _channel(channel: ChannelView) -> str:
    front = f"{channel.front_port} (frontend)"
    if not channel.is_seen:
        return front
    back_port = "not bound" if channel.back_port is None else channel.back_port
    return f"{front} <-> {back_port} (backend)"


def _end(end: EndView) -> str:
    process = "no process"
    if end.process is not None and end.process.pid is not None:
        process = f"pid {end.process.pid}"
    if end.process is not None and end.process.restarts:
        process += f", started again {end.process.restarts} times"
    words = (end.ifname or "no interface", end.mac, end.state, f"({process})")
    return "  ".join(word for word in words if word)


def _offers(end: EndView) -> str | None:
    if not end.features:
        return None
    return " ".join(name for name, on in end.takes.items() if on) or _NOTHING


def _indices(queue: QueueView) -> str:
    return "  ".join(f"{name} {value}" for name, value in queue.indices.items())


def _rate(text: str | None) -> str | None:
    if text is None:
        return None
    credit = rate.parse(text)
    if credit is None:
        return f"none, as {text} is not BYTES,MICROSECONDS"
    if credit.usec == 0:
        return text
    return f"{8 * credit.nr_bytes / credit.usec:g} Mb/s in each queue ({text})"


def _stalled(queue: QueueView) -> str | None:
    return "the frontend posts no RX buffers" if queue.rx_stalled else None


def _counters(view: VifView, *, all_counters: bool) -> str:
    front, back = _totals(view.front), _totals(view.back)
    if not front and not back:
        return ""
    rows = [
        (f"  {name}", front.get(name, 0), back.get(name, 0))
        for name in front or back
        if all_counters or front.get(name) or back.get(name)
    ]
    return table(("  counter", "frontend", "backend"), rows)


def _totals(end: EndView) -> dict[str, int]:
    totals: dict[str, int] = {}
    for queue in end.queues:
        for name, value in queue.counters.items():
            totals[name] = totals.get(name, 0) + value
    return totals
