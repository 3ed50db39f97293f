"""A vif's rate limit: what comes through is what was asked for, and is changed live."""

import socket
import time
from collections.abc import Iterator

import pytest

from tests.flood import FAR, NEAR, Flood
from tests.integration.links import Link, LinkMaker

pytestmark = pytest.mark.root

WITHIN = 0.05
DATAGRAMS = 100
WAIT_S = 10
WARNING = "Failed to parse network rate limit. Traffic unlimited."


@pytest.fixture(scope="module")
def link(module_links: LinkMaker) -> Link:
    return module_links.up("rate", "--ip", f"{FAR}/24", "--peer-ip", f"{NEAR}/24")


@pytest.fixture(scope="module")
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
    got = min(
        (flood.bits_per_s(seconds) / 1e6 for _ in range(3)),
        key=lambda got: abs(got - mbit_per_s),
    )
    assert got == pytest.approx(mbit_per_s, rel=WITHIN)


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


def test_what_the_host_sends_is_not_limited(
    module_links: LinkMaker, flood: Flood, link: Link
) -> None:
    flood.set_rate("0,50000")
    before = module_links.counters(link)["back"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host:
        for _ in range(DATAGRAMS):
            host.sendto(bytes(1000), (FAR, 9))
    deadline = time.monotonic() + WAIT_S
    while True:
        after = module_links.counters(link)["back"]
        if after["rx_packets"] - before["rx_packets"] >= DATAGRAMS:
            break
        assert time.monotonic() < deadline
    # One frame may have been under way when the credit ended.
    assert after["tx_packets"] - before["tx_packets"] <= 1
