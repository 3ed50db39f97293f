"""Many links at once, and none of them left when it is gone."""

import os
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.daemons import processes_with
from tests.integration.links import Link, LinkMaker, tag
from tests.integration.transfer import Receiver, transfer
from xenvirt.netdev import links as netlinks
from xenvirt.netdev import namespaces

pytestmark = pytest.mark.root

MIB = 1 << 20
NR_LINKS = 8
NR_UPS = 200


def up(links: LinkMaker, number: int) -> tuple[Link, str]:
    far = f"10.215.{number}.2"
    near = f"10.215.{number}.1"
    link = links.up(f"many{number}", "--ip", f"{far}/24", "--peer-ip", f"{near}/24")
    return link, far


def test_eight_links_come_up_at_once(links: LinkMaker) -> None:
    with ThreadPoolExecutor(NR_LINKS) as pool:
        made = list(pool.map(lambda number: up(links, number), range(NR_LINKS)))
    assert len({link.domid for link, _ in made}) == NR_LINKS
    for _, far in made:
        subprocess.run(["ping", "-c", "1", "-w", "5", far], check=True)


def test_two_free_subnets_are_not_the_same(links: LinkMaker) -> None:
    names = [links.name(f"free{number}") for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        shown = list(pool.map(lambda name: links.json("up", name), names))
    addresses = {entry["link"]["front_addresses"][0] for entry in shown}
    assert len(addresses) == 4


def test_vifs_come_and_go_while_traffic_flows_on_the_others(links: LinkMaker) -> None:
    made = [up(links, number) for number in range(NR_LINKS)]
    digests: dict[str, tuple[str, str]] = {}

    def load(link: Link, far: str) -> None:
        receiver = Receiver(link.netns, far)
        sent = transfer(None, receiver, far, 128 * MIB)
        digests[link.name] = sent, receiver.digest

    carrying, changing = made[: NR_LINKS // 2], made[NR_LINKS // 2 :]
    threads = [threading.Thread(target=load, args=entry) for entry in carrying]
    for thread in threads:
        thread.start()
    for link, _ in changing:
        links.run("network-attach", link.name, "mtu=1400")
        links.run("network-detach", link.name, "1")
        links.down(link)
    for thread in threads:
        thread.join(timeout=120)
    assert len(digests) == len(carrying)
    assert all(sent == received for sent, received in digests.values())


class Footprint:
    """What a daemon holds, from outside."""

    def __init__(self, links: LinkMaker) -> None:
        self._links = links
        self.pids = self._processes()
        self.descriptors = {pid: self._fds(pid) for pid in self.pids}
        self.namespaces = [n for n in namespaces.list_names() if n.startswith(tag())]
        self.interfaces = netlinks.owned(str(links.run_dir))
        self.nodes = self._nodes()

    def within(self, before: "Footprint") -> bool:
        """Whether nothing has been added since `before`."""
        return (
            self.pids == before.pids
            and all(n <= before.descriptors[pid] for pid, n in self.descriptors.items())
            and self.namespaces == before.namespaces
            and self.interfaces == before.interfaces
            and self.nodes == before.nodes
        )

    def _processes(self) -> list[int]:
        return sorted(processes_with(str(self._links.run_dir)))

    @staticmethod
    def _fds(pid: int) -> int:
        return len(os.listdir(f"/proc/{pid}/fd"))

    def _nodes(self) -> str:
        return self._links.run("xenstore", "ls", "-f").stdout


@pytest.mark.slow
def test_two_hundred_times_up_and_down_leave_nothing(links: LinkMaker) -> None:
    first, _ = up(links, 0)
    links.down(first)
    before = Footprint(links)
    for number in range(NR_UPS):
        link, _ = up(links, number % 250)
        links.down(link)
    deadline = time.monotonic() + 10
    # A connection that a command has just closed is there until the daemon looks.
    while not (after := Footprint(links)).within(before):
        assert time.monotonic() < deadline, (vars(before), vars(after))
    assert not list(Path(links.run_dir, "domains").glob("many*"))
