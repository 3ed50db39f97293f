"""What people do to interfaces and bridges under a link that runs."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest

from tests.integration.daemons import PREFIX
from tests.integration.links import Link, LinkMaker
from xenvirt.netdev import links as netlinks
from xenvirt.netdev import namespaces

pytestmark = pytest.mark.root

NEAR, FAR = "10.219.1.1", "10.219.1.2"
OTHER = "10.219.2.2"
WAIT_S = 10
ELSEWHERE = f"{PREFIX}-elsewhere"
BRIDGE = "xvbyhand0"


@pytest.fixture(scope="module")
def other(module_links: LinkMaker) -> Link:
    """What nothing must happen to."""
    return module_links.up("other", "--ip", f"{OTHER}/24", "--peer-ip", "10.219.2.1/24")


@pytest.fixture
def link(module_links: LinkMaker, other: Link) -> Iterator[Link]:
    link = module_links.up("hand", "--ip", f"{FAR}/24", "--peer-ip", f"{NEAR}/24")
    yield link
    module_links.down(link)
    eventually(lambda: answers(OTHER), "no answer")
    assert netlinks.owned(str(module_links.run_dir)) == [other.near]


def ip(command: str, netns: str | None = None) -> None:
    inside = ("-n", netns) if netns else ()
    subprocess.run(["ip", *inside, *command.split()], check=True)


def answers(address: str, *options: str) -> bool:
    ping = ["ping", "-c", "1", "-W", "0.5", *options, address]
    return subprocess.run(ping, stdout=subprocess.DEVNULL).returncode == 0


def eventually(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def kill(links: LinkMaker, role: str, domid: int) -> None:
    """Kill an end; return when there is another one."""
    pid = links.ends()[role, domid]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: links.ends().get((role, domid), pid) != pid, f"no new {role}")


def shown_name(links: LinkMaker, link: Link, side: str) -> str:
    (view,) = links.json("show", f"{link.domid}/{link.devid}")["vifs"]
    return str(view[side]["ifname"])


@pytest.mark.parametrize("side", ["back", "front"])
def test_an_interface_that_is_renamed_goes_on_and_is_shown(
    module_links: LinkMaker, link: Link, side: str
) -> None:
    netns = link.netns if side == "front" else None
    ip(f"link set {link.far if netns else link.near} name byhand0", netns)
    eventually(
        lambda: shown_name(module_links, link, side) == "byhand0",
        "it is not shown",
    )
    eventually(lambda: answers(FAR), "no answer")
    if side == "back":
        kill(module_links, "backend", 0)
    else:
        kill(module_links, "frontend", link.domid)
    eventually(lambda: answers(FAR), "the next process has not found it")


@pytest.mark.parametrize("side", ["back", "front"])
def test_an_interface_that_is_deleted_ends_its_vif_and_says_why(
    module_links: LinkMaker, link: Link, side: str
) -> None:
    if side == "back":
        ip(f"link delete {link.near}")
    else:
        ip(f"link delete {link.far}", link.netns)

    def view() -> dict[str, dict[str, str]]:
        (found,) = module_links.json("show", f"{link.domid}/{link.devid}")["vifs"]
        return dict(found)

    eventually(lambda: view()["back"]["state"] == "Closed", "the vif goes on")
    said = "the interface is gone (errno 77); detach the vif and attach it again"
    assert view()[side]["error"] == f"5 {said}"
    assert f"somebody has deleted {link.near if side == 'back' else link.far}" in (
        module_links.log()
    )
    module_links.run("network-detach", link.name, "0")
    module_links.run("network-attach", link.name, "queues=1")
    assert shown_name(module_links, link, side) in (link.near, link.far)


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """A namespace to move interfaces to."""
    namespaces.create(ELSEWHERE)
    yield
    namespaces.delete(ELSEWHERE)


def move(link: Link, side: str) -> str:
    """Move an end's interface elsewhere, with its address; return its name."""
    name, netns, address = link.near, None, NEAR
    if side == "front":
        name, netns, address = link.far, link.netns, FAR
    ip(f"link set {name} netns {ELSEWHERE}", netns)
    ip(f"address add {address}/24 dev {name}", ELSEWHERE)
    ip(f"link set {name} up", ELSEWHERE)
    return name


@pytest.mark.parametrize("side", ["back", "front"])
def test_an_interface_in_another_namespace_goes_on_and_is_removed_there(
    module_links: LinkMaker, link: Link, elsewhere: None, side: str
) -> None:
    name = move(link, side)
    with namespaces.inside(ELSEWHERE) if side == "back" else nullcontext():
        eventually(lambda: answers(FAR), "no answer")
    said = f"{name} is in another network namespace"
    eventually(lambda: said in module_links.log(), "it is not said")
    module_links.run("network-detach", link.name, "0")
    with namespaces.inside(ELSEWHERE):
        assert netlinks.get(name) is None


@pytest.mark.parametrize("side", ["back", "front"])
def test_a_process_that_takes_over_makes_no_second_one_of_one_that_was_moved(
    module_links: LinkMaker, link: Link, elsewhere: None, side: str
) -> None:
    name = move(link, side)
    if side == "back":
        kill(module_links, "backend", 0)
    else:
        kill(module_links, "frontend", link.domid)

    def error() -> object:
        (view,) = module_links.json("show", f"{link.domid}/{link.devid}")["vifs"]
        return view[side]["error"]

    eventually(error, "it is not said")
    assert error() == (
        f"5 there is no interface {name} any more: somebody has deleted it, or moved "
        "it to another network namespace; detach the vif and attach it again"
    )
    with namespaces.inside(ELSEWHERE):
        assert netlinks.get(name) is not None
    module_links.run("network-detach", link.name, "0")
    module_links.run("network-attach", link.name)
    assert shown_name(module_links, link, side) == name


def test_mtu_mac_and_up_and_down_are_the_interfaces_own(
    module_links: LinkMaker, link: Link
) -> None:
    whole = ("-M", "do", "-s", "8900")
    ip(f"link set {link.near} mtu 9000")
    ip(f"link set {link.far} mtu 9000", link.netns)
    eventually(lambda: answers(FAR, *whole), "no answer")
    ip(f"link set {link.near} mtu 600")
    ip(f"link set {link.far} mtu 700", link.netns)
    eventually(lambda: answers(FAR, "-s", "8900"), "no answer")
    assert not answers(FAR, *whole)
    ip(f"link set {link.far} address 02:00:00:00:00:07", link.netns)
    ip(f"neighbour flush dev {link.near}")
    eventually(lambda: answers(FAR), "no answer")
    for name, netns in ((link.near, None), (link.far, link.netns)):
        ip(f"link set {name} down", netns)
        assert not answers(FAR)
        ip(f"link set {name} up", netns)
        eventually(lambda: answers(FAR), "no answer")
    # Nor does a new process set them back.
    kill(module_links, "backend", 0)
    kill(module_links, "frontend", link.domid)
    eventually(lambda: answers(FAR), "no answer")
    near = netlinks.get(link.near)
    assert near is not None
    assert near.mtu == 600
    with namespaces.inside(link.netns):
        far = netlinks.get(link.far)
    assert far is not None
    assert (far.mtu, far.mac) == (700, "02:00:00:00:00:07")


def test_a_bridge_that_is_removed_leaves_the_vif_and_takes_it_back(
    module_links: LinkMaker, other: Link
) -> None:
    def make_bridge() -> None:
        ip(f"link add {BRIDGE} type bridge")
        ip(f"address add {NEAR}/24 dev {BRIDGE}")
        ip(f"link set {BRIDGE} up")

    make_bridge()
    try:
        link = module_links.up("bridged", f"bridge={BRIDGE}", "--ip", f"{FAR}/24")
        eventually(lambda: answers(FAR), "no answer")
        ip(f"link delete {BRIDGE}")
        hint = f"ip link set {link.near} master {BRIDGE}"
        eventually(lambda: hint in module_links.log(), "it is not said")
        # A backend that takes the vif over has no bridge to plug it into.
        kill(module_links, "backend", 0)
        eventually(lambda: answers(OTHER), "the other link does not heal")
        eventually(
            lambda: f"could not find bridge device {BRIDGE}" in module_links.log(),
            "it is not said",
        )
        make_bridge()
        subprocess.run(hint.split(), check=True)
        eventually(lambda: answers(FAR), "no answer")
        module_links.down(link)
    finally:
        subprocess.run(["ip", "link", "delete", BRIDGE], check=True)
