"""A guest that posts no RX buffers: it is said, costs bounded memory, and comes back.

The guest's frontend is stopped (SIGSTOP), or a played one, and the host sends to it.
Timeouts of a second in place of netback's ten and sixty are keys of the backend.
"""

import errno
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from tests.integration.links import Link, LinkMaker
from tests.integration.memory import forget_peak, peak_kib, private_kib
from tests.integration.restarts import CONNECTED, showing, states
from tests.native.frames import plain
from xenvirt.testing.peer import Frontend, Tap
from xenvirt.xenstore.sync_client import SyncClient as Store

pytestmark = pytest.mark.root

NEAR, FAR = "10.211.1.1", "10.211.1.2"
OTHER_NEAR, OTHER_FAR = "10.211.2.1", "10.211.2.2"
WAIT_S = 20
TIMEOUTS = {"x-rx-drain-timeout-msecs": "300", "x-rx-stall-timeout-msecs": "1000"}
GROWTH_KIB = 2048
MTU = 9000
OFFERED_BYTES = 10**9
DRAINS_OFTEN = TIMEOUTS | {"x-rx-drain-timeout-msecs": "30"}
"""So that much of it goes through the backend's hands; the TAP has no room for more."""


class Guest:
    """A link whose frontend can be stopped; the backend drops and stalls soon."""

    def __init__(self, links: LinkMaker, link: Link, store: Store) -> None:
        self.links = links
        self.link = link
        back = f"/local/domain/0/backend/vif/{link.domid}/{link.devid}"
        store.write({f"{back}/{key}": value for key, value in TIMEOUTS.items()})
        # A frontend that connects again has its backend read them.
        before = showing(links, link)
        os.kill(self.frontend(), signal.SIGKILL)
        eventually(lambda: self._connected_since(before), lambda: None)
        self._host = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        ping(FAR)

    def _connected_since(self, before: set[tuple[str, int, int]]) -> bool:
        """Whether the frontend has new queues, which it makes after InitWait."""
        sides = {side for side, *_ in showing(self.links, self.link) - before}
        return sides == {"front"} and (
            states(self.links, self.link) == (CONNECTED, CONNECTED)
        )

    def frontend(self) -> int:
        return self.links.ends()["frontend", self.link.domid]

    def stop(self) -> None:
        os.kill(self.frontend(), signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.frontend(), signal.SIGCONT)

    def send(self, count: int) -> None:
        for _ in range(count):
            self._host.sendto(bytes(1400), (FAR, 9))

    def stalled(self) -> bool:
        (view,) = self.links.json("show", f"{self.link.domid}/0")["vifs"]
        return bool(view["back"]["queues"][0]["rx_stalled"])

    def carrier(self) -> bool:
        done = subprocess.run(
            ["ip", "-json", "link", "show", self.link.near],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return "NO-CARRIER" not in json.loads(done.stdout)[0]["flags"]

    def backend_kib(self) -> int:
        """Private memory of the backend of all vifs."""
        return private_kib(self.links.ends()["backend", 0])

    def log_says(self, words: str) -> int:
        return self.links.log().count(f"xvif{self.link.domid}i0: {words}")

    def close(self) -> None:
        self.go_on()
        self._host.close()


def ping(address: str) -> None:
    subprocess.run(["ping", "-c", "1", "-w", "5", address], check=True)


def eventually(condition: Callable[[], bool], meanwhile: Callable[[], None]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        meanwhile()


@pytest.fixture
def guest(links: LinkMaker) -> Iterator[Guest]:
    links.up("good", "--ip", f"{OTHER_FAR}/24", "--peer-ip", f"{OTHER_NEAR}/24")
    # With two, ARP has a queue of its own, and no more than it comes to the other one.
    one = ("queues=1", "--ip", f"{FAR}/24", "--peer-ip", f"{NEAR}/24")
    link = links.up("bad", *one)
    with Store(str(links.run_dir / "xenstored" / "socket")) as store:
        guest = Guest(links, link, store)
        try:
            yield guest
        finally:
            guest.close()


def test_xsa_392_a_guest_without_buffers_is_stalled_and_comes_back(
    guest: Guest,
) -> None:
    before_kib = guest.backend_kib()
    guest.stop()
    eventually(guest.stalled, lambda: guest.send(1000))
    eventually(lambda: not guest.carrier(), lambda: None)
    assert guest.log_says("Guest Rx stalled") == 1
    assert "the frontend posts no RX buffers" in guest.links.run("show").stdout
    assert guest.links.counters(guest.link)["back"]["rx_drained"] > 0
    assert guest.backend_kib() < before_kib + GROWTH_KIB
    ping(OTHER_FAR)

    guest.go_on()
    eventually(lambda: not guest.stalled(), lambda: None)
    eventually(guest.carrier, lambda: None)
    assert guest.log_says("Guest Rx ready") == 1
    ping(FAR)
    assert guest.log_says("Guest Rx stalled") == 1


def rx_stalled(front: Frontend) -> bool:
    return front.driver.view().queues[0].rx_stalled


def stalls(front: Frontend) -> list[str]:
    """What was logged of it so far."""
    lines = [line.partition("Guest Rx ") for line in front.driver.log()]
    return [f"{words}{which}" for _, words, which in lines if words]


def woken(front: Frontend) -> int:
    return front.driver.counters()["wakeups"]


def offer(tap: Tap, frame: bytes, count: int) -> None:
    """Send so many; there need not be room for all of them."""
    for _ in range(count):
        try:
            tap.send(frame)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise


@pytest.mark.parametrize("posted", [0, 1])
def test_xsa_392_a_gigabyte_for_a_guest_with_too_few_buffers(
    links: LinkMaker, posted: int
) -> None:
    """A frame takes three: a guest with one has some, which never suffice."""
    links.run("daemon")
    frame = plain(MTU)
    with Frontend(links.run_dir, vif=("queues=1", f"mtu={MTU}")) as front:
        back = front.paths.backend
        front.host.store.write({f"{back}/{k}": v for k, v in DRAINS_OFTEN.items()})
        queue = front.connect()
        queue.post(posted)
        backend = links.ends()["backend", 0]
        with front.driver.tap() as tap:
            offer(tap, frame, 2000)
            forget_peak(backend)
            before, private = peak_kib(backend), private_kib(backend)
            began = time.monotonic()
            for _ in range(OFFERED_BYTES // MTU // 1000):
                offer(tap, frame, 1000)
                assert private_kib(backend) < private + GROWTH_KIB
            offered_s = time.monotonic() - began
            eventually(lambda: rx_stalled(front), lambda: offer(tap, frame, 1000))
        assert peak_kib(backend) < before + GROWTH_KIB
        counted = front.driver.counters()
        assert offered_s < WAIT_S
        assert counted["rx_drained"] * MTU > OFFERED_BYTES / 20
        assert "rx_packets" not in counted
        # Nor does one buffer count when the backend looks again.
        queue.notify()
        eventually(lambda: woken(front) > counted["wakeups"], lambda: None)
        assert rx_stalled(front)
        eventually(lambda: bool(stalls(front)), lambda: None)
        assert stalls(front) == ["Guest Rx stalled"]


def test_a_backend_that_takes_over_a_stalled_guest_finds_it_out(guest: Guest) -> None:
    guest.stop()
    # Which is said a moment after it is shown.
    eventually(
        lambda: guest.log_says("Guest Rx stalled") == 1, lambda: guest.send(1000)
    )
    os.kill(guest.links.ends()["backend", 0], signal.SIGKILL)
    eventually(lambda: guest.log_says("resumed") == 1, lambda: None)
    eventually(
        lambda: guest.log_says("Guest Rx stalled") == 2, lambda: guest.send(1000)
    )
    guest.go_on()
    eventually(guest.carrier, lambda: None)
    ping(FAR)
