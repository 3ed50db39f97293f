"""Real traffic: ping, iperf3 over IPv4 and IPv6, and a file whose hash is the same."""

import json
import os
import socket
import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.integration.links import ON_XEN, Link, LinkMaker
from tests.integration.transfer import Receiver, transfer
from tests.perf.native_program import compile_program
from xenvirt.netdev import namespaces

pytestmark = pytest.mark.root

NEAR4, FAR4 = "10.214.1.1", "10.214.1.2"
NEAR6, FAR6 = "fd00:214::1", "fd00:214::2"
SIZE = 1 << 26 if ON_XEN else 1 << 30
"""Bytes; the lab's processors are emulated, and a hundred times slower."""

BUSY_BYTES = 1_000_000 if ON_XEN else 10_000_000
"""What TCP carries at least in its seconds."""

SECONDS = 1 if ON_XEN else 2
UDP_RATE = "2M" if ON_XEN else "50M"

UDP_SEGMENT = 103
"""linux/udp.h."""

SEGMENT, SEGMENTS = 1000, 40

# What may count while all is well.
HARMLESS = {
    "tx_packets", "tx_bytes", "tx_gso_packets", "tx_slots", "tx_ring_full",
    "rx_packets", "rx_bytes", "rx_gso_packets", "rx_slots", "rx_no_slots",
    "notify_sent", "wakeups", "spurious_events",
}  # fmt: skip


@pytest.fixture(scope="module")
def link(module_links: LinkMaker) -> Link:
    link = module_links.up("traffic", "--ip", f"{FAR4}/24", "--peer-ip", f"{NEAR4}/24")
    inside = ("ip", "-n", link.netns)
    for command in (
        (*inside, "address", "add", f"{FAR6}/64", "dev", link.far, "nodad"),
        ("ip", "address", "add", f"{NEAR6}/64", "dev", link.near, "nodad"),
    ):
        subprocess.run(command, check=True)
    return link


def errors(links: LinkMaker, link: Link) -> dict[str, int]:
    return {
        f"{side} {name}": value
        for side, counters in links.counters(link).items()
        for name, value in counters.items()
        if value and name not in HARMLESS
    }


def taps_dropped(link: Link) -> int:
    """Frames that Linux had no room for in the queues of the TAPs of both ends."""
    show = ("-j", "-s", "link", "show")
    return sum(
        json.loads(subprocess.check_output(["ip", *where, *show, name]))[0]["stats64"][
            "tx"
        ]["dropped"]
        for where, name in (((), link.near), (("-n", link.netns), link.far))
    )


def iperf3(
    link: Link, address: str, *options: str, seconds: int = SECONDS
) -> dict[str, Any]:
    """Run a client here against a server in the domain; what iperf3 says at the end."""
    server = subprocess.Popen(
        ["ip", "netns", "exec", link.netns, "iperf3", "-s", "-1", "--forceflush"],
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        try:
            assert server.stdout is not None
            assert any("listening" in line for line in server.stdout)
            done = subprocess.run(
                ["iperf3", "-J", "-c", address, "-t", str(seconds), *options],
                capture_output=True,
                text=True,
                check=True,
                timeout=seconds + 30,
            )
        finally:
            server.kill()
    end: dict[str, Any] = json.loads(done.stdout)["end"]
    return end


@pytest.mark.parametrize("address", [FAR4, FAR6])
def test_ping(link: Link, address: str) -> None:
    done = subprocess.run(
        ["ping", "-c", "20", "-i", "0.01", "-w", "10", address], capture_output=True
    )
    assert b" 0% packet loss" in done.stdout, done.stdout


@pytest.mark.parametrize("address", [FAR4, FAR6])
@pytest.mark.parametrize("direction", ["", "-R", "--bidir"])
def test_tcp(module_links: LinkMaker, link: Link, address: str, direction: str) -> None:
    end = iperf3(link, address, *([direction] if direction else []))
    assert end["sum_received"]["bytes"] > BUSY_BYTES
    assert errors(module_links, link) == {}


@pytest.mark.parametrize("address", [FAR4, FAR6])
@pytest.mark.parametrize("direction", ["", "-R", "--bidir"])
def test_udp_at_a_rate_that_it_bears_loses_nothing(
    module_links: LinkMaker, link: Link, address: str, direction: str
) -> None:
    """Of what the link took; a queue of Linux's before and after it may run over.

    A socket's, which is not counted here, or a TAP's whose end had no processor.
    """
    options = ["-u", "-b", UDP_RATE, "-l", "1400", *([direction] if direction else [])]
    before, dropped = module_links.counters(link), taps_dropped(link)
    end = iperf3(link, address, *options)
    after, dropped = module_links.counters(link), taps_dropped(link) - dropped
    passed = {
        (side, ring): after[side][f"{ring}_packets"] - before[side][f"{ring}_packets"]
        for side in ("front", "back")
        for ring in ("tx", "rx")
    }
    assert passed["front", "tx"] == passed["back", "tx"]
    assert passed["front", "rx"] == passed["back", "rx"]
    assert sum(passed.values()) // 2 + dropped >= end["sum"]["packets"] > 0
    assert errors(module_links, link) == {}


@pytest.fixture(scope="module")
def udp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sender that is faster than a ring, which iperf3 is not."""
    return compile_program(tmp_path_factory.mktemp("udp"), "udp.c")


@pytest.mark.skipif(ON_XEN, reason="the lab's processors cannot load a ring")
@pytest.mark.parametrize("ring", ["tx", "rx"])
def test_a_ring_under_full_load_hardly_notifies(
    module_links: LinkMaker, link: Link, udp: Path, ring: str
) -> None:
    here, domain = f"/proc/{os.getpid()}/ns/net", f"/run/netns/{link.netns}"
    way = (domain, here, NEAR4) if ring == "tx" else (here, domain, FAR4)
    before = module_links.counters(link)
    # Ahead of other programs of the machine, or the ring would wait for the sender.
    command = ("nice", "-n", "-20", udp, *way, "22", "0", str(SECONDS))
    subprocess.run(command, check=True)
    after = module_links.counters(link)
    for side in ("front", "back"):
        grown = {name: n - before[side][name] for name, n in after[side].items()}
        assert 8 * grown["notify_sent"] <= grown[f"{ring}_packets"]
    assert errors(module_links, link) == {}


@pytest.mark.slow
def test_a_minute_in_both_directions_moves_no_error_counter(
    module_links: LinkMaker, link: Link
) -> None:
    end = iperf3(link, FAR4, "--bidir", seconds=60)
    assert end["sum_received"]["seconds"] > 59
    assert errors(module_links, link) == {}


@pytest.mark.parametrize("towards", ["domain", "host"])
def test_a_file_arrives_unchanged(
    module_links: LinkMaker, link: Link, towards: str
) -> None:
    if towards == "domain":
        receiver = Receiver(link.netns, FAR4)
        sent = transfer(None, receiver, FAR4, SIZE)
    else:
        receiver = Receiver(None, NEAR4)
        sent = transfer(link.netns, receiver, NEAR4, SIZE)
    assert receiver.digest == sent
    assert errors(module_links, link) == {}


@pytest.mark.parametrize("towards", ["host", "domain"])
def test_udp_for_segmentation_crosses_as_datagrams(
    module_links: LinkMaker, link: Link, towards: str
) -> None:
    """netif has no UDP segmentation: it is done before the ring."""
    sender_netns, receiver_netns = (
        (link.netns, None) if towards == "host" else (None, link.netns)
    )
    address = NEAR4 if towards == "host" else FAR4
    data = bytes(n % 251 for n in range(SEGMENT * SEGMENTS))
    before = module_links.counters(link)
    with udp_socket(receiver_netns) as receiver, udp_socket(sender_netns) as sender:
        receiver.bind((address, 0))
        receiver.settimeout(30)
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, SEGMENT)
        sender.sendto(data, receiver.getsockname())
        datagrams = [receiver.recv(65536) for _ in range(SEGMENTS)]
    assert datagrams == [data[n : n + SEGMENT] for n in range(0, len(data), SEGMENT)]
    counter = "tx_packets" if towards == "host" else "rx_packets"
    after = module_links.counters(link)
    for side in ("front", "back"):
        assert after[side][counter] - before[side][counter] >= SEGMENTS


def udp_socket(netns: str | None) -> socket.socket:
    """A socket of a namespace, or of the host's."""
    with namespaces.inside(netns) if netns else nullcontext():
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
