"""What a frontend may write, and must not: its vif closes, and says why.

The real frontend is stopped (SIGSTOP); the test plays it, by the nodes and the
memory that it would have written. Other links go on.
"""

import mmap
import os
import signal
import struct
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.integration.links import Link, LinkMaker
from xenvirt.abi.ids import PAGE_SIZE
from xenvirt.hypervisor.memory import FIRST_DATA_GFN, STORE_GFN
from xenvirt.hypervisor.sync_client import SyncClient
from xenvirt.xenstore.sync_client import SyncClient as Store

pytestmark = pytest.mark.root

OTHER = "10.216.2.2"
WAIT_S = 10


@pytest.fixture(scope="module")
def other(module_links: LinkMaker) -> Link:
    return module_links.up("good", "--ip", f"{OTHER}/24", "--peer-ip", "10.216.2.1/24")


class Played:
    """A link whose frontend the test plays."""

    def __init__(self, links: LinkMaker, link: Link) -> None:
        self.links = links
        self.link = link
        self.store = Store(str(links.run_dir / "xenstored" / "socket"))
        self.front = f"/local/domain/{link.domid}/device/vif/0"
        self.back = f"/local/domain/0/backend/vif/{link.domid}/0"
        self._error = f"/local/domain/0/error/backend/vif/{link.domid}/0/error"
        self._pid = links.ends()["frontend", link.domid]
        os.kill(self._pid, signal.SIGSTOP)

    def start_over(self) -> None:
        """A frontend that crashed and is back: the backend goes to InitWait."""
        self.store.write({f"{self.front}/state": "1"})
        self.backend_is("2")

    def backend_is(self, state: str) -> None:
        path = f"{self.back}/state"
        self.store.wait_for(path, lambda value: value == state, timeout_s=WAIT_S)

    def error(self) -> str:
        """The backend's error node, as soon as there is one."""
        value = self.store.wait_for(
            self._error, lambda value: value is not None, timeout_s=WAIT_S
        )
        assert value is not None
        return value

    def memory(self) -> mmap.mmap:
        """The frontend's memory, as it could write it."""
        with SyncClient(self.links.run_dir / "hypervisor.sock") as hypervisor:
            _, (fd,) = hypervisor.call("memory", domid=self.link.domid)
        try:
            return mmap.mmap(fd, (FIRST_DATA_GFN + 2) * PAGE_SIZE)
        finally:
            os.close(fd)

    def notify_store(self) -> None:
        """Wake the store, as the frontend would after a request."""
        with SyncClient(self.links.run_dir / "hypervisor.sock") as hypervisor:
            _, fds = hypervisor.call("start_info", **{"as": self.link.domid})
        os.eventfd_write(fds[-1], 1)
        for fd in fds:
            os.close(fd)

    def notify(self) -> None:
        """Wake the backend as the frontend would: by a frame to the host."""
        subprocess.run(["ping", "-c", "1", "-W", "0.1", "-I", self.link.near, OTHER])

    def heals(self) -> None:
        """The real frontend, killed and started again, connects."""
        os.kill(self._pid, signal.SIGKILL)
        self.backend_is("4")

    def close(self) -> None:
        self.store.close()
        self.links.down(self.link)


@pytest.fixture
def played(module_links: LinkMaker, other: Link) -> Iterator[Played]:
    played = Played(module_links, module_links.up("bad"))
    try:
        yield played
        played.heals()
        subprocess.run(["ping", "-c", "1", "-w", "5", OTHER], check=True)
    finally:
        played.close()


BAD_KEYS: dict[str, tuple[dict[str, str | None], str]] = {
    "ring-ref out of range": (
        {"tx-ring-ref": "4294967295"}, "14 mapping shared-frames 4294967295/9",
    ),
    "ring-ref of a grant that is not there": (
        {"rx-ring-ref": "32000"}, "14 mapping shared-frames 8/32000",
    ),
    "ring-ref beyond 32 bits": (
        {"tx-ring-ref": "4294967296"}, "22 reading",
    ),
    "ring-ref of a read-only page": (
        {"tx-ring-ref": "10"}, "14 mapping shared-frames 10/9",
    ),
    "ring-ref that is no number": ({"rx-ring-ref": "zz"}, "22 reading"),
    "ring-ref missing": ({"tx-ring-ref": None}, "2 reading"),
    "port 0": ({"event-channel-tx": "0"}, "22 binding event channel 0"),
    "port out of range": (
        {"event-channel-rx": "70000"}, "22 binding event channel 70000",
    ),
    "port of XenStore": ({"event-channel-tx": "1"}, "22 binding event channel 1"),
    "port missing": ({"event-channel-tx": None}, "2 reading"),
    "no queues": (
        {"multi-queue-num-queues": "0"},
        "22 guest requested 0 queues, but valid range is 1 - 1.",
    ),
    "too many queues": (
        {"multi-queue-num-queues": "9"},
        "22 guest requested 9 queues, but valid range is 1 - 1.",
    ),
    "queues that are no number": (
        {"multi-queue-num-queues": "-1"}, "22 guest requested -1 queues",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_KEYS)
def test_bad_keys_close_the_vif_with_netback_s_words(played: Played, case: str) -> None:
    keys, expected = BAD_KEYS[case]
    played.start_over()
    for key, value in keys.items():
        if value is None:
            played.store.rm(f"{played.front}/{key}")
        else:
            played.store.write({f"{played.front}/{key}": value})
    played.store.write({f"{played.front}/state": "4"})
    played.backend_is("5")
    assert played.error().startswith(expected)


@pytest.mark.parametrize("state", ["2", "7", "8"])
def test_a_state_that_no_frontend_may_show(played: Played, state: str) -> None:
    played.store.write({f"{played.front}/state": state})
    assert played.error() == f"22 saw state {state} at frontend"
    played.backend_is("5")


@pytest.mark.parametrize(
    ("ring", "offset", "text"),
    [("tx", 0, "Impossible number of requests"), ("rx", 1, "Impossible number of RX")],
)
def test_a_producer_index_that_cannot_be(
    played: Played, ring: str, offset: int, text: str
) -> None:
    with played.memory() as memory:
        struct.pack_into("<I", memory, (FIRST_DATA_GFN + offset) * PAGE_SIZE, 1 << 30)
    played.notify()
    assert text in played.error()
    played.backend_is("5")


def test_a_malformed_store_ring_is_shut_and_nothing_else(played: Played) -> None:
    req_prod, error = 2052, 2072
    with played.memory() as memory:
        page = STORE_GFN * PAGE_SIZE
        struct.pack_into("<I", memory, page + req_prod, 0x40000000)
        played.notify_store()
        deadline = time.monotonic() + WAIT_S
        while struct.unpack_from("<I", memory, page + error) != (2,):
            assert time.monotonic() < deadline
            os.sched_yield()
        played.store.write({f"{played.front}/state": "5"})
        played.backend_is("5")
