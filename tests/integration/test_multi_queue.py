"""Several queues a vif: flows spread over them, and each stays on its own, in order."""

import os
import signal
import socket
import struct
import subprocess
import threading
from functools import partial

import pytest

from tests.integration.daemons import eventually, gone
from tests.integration.links import Link, LinkMaker
from tests.integration.restarts import CONNECTED, states, store_of
from tests.integration.transfer import Receiver, transfer
from xenvirt.netdev import links as netlinks
from xenvirt.netdev import namespaces

pytestmark = pytest.mark.root

NEAR, FAR = "10.218.1.1", "10.218.1.2"
QUEUES = 4
FLOWS = 16
DATAGRAMS = 20_000
IN_FLIGHT = 100
PORT = 12345


def up(links: LinkMaker, *keys: str) -> Link:
    return links.up("mq", "--ip", f"{FAR}/24", "--peer-ip", f"{NEAR}/24", *keys)


@pytest.fixture
def link(links: LinkMaker) -> Link:
    return up(links, f"queues={QUEUES}")


def front_keys(links: LinkMaker, link: Link) -> dict[str, str]:
    (view,) = links.json("show", link.name)["vifs"]
    keys: dict[str, str] = view["front"]["keys"]
    return keys


def packets(links: LinkMaker, link: Link, side: str, ring: str) -> list[int]:
    """What each queue has carried."""
    counters = links.queue_counters(link)[side]
    return [queue[f"{ring}_packets"] for queue in counters]


def ping(address: str = FAR) -> None:
    subprocess.run(["ping", "-q", "-c", "1", "-w", "10", address], check=True)


def test_as_many_queues_come_up_as_both_ends_may_have(
    links: LinkMaker, link: Link
) -> None:
    keys = front_keys(links, link)
    assert keys["multi-queue-num-queues"] == str(QUEUES)
    names = ("tx-ring-ref", "rx-ring-ref", "event-channel-tx", "event-channel-rx")
    values = [keys[f"queue-{n}/{name}"] for n in range(QUEUES) for name in names]
    refs, ports = set(values[0::4] + values[1::4]), set(values[2::4] + values[3::4])
    assert (len(refs), len(ports)) == (2 * QUEUES, 2 * QUEUES)
    assert not keys.keys() & {*names, "event-channel"}
    tap = netlinks.get(link.near)
    assert tap is not None
    assert tap.tap_queues == QUEUES
    shown = links.run("show", link.name).stdout
    assert "queues                    4" in shown
    for words in ("queue-3/ring refs", "queue-3/event-channel-rx", "backend ring 3"):
        assert words in shown
    (vif,) = links.json("network-list", link.name)["vifs"]
    assert str(vif["tx_ring_ref"]) == keys["queue-0/tx-ring-ref"]
    ping()


def test_one_queue_has_flat_keys_and_a_plain_tap(links: LinkMaker) -> None:
    link = up(links, "queues=1")
    keys = front_keys(links, link)
    assert keys["multi-queue-num-queues"] == "1"
    assert {"tx-ring-ref", "event-channel-tx"} <= keys.keys()
    assert not any(key.startswith("queue-") for key in keys)
    tap = netlinks.get(link.near)
    assert tap is not None
    assert tap.tap_queues == 0
    ping()


def test_flows_spread_over_the_queues(links: LinkMaker, link: Link) -> None:
    receivers = [Receiver(link.netns, FAR) for _ in range(FLOWS)]
    sent: dict[int, str] = {}

    def send(number: int) -> None:
        sent[number] = transfer(None, receivers[number], FAR, 4 << 20)

    threads = [threading.Thread(target=send, args=(n,)) for n in range(FLOWS)]
    for thread in threads:
        thread.start()
    for thread in [*threads, *receivers]:
        thread.join(60)
    assert [sent[n] for n in range(FLOWS)] == [r.digest for r in receivers]
    for side, ring in (("back", "rx"), ("front", "rx"), ("front", "tx")):
        carried = packets(links, link, side, ring)
        # 16 flows on 4 queues: all on one would be a chance of 4^-15.
        assert sum(count > 4 for count in carried) > 1, (side, ring, carried)


@pytest.mark.parametrize("into_domain", [True, False])
def test_a_flow_stays_on_its_queue_both_ways_and_in_order(
    links: LinkMaker, link: Link, into_domain: bool
) -> None:
    # ARP would hold back but a few of the first.
    ping()
    with namespaces.inside(link.netns):
        in_domain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with in_domain, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as on_host:
        in_domain.bind((FAR, 0))
        on_host.bind((NEAR, 0))
        in_domain.connect(on_host.getsockname())
        on_host.connect(in_domain.getsockname())
        ends = (on_host, in_domain) if into_domain else (in_domain, on_host)
        before = links.queue_counters(link)["back"]
        _exchange(*ends)
    rows = zip(before, links.queue_counters(link)["back"], strict=True)
    moved = [
        {
            ring: now[f"{ring}_packets"] - then[f"{ring}_packets"]
            for ring in ("tx", "rx")
        }
        for then, now in rows
    ]
    # An ARP exchange and the like may go another way.
    busy = [q for q in moved if q["tx"] > 10 or q["rx"] > 10]
    assert len(busy) == 1, moved
    assert busy[0]["tx"] >= DATAGRAMS or busy[0]["rx"] >= DATAGRAMS


def _exchange(sender: socket.socket, receiver: socket.socket) -> None:
    """Send numbered datagrams, answer each hundredth; all come, and in order."""
    sender.settimeout(10)
    receiver.settimeout(10)
    for first in range(0, DATAGRAMS, IN_FLIGHT):
        for number in range(first, first + IN_FLIGHT):
            sender.send(struct.pack("I", number))
        for number in range(first, first + IN_FLIGHT):
            assert receiver.recv(100) == struct.pack("I", number)
        receiver.send(b"go on")
        assert sender.recv(100) == b"go on"


def test_a_flow_begins_on_the_same_queue_in_either_direction(links: LinkMaker) -> None:
    carried = []
    for into_domain in (True, False):
        # A new link each time: Linux would remember the queue of a flow.
        link = up(links, f"queues={QUEUES}")
        ping()
        before = links.queue_counters(link)["back"]
        _send_one_way(link, into_domain)
        ring = "rx_packets" if into_domain else "tx_packets"
        after = links.queue_counters(link)["back"]
        moved = [now[ring] - was[ring] for was, now in zip(before, after, strict=True)]
        carried.append([count >= IN_FLIGHT for count in moved])
        links.down(link)
    assert sum(carried[0]) == 1
    assert carried[0] == carried[1]


def _send_one_way(link: Link, into_domain: bool) -> None:
    with namespaces.inside(link.netns):
        in_domain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with in_domain, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as on_host:
        in_domain.bind((FAR, PORT))
        on_host.bind((NEAR, PORT))
        in_domain.connect((NEAR, PORT))
        on_host.connect((FAR, PORT))
        sender, receiver = on_host, in_domain
        if not into_domain:
            sender, receiver = receiver, sender
        receiver.settimeout(10)
        for number in range(IN_FLIGHT):
            sender.send(struct.pack("I", number))
            receiver.recv(100)


@pytest.mark.parametrize("role", ["frontend", "backend", "both"])
def test_an_end_that_is_killed_heals_with_all_its_queues(
    links: LinkMaker, link: Link, role: str
) -> None:
    with namespaces.inside(link.netns):
        subprocess.run(["ip", "route", "add", "10.99.0.0/16", "via", NEAR], check=True)
    ends = {
        (kind, domid): pid
        for (kind, domid), pid in links.ends().items()
        if role in (kind, "both")
    }
    for pid in ends.values():
        os.kill(pid, signal.SIGKILL)
    assert all(gone(pid) for pid in ends.values())
    eventually(lambda: len(links.ends()) == 2, "an end is not back")
    ping()
    eventually(
        lambda: states(links, link) == (CONNECTED, CONNECTED), "it is not Connected"
    )
    tap = netlinks.get(link.near)
    assert tap is not None
    assert tap.tap_queues == QUEUES
    assert front_keys(links, link)["multi-queue-num-queues"] == str(QUEUES)
    routes = subprocess.run(
        ["ip", "netns", "exec", link.netns, "ip", "route"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "10.99.0.0/16 via" in routes
    test_flows_spread_over_the_queues(links, link)


def test_a_bridge_keeps_a_killed_backend_s_port(links: LinkMaker) -> None:
    bridge = f"xb{os.getpid()}"
    subprocess.run(["ip", "link", "add", bridge, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "link", "set", bridge, "up"], check=True)
        link = links.up("mqb", f"queues={QUEUES}", f"bridge={bridge}")
        pid = links.ends()["backend", 0]
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
        eventually(lambda: ("backend", 0) in links.ends(), "no backend")
        eventually(lambda: _queues_of(link) == QUEUES, "its queues are not back")
        tap = netlinks.get(link.near)
        assert tap is not None
        assert tap.master == bridge
        links.down(link)
    finally:
        subprocess.run(["ip", "link", "delete", bridge], check=True)


def _is_connected_with(links: LinkMaker, link: Link, queues: int) -> bool:
    keys = front_keys(links, link)
    return keys.get("multi-queue-num-queues") == str(queues) and states(
        links, link
    ) == (CONNECTED, CONNECTED)


def _queues_of(link: Link) -> int:
    tap = netlinks.get(link.near)
    return 0 if tap is None else tap.tap_queues


def test_the_frontend_connects_again_with_fewer_and_with_more(
    links: LinkMaker, link: Link
) -> None:
    front = f"/local/domain/{link.domid}/device/vif/0"
    for queues in (1, 3, 1, QUEUES):
        with store_of(links) as store:
            store.write({f"{front}/x-queues": str(queues)})
        pid = links.ends()["frontend", link.domid]
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
        eventually(
            partial(_is_connected_with, links, link, queues),
            "it has not connected again",
        )
        keys = front_keys(links, link)
        prefixes = {k.partition("/")[0] for k in keys if k.startswith("queue-")}
        assert len(prefixes) == (queues if queues > 1 else 0), keys
        assert ("tx-ring-ref" in keys) is (queues == 1)
        assert _queues_of(link) == queues
        (view,) = links.json("show", link.name)["vifs"]
        assert [len(view[side]["queues"]) for side in ("front", "back")] == [queues] * 2
        ping()


def test_a_limit_that_cannot_be_closes_the_vif_in_words(
    links: LinkMaker, link: Link
) -> None:
    node = f"device/vif/{link.devid}"
    with store_of(links) as store:
        store.write({f"/local/domain/{link.domid}/{node}/x-queues": "-7"})
        os.kill(links.ends()["frontend", link.domid], signal.SIGKILL)
        error = store.wait_for(
            f"/local/domain/{link.domid}/error/{node}/error",
            lambda value: value is not None,
            timeout_s=10,
        )
    assert error == "22 x-queues -7 is not within 1..8"


def test_a_domain_without_room_for_more_has_those_that_fit(links: LinkMaker) -> None:
    link = links.up("full", "queues=8")
    for _ in range(7):
        links.run("network-attach", link.name, "queues=8")
    views = links.json("show", link.name)["vifs"]
    assert [len(view["rings"]) for view in views] == [8] * 7 + [7]
    assert "only created 7 queues" in links.log()
    assert "all 63 queues of this domain are in use" in links.log()
    done = links.run("--timeout", "1", "network-attach", link.name, status=None)
    assert done.returncode != 0
    assert "all 63 queues of this domain are in use" in done.stderr
    assert "queues=N" in done.stderr
