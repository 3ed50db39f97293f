"""demo: the main job, from nothing to iperf3 and back to nothing."""

import contextlib
import time
from collections.abc import Iterator
from functools import partial

import click

from xenvirt.cli.logtail import LogTail
from xenvirt.cli.output import note, print_json, say, table
from xenvirt.cli.settings import Settings, pass_settings, require_root
from xenvirt.errors import NotFoundError
from xenvirt.toolstack import domains, inspect, link, vifs
from xenvirt.toolstack.host import Host, connect
from xenvirt.toolstack.inspect import QueueView, VifView
from xenvirt.toolstack.traffic import Throughput
from xenvirt.toolstack.vifspec import VifSpec

_NAME = "demo"
_PINGS = 5
_INTO = "host -> domain (RX)"
_OUT_OF = "domain -> host (TX)"


@click.command("demo")
@click.option(
    "--time", "seconds", envvar="XENVIRT_DEMO_TIME",
    type=click.IntRange(1, 3600), default=3, show_default=True,
    metavar="S", help="Seconds of iperf3 in each direction.",
)  # fmt: skip
def demo_command(seconds: int) -> None:
    """Make a link, show its handshake, ping and iperf3 across it, and remove it."""
    settings = pass_settings()
    require_root("demo")
    with _host(settings) as host, _link(host, settings) as made:
        address = made.front_addresses[0].partition("/")[0]
        pinged = _ping(address)
        into, out_of = _measure(made.domain.name, address, seconds)
        view = inspect.of_vif(host, made.domain, made.paths)
        _print_rings(view)
        if settings.json:
            print_json(
                link=made, ping=pinged, throughput={"rx": into, "tx": out_of}, vif=view
            )
        _say_step("removing it all")


@contextlib.contextmanager
def _host(settings: Settings) -> Iterator[Host]:
    """Connect to the daemon; end it afterwards if it was started for this."""
    run_dir = settings.find_run_dir()
    try:
        connect(run_dir).close()
        was_running = True
    except NotFoundError:
        was_running = False
    with settings.connect_or_start() as host:
        try:
            yield host
        finally:
            if not was_running and len(domains.list_all(host)) == 1:
                link.wait_for_end(host.hypervisor.shutdown())


@contextlib.contextmanager
def _link(host: Host, settings: Settings) -> Iterator[link.Link]:
    _say_step("the handshake, as the log has it")
    tail = LogTail(
        host.run_dir.log, on=not (settings.quiet or settings.json), is_result=True
    )
    try:
        made = link.up(
            host,
            link.Request(_free_name(host), VifSpec()),
            started=time.monotonic(),
            timeout_s=settings.timeout_s,
            on_event=tail.show,
        )
    finally:
        tail.show()
    try:
        say(
            f"{made.front_ifname} {made.front_addresses[0]} in network namespace "
            f"{made.domain.name} <-> {made.back_ifname} {made.back_addresses[0]} "
            f"on the host: Connected in {made.connected_s * 1000:.0f} ms"
        )
        yield made
    finally:
        domains.destroy(host, made.domain, timeout_s=vifs.CLOSE_TIMEOUT_S)


def _free_name(host: Host) -> str:
    taken = {domain.name for domain in domains.list_all(host)}
    name, number = _NAME, 1
    while name in taken:
        number += 1
        name = f"{_NAME}-{number}"
    return name


def _ping(address: str) -> list[str]:
    from xenvirt.toolstack import traffic

    _say_step(f"ping -c {_PINGS} {address}")
    lines = traffic.ping(address, count=_PINGS)
    for line in lines:
        say(line)
    return lines


def _measure(netns: str, address: str, seconds: int) -> tuple[Throughput, Throughput]:
    from xenvirt.toolstack import traffic

    if traffic.has_iperf3():
        _say_step(f"iperf3, {seconds} s each way")
        measure = partial(traffic.iperf3, netns, address, seconds=seconds)
    else:
        note("iperf3 is not installed (apt-get install iperf3): 256 MiB by TCP instead")
        _say_step("256 MiB by TCP, each way")
        measure = partial(traffic.transfer, netns, address)
    into = _print(_INTO, measure(reverse=False))
    return into, _print(_OUT_OF, measure(reverse=True))


def _print(direction: str, result: Throughput) -> Throughput:
    again = "" if result.retransmits is None else f", {result.retransmits} retransmits"
    say(
        f"{direction}: {result.gbit_per_s:.2f} Gbit/s "
        f"({result.carried_bytes / 1e9:.2f} GB in {result.seconds:.1f} s{again})"
    )
    return result


def _print_rings(view: VifView) -> None:
    _say_step("what each ring carried")
    rows = [
        _ring_row(direction, side, queue)
        for direction in ("tx", "rx")
        for number in range(len(view.rings))
        for side, end in (("frontend", view.front), ("backend", view.back))
        for queue in end.queues
        if queue.queue == number
    ]
    header = (
        "ring",
        "queue",
        "seen by",
        "packets",
        "bytes",
        "GSO",
        "slots",
        "notifications/packet",
    )
    say(table(header, rows))
    say(f"more: xenvirt show {view.domain}, while it is there")


def _ring_row(direction: str, side: str, queue: QueueView) -> tuple[object, ...]:
    counters = queue.counters
    both = counters["tx_packets"] + counters["rx_packets"]
    return (
        direction.upper(),
        queue.queue,
        side,
        counters[f"{direction}_packets"],
        counters[f"{direction}_bytes"],
        counters[f"{direction}_gso_packets"],
        counters[f"{direction}_slots"],
        f"{counters['notify_sent'] / max(1, both):.3f}",
    )


def _say_step(text: str) -> None:
    say(f"\n== {text}")
