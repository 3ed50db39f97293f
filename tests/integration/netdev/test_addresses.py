"""Addresses of interfaces, and subnets that nobody uses."""

import ipaddress
import socket
import subprocess

import pytest

from tests.integration.netdev.interfaces import TAP
from xenvirt.errors import LocalError, UsageError
from xenvirt.netdev import addresses, links

pytestmark = pytest.mark.root


def test_an_address_is_added_and_removed_once(tap_fd: int) -> None:
    for _ in range(2):
        addresses.add(TAP, "10.1.2.3/24")
        addresses.add(TAP, "fd00::1/64")
    assert addresses.list_addresses(TAP) == [
        ipaddress.ip_interface("10.1.2.3/24"),
        ipaddress.ip_interface("fd00::1/64"),
    ]
    for _ in range(2):
        addresses.remove(TAP, "10.1.2.3/24")
        addresses.remove(TAP, "fd00::1/64")
    assert addresses.list_addresses(TAP) == []


def test_an_ipv6_address_can_be_used_at_once(tap_fd: int) -> None:
    links.configure(TAP, up=True)
    addresses.add(TAP, "fd00::1/64")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("fd00::1", 0))


@pytest.mark.parametrize(
    "text", ["10.0.0.1", "10.0.0.1/33", "10.0.0.256/24", "224.0.0.1/24", "0.0.0.0/0"]
)
def test_a_bad_address_is_refused_with_an_example(home: str, text: str) -> None:
    with pytest.raises(UsageError, match=text) as caught:
        addresses.add("lo", text)
    assert "/24" in caught.value.hint


def test_a_free_subnet_avoids_addresses_routes_and_what_was_handed_out(
    tap_fd: int,
) -> None:
    links.configure(TAP, up=True)
    addresses.add(TAP, "10.0.0.77/30")
    for route in (
        ["10.0.1.0/24", "dev", TAP],
        ["10.0.2.0/23", "dev", TAP, "table", "77"],
        ["blackhole", "10.0.4.4/32"],
        ["default", "dev", TAP],
    ):
        subprocess.run(["ip", "route", "add", *route], check=True)
    assert [str(host) for host in addresses.free_subnet()] == [
        "10.0.5.1/24",
        "10.0.5.2/24",
    ]
    taken = [host.network for host in addresses.free_subnet()]
    assert str(addresses.free_subnet(taken)[0]) == "10.0.6.1/24"


def test_no_subnet_left_says_what_is_in_the_way(tap_fd: int) -> None:
    links.configure(TAP, up=True)
    subprocess.run(["ip", "route", "add", "10.0.0.0/8", "dev", TAP], check=True)
    with pytest.raises(LocalError, match=r"10\.0\.0\.0/8") as caught:
        addresses.free_subnet()
    assert "--ip" in caught.value.hint
