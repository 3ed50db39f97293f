"""Hearing of interfaces: when Linux sends by one, and what became of others."""

import asyncio
import select
import socket
import subprocess
import threading
from typing import Any

import pytest
import uvloop

from tests.integration.daemons import eventually
from tests.integration.netdev.interfaces import BRIDGE, TAP, link_text, make_bridge
from xenvirt.netdev import links, tap
from xenvirt.netdev.monitor import LinkMonitor, LinkState
from xenvirt.netdev.operstate import wait_until_up

pytestmark = pytest.mark.root


def test_an_interface_is_waited_for_unless_it_is_down(tap_fd: int) -> None:
    assert not wait_until_up(TAP, 60)
    tap.set_carrier(tap_fd, False)
    links.configure(TAP, up=True)
    assert not wait_until_up(TAP, 0.1)
    plugging = threading.Timer(0.1, tap.set_carrier, (tap_fd, True))
    plugging.start()
    try:
        assert wait_until_up(TAP, 60)
    finally:
        plugging.join()
    assert not wait_until_up("none", 60)


def ip_batch(*commands: str) -> None:
    subprocess.run(
        ["ip", "-batch", "-"], check=True, input="\n".join(commands), text=True
    )


def flood(ifname: str) -> list[str]:
    """Changes of an interface that are more than a socket keeps."""
    return [f"link set {ifname} mtu {mtu}" for mtu in range(1000, 1500)]


def test_an_interface_is_waited_for_over_a_flood_of_changes(
    tap_fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bridge()
    tap.set_carrier(tap_fd, False)
    links.configure(TAP, up=True)

    def held_up() -> Any:
        monkeypatch.undo()
        ip_batch(*flood(BRIDGE))
        tap.set_carrier(tap_fd, True)
        eventually(lambda: "state UP" in link_text(), "it is not up")
        return select.poll()

    monkeypatch.setattr(select, "poll", held_up)
    assert wait_until_up(TAP, 5)


@pytest.mark.parametrize("count", [2, 200])
def test_a_monitor_knows_what_happened_in_a_flood_of_changes(
    home: str, count: int
) -> None:
    make_bridge()
    names = [f"xvb{number}" for number in range(count)]
    ip_batch(*(f"link add {name} type bridge" for name in names))
    known: list[str | None] = [""] * count
    told = asyncio.Event()

    def follow(monitor: LinkMonitor, number: int) -> None:
        def changed(state: LinkState | None) -> None:
            known[number] = state.name if state is not None else None
            told.set()

        monitor.follow(socket.if_nametoindex(names[number]), changed)

    async def until(wanted: list[str | None]) -> None:
        async with asyncio.timeout(5):
            while known != wanted:
                told.clear()
                await told.wait()

    async def main() -> None:
        monitor = LinkMonitor()
        for number in range(count):
            follow(monitor, number)
        await until([*names])
        # It holds up the loop.
        ip_batch(
            *flood(BRIDGE), f"link delete {names[0]}", f"link set {names[-1]} name new"
        )
        await until([None, *names[1:-1], "new"])
        # It follows them still.
        ip_batch("link set new name newer")
        await until([None, *names[1:-1], "newer"])
        monitor.close()

    uvloop.run(main())
