"""Interfaces as they are set up, found by their alias, and put into a bridge."""

import os
import socket

import pytest

from tests.integration.netdev.interfaces import BRIDGE, TAP, make_bridge, read_frame
from xenvirt.errors import LocalError, NotFoundError, NotPermittedError, XenvirtError
from xenvirt.netdev import links, tap
from xenvirt.vif.plug import BUILTIN_BRIDGE, plug

pytestmark = pytest.mark.root


def test_a_link_is_what_was_configured(tap_fd: int) -> None:
    make_bridge()
    links.configure(
        TAP,
        mac="fe:ff:ff:ff:ff:ff",
        mtu=9000,
        up=True,
        master=BRIDGE,
        alias="xenvirt x",
    )
    link = links.get(TAP)
    assert link == links.Link(
        name=TAP,
        index=socket.if_nametoindex(TAP),
        mac="fe:ff:ff:ff:ff:ff",
        mtu=9000,
        up=True,
        master=BRIDGE,
        alias="xenvirt x",
    )
    links.configure(TAP, master="", up=False)
    link = links.get(TAP)
    assert link is not None
    assert (link.master, link.up, link.mtu) == (None, False, 9000)


def test_without_noise_no_frame_leaves_when_a_link_goes_up(tap_fd: int) -> None:
    noisy = "xvt1"
    noisy_fd = tap.open_tap(noisy, persist=False)
    try:
        links.configure(TAP, up=True)
        links.configure(noisy, up=True)
        # The router solicitation is the last of what a link says by itself.
        while not is_router_solicitation(read_frame(noisy_fd)[1]):
            pass
    finally:
        os.close(noisy_fd)
    with pytest.raises(BlockingIOError):
        os.read(tap_fd, 2000)


def is_router_solicitation(frame: bytes) -> bool:
    return frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[54] == 133


def test_noise_can_be_had_back(tap_fd: int) -> None:
    links.configure(TAP, ipv6_noise=True, up=True)
    assert read_frame(tap_fd)[1][12:14] == b"\x86\xdd"


def test_what_a_driver_does_not_take_is_told_with_the_value(tap_fd: int) -> None:
    with pytest.raises(XenvirtError, match="mtu 70000"):
        links.configure(TAP, mtu=70000)
    with pytest.raises(XenvirtError, match="01:00:5e:00:00:01"):
        links.configure(TAP, mac="01:00:5e:00:00:01")


def test_links_that_are_not_there(home: str) -> None:
    assert links.get("nosuch") is None
    assert not links.exists("nosuch")
    links.delete("nosuch")
    with pytest.raises(NotFoundError, match="nosuch"):
        links.configure("nosuch", up=True)


def test_only_links_with_our_alias_are_owned(tap_fd: int) -> None:
    make_bridge()
    links.configure(BRIDGE, alias="xenvirtual /run/a x")
    links.configure(TAP, alias=links.alias("/run/a", "1/0 backend"))
    assert links.owned("/run/a") == [TAP]
    assert links.owned("/run/other") == links.owned("/run") == []
    links.delete(TAP)
    assert links.owned("/run/a") == []


def test_a_missing_bridge_says_how_to_make_it(home: str) -> None:
    with pytest.raises(NotFoundError, match="could not find bridge device nosuch") as e:
        links.require_bridge("nosuch")
    assert e.value.hint == "ip link add nosuch type bridge && ip link set nosuch up"
    with pytest.raises(LocalError, match="lo is not a bridge"):
        links.require_bridge("lo")


def test_without_root_a_link_cannot_be_changed(tap_fd: int) -> None:
    os.seteuid(65534)
    try:
        with pytest.raises(NotPermittedError, match=f"configure {TAP} state up"):
            links.configure(TAP, up=True)
    finally:
        os.seteuid(0)


def test_the_builtin_script_plugs_a_tap_into_a_bridge(tap_fd: int) -> None:
    make_bridge(mtu=1400)
    plug(BUILTIN_BRIDGE, TAP, BRIDGE)
    link = links.get(TAP)
    assert link is not None
    assert (link.master, link.up) == (BRIDGE, True)


def test_the_builtin_script_needs_its_bridge(tap_fd: int) -> None:
    with pytest.raises(NotFoundError, match="could not find bridge device nosuch"):
        plug(BUILTIN_BRIDGE, TAP, "nosuch")
