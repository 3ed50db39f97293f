"""Ends that are killed: the link heals by itself, and a connection survives it."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext

import pytest

from tests.integration.links import Link, LinkMaker
from tests.integration.restarts import store_of
from tests.integration.transfer import Receiver, transfer
from xenvirt.netdev import links as netlinks
from xenvirt.netdev import namespaces

pytestmark = pytest.mark.root

NEAR, FAR = "10.214.2.1", "10.214.2.2"
HEAL_S = 10


@pytest.fixture
def link(links: LinkMaker) -> Link:
    return links.up("crash", "--ip", f"{FAR}/24", "--peer-ip", f"{NEAR}/24")


def eventually(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + HEAL_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def answers() -> bool:
    ping = ["ping", "-c", "1", "-W", "0.2", FAR]
    return subprocess.run(ping, capture_output=True).returncode == 0


def kill_and_wait(links: LinkMaker, role: str, domid: int) -> None:
    pid = links.ends()[role, domid]
    os.kill(pid, signal.SIGKILL)
    eventually(
        lambda: links.ends().get((role, domid), pid) != pid,
        f"no new {role} of domain {domid}",
    )


@pytest.mark.parametrize("role", ["backend", "frontend"])
def test_a_killed_end_is_started_again_and_the_link_heals(
    links: LinkMaker, link: Link, role: str
) -> None:
    eventually(answers, "no answer")
    for _ in range(3):
        kill_and_wait(links, role, 0 if role == "backend" else link.domid)
        eventually(answers, f"no answer after the {role} was killed")


def test_a_killed_backend_leaves_the_frontend_connected(
    links: LinkMaker, link: Link
) -> None:
    before = links.log().count("xennet0:")
    kill_and_wait(links, "backend", 0)
    eventually(answers, "no answer")
    eventually(lambda: "xvif1i0: resumed" in links.log(), "not resumed")
    assert links.log().count("xennet0:") == before


@pytest.mark.parametrize("role", ["backend", "frontend"])
def test_a_tcp_connection_survives_the_crash_of_an_end(
    links: LinkMaker, link: Link, role: str
) -> None:
    receiver = Receiver(link.netns, FAR)
    sent: list[str] = []
    sender = threading.Thread(
        target=lambda: sent.append(transfer(None, receiver, FAR, 512 << 20))
    )
    sender.start()
    eventually(
        lambda: links.counters(link)["back"]["rx_bytes"] > 10 << 20, "no traffic"
    )
    kill_and_wait(links, role, 0 if role == "backend" else link.domid)
    sender.join(timeout=60)
    assert [receiver.digest] == sent


def test_what_is_configured_on_the_interfaces_survives(
    links: LinkMaker, link: Link
) -> None:
    def seen() -> list[str]:
        commands = (
            ["ip", "-br", "address", "show", link.near],
            ["ip", "-n", link.netns, "-br", "address", "show", link.far],
        )
        return [
            " ".join(subprocess.check_output(c, text=True).split()) for c in commands
        ]

    before = seen()
    assert FAR in before[1]
    kill_and_wait(links, "backend", 0)
    kill_and_wait(links, "frontend", link.domid)
    eventually(answers, "no answer")
    # Linux may take a second to show a carrier that it has been told of.
    eventually(lambda: seen() == before, f"no longer {before}")


@pytest.mark.parametrize("left", ["4", "1"])
def test_a_new_frontend_outlasts_what_the_backend_thinks_of_the_dead_one(
    links: LinkMaker, link: Link, left: str
) -> None:
    """The backend is late, and closes when the new frontend has begun already."""
    front, back = (
        f"/local/domain/{link.domid}/device/vif/0/state",
        f"/local/domain/0/backend/vif/{link.domid}/0/state",
    )
    late = links.ends()["backend", 0]
    with store_of(links) as store:
        os.kill(late, signal.SIGSTOP)
        os.kill(links.ends()["frontend", link.domid], signal.SIGSTOP)
        store.write({front: left, back: "6"})
        kill_and_wait(links, "frontend", link.domid)
        store.wait_for(front, lambda state: state == "1", timeout_s=HEAL_S)
        store.write({back: "5"})
        with pytest.raises(TimeoutError):
            store.wait_for(front, lambda state: state != "1", timeout_s=0.3)
        os.kill(late, signal.SIGCONT)
        for path in (front, back):
            store.wait_for(path, lambda state: state == "4", timeout_s=HEAL_S)
    eventually(answers, "no answer")


@pytest.mark.parametrize("role", ["backend", "frontend"])
def test_the_interface_of_a_vif_that_went_meanwhile_is_removed(
    links: LinkMaker, link: Link, role: str
) -> None:
    domid = 0 if role == "backend" else link.domid
    hanging = links.ends()[role, domid]
    os.kill(hanging, signal.SIGSTOP)
    links.run("--timeout", "1", "network-detach", link.name, "0", status=5)
    where = nullcontext() if role == "backend" else namespaces.inside(link.netns)
    ifname = link.near if role == "backend" else link.far
    with where:
        assert netlinks.exists(ifname)
        kill_and_wait(links, role, domid)
        eventually(lambda: not netlinks.exists(ifname), f"{ifname} is still there")
    links.run("network-attach", link.name)
