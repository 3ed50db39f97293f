"""A vif's rate limit: what comes through is what was asked for, and is changed live."""

import os
import signal
import socket
from collections.abc import Iterator

import pytest

from tests.flood import FAR, NEAR, Flood
from tests.integration.daemons import eventually
from tests.integration.links import Link, LinkMaker
from tests.integration.restarts import showing

pytestmark = pytest.mark.root

WITHIN = 0.05
DATAGRAMS = 100
WARNING = "Failed to parse network rate limit. Traffic unlimited."


@pytest.fixture(scope="module")
def link(module_links: LinkMaker) -> Link:
    return module_links.up("rate", "--ip", f"{FAR}/24", "--peer-ip", f"{NEAR}/24")


@pytest.fixture
def flood(module_links: LinkMaker, link: Link) -> Iterator[Flood]:
    with Flood(module_links, link) as flood:
        yield flood


@pytest.mark.parametrize(
    ("rate", "mbit_per_s", "seconds"),
    [
        ("6250,50000", 1, 5),
        ("125000,50000", 20, 2),
        ("625000,50000", 100, 2),
        ("6250000,50000", 1000, 2),
        ("250000,20000", 100, 2),
    ],
)
def test_a_domain_sends_as_much_as_was_asked_for(
    flood: Flood, rate: str, mbit_per_s: int, seconds: int
) -> None:
    flood.set_rate(rate)
    flood.bits_per_s(0.1)  # what the last limit has let into the ring
    assert flood.closest(mbit_per_s, seconds) == pytest.approx(mbit_per_s, rel=WITHIN)


def test_it_holds_from_the_start_and_by_a_backend_that_takes_over(
    module_links: LinkMaker,
) -> None:
    near, far = "10.212.9.1", "10.212.9.2"
    link = module_links.up(
        "limited", "rate=10Mb/s", "queues=1", "--ip", f"{far}/24", "--peer-ip",
        f"{near}/24",
    )  # fmt: skip
    before = showing(module_links, link)
    for taken_over in (False, True):
        if taken_over:
            os.kill(module_links.ends()["backend", 0], signal.SIGKILL)
            eventually(lambda: showing(module_links, link) - before, "no successor")
        with Flood(module_links, link, near=near) as flood:
            flood.bits_per_s(0.1)
            assert flood.closest(10, 1) == pytest.approx(10, rel=WITHIN)
    shown = module_links.run("show", f"{link.domid}/0").stdout
    assert "10 Mb/s in each queue (62500,50000)" in shown


def test_a_limit_that_cannot_be_parsed_is_none_and_said_once(
    module_links: LinkMaker, flood: Flood, link: Link
) -> None:
    flood.set_rate("6250,50000")
    flood.bits_per_s(0.1)
    flood.set_rate("18446744073709551616,50000")
    assert flood.bits_per_s(1) > 50e6
    assert module_links.log().count(WARNING) == 1
    (view,) = module_links.json("show", f"{link.domid}/0")["vifs"]
    assert view["rate"] == "18446744073709551616,50000"
    assert view["back"]["state"] == "Connected"
    shown = module_links.run("show", f"{link.domid}/0").stdout
    assert "none, as 18446744073709551616,50000 is not BYTES,MICROSECONDS" in shown


def test_what_the_host_sends_is_not_limited(
    module_links: LinkMaker, flood: Flood, link: Link
) -> None:
    flood.set_rate("0,50000")
    eventually(lambda: flood.stands_still(0.2), "it goes on")
    before = module_links.counters(link)["back"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host:
        for _ in range(DATAGRAMS):
            host.sendto(bytes(1000), (FAR, 9))

    def passed(counter: str) -> int:
        return module_links.counters(link)["back"][counter] - before[counter]

    eventually(lambda: passed("rx_packets") >= DATAGRAMS, "they do not come")
    assert passed("tx_packets") == 0
