"""Ends that are killed: the link heals by itself, and a connection survives it."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable

import pytest

from tests.integration.links import Link, LinkMaker
from tests.integration.transfer import Receiver, transfer

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
    assert answers()
    for _ in range(3):
        kill_and_wait(links, role, 0 if role == "backend" else link.domid)
        eventually(answers, f"no answer after the {role} was killed")


def test_a_killed_backend_leaves_the_frontend_connected(
    links: LinkMaker, link: Link
) -> None:
    before = links.log().count("xennet0:")
    kill_and_wait(links, "backend", 0)
    eventually(answers, "no answer")
    assert "xvif1i0: resumed" in links.log()
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
    assert seen() == before
