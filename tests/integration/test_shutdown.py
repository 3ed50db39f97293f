"""SIGTERM to an end under load: not a frame that is on the rings is lost or doubled.

Each end counts, in pages of its own, the frames that it took from its TAP and those
that it wrote to it. The pages stay mapped here, and are compared when their processes
are gone: what one end took the other one must have written.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import pytest

from tests.integration.daemons import eventually
from tests.integration.links import Link, LinkMaker
from tests.integration.restarts import CONNECTED, states
from tests.integration.transfer import Receiver, transfer_until
from xenvirt.abi.ids import DevId, DomId
from xenvirt.hypervisor.sync_client import SyncClient
from xenvirt.vif import queue_stats

if TYPE_CHECKING:
    from xenvirt.native.queue_stats import QueueStats

pytestmark = pytest.mark.root

NEAR, FAR = "10.214.5.1", "10.214.5.2"


@pytest.fixture
def link(links: LinkMaker) -> Link:
    return links.up("term", "--ip", f"{FAR}/24", "--peer-ip", f"{NEAR}/24")


class Counted:
    """The counters of each process that serves a link, or has."""

    def __init__(self, links: LinkMaker, link: Link) -> None:
        self._links = links
        self._link = link
        self._stats: dict[tuple[str, int, int], QueueStats] = {}
        self.queues = {queue for _, queue in self.look()}

    def look(self) -> set[tuple[int, int]]:
        """Map the pages of those that serve it now; return their pids and queues."""
        with SyncClient(self._links.run_dir / "hypervisor.sock") as hypervisor:
            pages = hypervisor.published(DomId(self._link.domid), DevId(0))
        for page in pages:
            # A memfd that is mapped keeps its number: no later one has it.
            key = page.side, page.queue, os.fstat(page.fd).st_ino
            self._stats.setdefault(key, queue_stats.read(page.fd, page.queue))
            os.close(page.fd)
        return {(page.pid, page.queue) for page in pages}

    def sum(self, side: str, counter: str) -> int:
        """What all processes of an end have counted."""
        return sum(
            stats.counters()[counter]
            for (of_side, _, _), stats in self._stats.items()
            if of_side == side
        )

    def flow(self, more: int) -> None:
        """Wait until that many more frames have passed each way."""
        wanted = {
            counter: self.sum("front", counter) + more
            for counter in ("tx_packets", "rx_packets")
        }
        eventually(
            lambda: all(self.sum("front", c) >= count for c, count in wanted.items()),
            "no traffic",
        )

    def nothing_is_lost(self) -> bool:
        return self.sum("front", "tx_packets") == self.sum("back", "tx_packets") and (
            self.sum("back", "rx_packets") == self.sum("front", "rx_packets")
        )

    def __str__(self) -> str:
        return ", ".join(
            f"{side} {counter} {self.sum(side, counter)}"
            for counter in ("tx_packets", "rx_packets")
            for side in ("front", "back")
        )


@contextmanager
def load(link: Link) -> Iterator[None]:
    """TCP both ways as fast as it goes, all the while; all of it arrives."""
    over = threading.Event()
    receivers = [Receiver(link.netns, FAR), Receiver(None, NEAR)]
    sent: list[str] = []

    def send(netns: str | None, receiver: Receiver, address: str) -> None:
        sent.append(transfer_until(over, netns, receiver, address))

    senders = [
        threading.Thread(target=send, args=arguments)
        for arguments in ((None, receivers[0], FAR), (link.netns, receivers[1], NEAR))
    ]
    for sender in senders:
        sender.start()
    try:
        yield
    finally:
        over.set()
        for sender in senders:
            sender.join(60)
    assert sorted(sent) == sorted(receiver.digest for receiver in receivers)


@pytest.mark.parametrize("role", ["frontend", "backend"])
def test_sigterm_loses_no_frame(links: LinkMaker, link: Link, role: str) -> None:
    counted = Counted(links, link)
    domid = 0 if role == "backend" else link.domid

    def healed(before: dict[tuple[str, int], int]) -> bool:
        """Whether the end has a successor, and that one serves every queue.

        A resumed end stays Connected, and shows its queues one by one.
        """
        now = links.ends()
        return (
            len(now.items() - before.items()) == 1
            and states(links, link) == (CONNECTED, CONNECTED)
            and counted.look() == set(product(now.values(), counted.queues))
        )

    with load(link):
        for _ in range(2):
            counted.flow(2000)
            before = links.ends()
            os.kill(before[role, domid], signal.SIGTERM)
            eventually(partial(healed, before), "not healed")
    eventually(counted.nothing_is_lost, str(counted))
