"""Peers that notify, flip, write and log without end: what it costs their victims.

Bounds here are far above what is measured on a quiet machine, which
`scripts/bench storm` does.
"""

import mmap
import os
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.integration.event_storms import Storm, compiled, cpu_s, notifying
from tests.integration.links import Link, LinkMaker
from tests.integration.memory import forget_peak, peak_kib, private_kib
from tests.integration.restarts import daemon_of, store_of
from tests.integration.store_storms import flip, flip_one_by_one, flood
from xenvirt.abi.ids import DOM0, PAGE_SIZE
from xenvirt.abi.netif import NET_TX_RING_SIZE as RING_SIZE
from xenvirt.hypervisor.memory import NR_GRANT_ENTRIES
from xenvirt.hypervisor.sync_client import SyncClient as Hypervisor
from xenvirt.testing.peer import Ring, TxRequest

pytestmark = pytest.mark.root

LOUD, QUIET = "10.217.1.2", "10.217.2.2"
STORM_S = 1.5
CPU_SHARE_MAX = 0.15
RATE_MIN = 100_000
"""Notifications a second: less than the attacker gets where it has a CPU to itself."""

FLIPS = 100_000
RECONNECTIONS = 1000
BAD_CONNECTIONS = 200
IDLE_S = 0.2
REST_S = 3.0
"""Until a victim has done with a storm that is over."""
GROWTH_KIB = 4096
ATTACH_S_MAX = 3.0


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("storm"))


@pytest.fixture(scope="module")
def quiet(module_links: LinkMaker) -> Link:
    """The witness."""
    return module_links.up("quiet", "--ip", f"{QUIET}/24", "--peer-ip", "10.217.2.1/24")


@pytest.fixture(scope="module")
def loud(module_links: LinkMaker, quiet: Link) -> Link:
    """The link one of whose ends is the attacker."""
    return module_links.up("loud", "--ip", f"{LOUD}/24", "--peer-ip", "10.217.1.1/24")


def ping(address: str, count: int = 1) -> None:
    command = ["ping", "-q", "-c", str(count), "-i", "0.02", "-w", "5", address]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def answers(address: str) -> bool:
    command = ["ping", "-c", "1", "-W", "0.2", address]
    return subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0


def heals(links: LinkMaker) -> None:
    """The loud link's frontend was killed."""
    deadline = time.monotonic() + 10
    while not answers(LOUD):
        assert time.monotonic() < deadline, links.log()


def back_of(link: Link) -> str:
    return f"/local/domain/0/backend/vif/{link.domid}/0"


def eventually(condition: Callable[[], object], what: str, wait_s: float = 10) -> None:
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def weather(program: Path, attacker: int, victim: int) -> None:
    """Notify the victim for a while: it stays nearly idle, and others are served."""
    storm = Storm(program)
    with notifying(attacker, victim) as fds:
        assert fds
        with storm.upon(fds):
            before, begin = cpu_s(victim), time.monotonic()
            ping(QUIET, 20)
            while time.monotonic() < begin + STORM_S:
                ping(QUIET)
            used = cpu_s(victim) - before
            share = used / (time.monotonic() - begin)
    print(f"{storm.rate:.3g} notifications a second, {share:.1%} of a CPU")
    assert storm.rate > RATE_MIN
    assert share < CPU_SHARE_MAX


def test_xsa_332_notifications_without_end_towards_the_backend(
    module_links: LinkMaker, loud: Link, program: Path
) -> None:
    ends = module_links.ends()
    weather(program, ends["frontend", loud.domid], ends["backend", 0])
    ping(LOUD, 5)
    assert module_links.counters(loud)["back"]["eoi_delayed"] > 0


def test_xsa_391_notifications_without_end_towards_the_frontend(
    module_links: LinkMaker, loud: Link, program: Path
) -> None:
    ends = module_links.ends()
    weather(program, ends["backend", 0], ends["frontend", loud.domid])
    ping(LOUD, 5)
    assert module_links.counters(loud)["front"]["eoi_delayed"] > 0


def test_notifications_without_end_towards_the_store(
    module_links: LinkMaker, loud: Link, program: Path
) -> None:
    frontend = module_links.ends()["frontend", loud.domid]
    weather(program, frontend, daemon_of(module_links))
    module_links.run("network-list", loud.name)


def is_idle(pid: int) -> bool:
    before = cpu_s(pid)
    time.sleep(IDLE_S)
    return cpu_s(pid) - before < IDLE_S / 20


@contextmanager
def bounded(*victims: int) -> Iterator[None]:
    """They never have much more memory than before, and then nothing more to do."""
    for pid in victims:
        forget_peak(pid)
    before = {pid: (private_kib(pid), peak_kib(pid)) for pid in victims}
    yield
    for pid in victims:
        eventually(partial(is_idle, pid), "it does not come to rest", REST_S)
        private, peak = before[pid]
        assert private_kib(pid) < private + GROWTH_KIB
        assert peak_kib(pid) < peak + GROWTH_KIB


@contextmanager
def stopped_frontend(links: LinkMaker, link: Link) -> Iterator[str]:
    """The frontend's node, which nobody writes; afterwards it is killed and heals."""
    pid = links.ends()["frontend", link.domid]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield f"/local/domain/{link.domid}/device/vif/0"
    finally:
        os.kill(pid, signal.SIGKILL)
    heals(links)


def flipping(links: LinkMaker, path: str, values: tuple[str, ...]) -> None:
    """In one go, of which the store tells little; and each told, in a few seconds.

    That is faster than the victim reads states: it must not come to read all of them.
    """
    flip(links, path, values, FLIPS)
    flip_one_by_one(links, path, values, FLIPS)
    ping(QUIET, 5)


def test_xsa_349_state_flips_of_a_frontend(module_links: LinkMaker, loud: Link) -> None:
    backend, daemon = module_links.ends()["backend", 0], daemon_of(module_links)
    with stopped_frontend(module_links, loud) as front:
        with bounded(backend, daemon):
            flipping(module_links, f"{front}/state", ("4", "5", "6", "1"))
        with store_of(module_links) as store:
            assert store.read(back_of(loud) + "/state") == "2"


def test_xsa_349_state_flips_of_a_backend(module_links: LinkMaker, loud: Link) -> None:
    frontend, daemon = (
        module_links.ends()["frontend", loud.domid], daemon_of(module_links),
    )  # fmt: skip
    with bounded(frontend, daemon):
        flipping(module_links, back_of(loud) + "/state", ("2", "4", "5", "6"))
    os.kill(frontend, signal.SIGKILL)
    heals(module_links)


def held(links: LinkMaker, link: Link) -> dict[str, object]:
    """What a connected link costs: descriptors, threads, ports, grants in use."""
    backend = links.ends()["backend", 0]
    with Hypervisor(links.run_dir / "hypervisor.sock") as hypervisor:
        peers = [port["remote_domid"] for port in hypervisor.ports(DOM0)]
        _, (fd,) = hypervisor.call("memory", domid=link.domid)
    table = os.pread(fd, NR_GRANT_ENTRIES * 8, 0)
    os.close(fd)
    return {
        "descriptors": len(os.listdir(f"/proc/{backend}/fd")),
        "threads": len(os.listdir(f"/proc/{backend}/task")),
        "ports": peers.count(link.domid),
        "grants in use": sum(bool(flags & 0x18) for flags in table[::8]),
    }


def test_xsa_350_a_thousand_connections_and_disconnections_leave_nothing(
    module_links: LinkMaker, loud: Link
) -> None:
    back = back_of(loud)
    with stopped_frontend(module_links, loud) as front, store_of(module_links) as store:
        store.write({f"{front}/state": "5"})
        store.wait_for(f"{back}/state", lambda value: value == "5", timeout_s=10)
        before = held(module_links, loud)
        assert before["grants in use"] == 0
        with bounded(module_links.ends()["backend", 0]):
            for _ in range(RECONNECTIONS):
                # The backend follows some of them all the way, and some not.
                store.write({f"{front}/state": "4"})
                store.write({f"{front}/state": "5"})
            store.wait_for(f"{back}/state", lambda value: value == "5", timeout_s=10)
        assert held(module_links, loud) == before


def test_xsa_43_acts_that_are_logged_without_end(
    module_links: LinkMaker, loud: Link
) -> None:
    """A frontend that connects with a key that cannot be, and again, and again."""
    forged = "zz\n2030-01-01T00:00:00.000 daemon[1] \x1b[2Jall is well"
    log = module_links.run_dir / "log"
    before, begin = log.stat().st_size, time.monotonic()
    with stopped_frontend(module_links, loud) as front, store_of(module_links) as store:
        keys = (f"{front}/tx-ring-ref", f"{front}/queue-0/tx-ring-ref")
        store.write(dict.fromkeys(keys, forged))
        for _ in range(BAD_CONNECTIONS):
            store.write({f"{front}/state": "1"})
            store.wait_for(f"{back_of(loud)}/state", lambda v: v == "2", timeout_s=10)
            store.write({f"{front}/state": "4"})
            store.wait_for(f"{back_of(loud)}/state", lambda v: v == "5", timeout_s=10)
        seconds = time.monotonic() - begin
        with log.open("rb") as stream:
            stream.seek(before)
            lines = stream.read().decode().splitlines()
    assert any(r"zz\n2030-01-01T00:00:00.000 daemon[1] \x1b[2Jall" in s for s in lines)
    assert not any(line.startswith("2030") or "\x1b" in line for line in lines)
    # No more than ten in five seconds of each of half a dozen kinds.
    assert len(lines) < 100 * (1 + seconds / 5)


@contextmanager
def tx_ring_of(links: LinkMaker, link: Link) -> Iterator[Ring]:
    """The TX ring of the domain's first queue, as the domain may write it."""
    node = f"/local/domain/{link.domid}/device/vif/0"
    with store_of(links) as store:
        queues = store.read(f"{node}/multi-queue-num-queues")
        gref = int(store.read(f"{node}{'/queue-0' * (queues != '1')}/tx-ring-ref"))
    with Hypervisor(links.run_dir / "hypervisor.sock") as hypervisor:
        _, (fd,) = hypervisor.call("memory", domid=link.domid)
    with mmap.mmap(fd, 0) as memory:
        os.close(fd)
        (gfn,) = struct.unpack_from("<I", memory, gref * 8 + 4)
        with memoryview(memory)[gfn * PAGE_SIZE : (gfn + 1) * PAGE_SIZE] as page:
            yield Ring(page, 12)


def test_xsa_43_bad_frames_of_a_frontend_are_counted_and_not_logged(
    module_links: LinkMaker, loud: Link
) -> None:
    """A hundred thousand requests with grants that are not there."""
    log = module_links.run_dir / "log"
    ends = module_links.ends()
    with stopped_frontend(module_links, loud):
        before = log.stat().st_size
        channel = notifying(ends["frontend", loud.domid], ends["backend", 0])
        with tx_ring_of(module_links, loud) as ring, channel as fds:
            first = ring.req_prod
            for prod in range(first, first + FLIPS, RING_SIZE):
                for index in range(RING_SIZE):
                    ring.write(prod + index, TxRequest(gref=32_000, size=60))
                ring.req_prod = prod + RING_SIZE
                for fd in fds:
                    os.eventfd_write(fd, 1)
                eventually(lambda: ring.rsp_prod == ring.req_prod, "no responses")
        assert module_links.counters(loud)["back"]["tx_bad_gref"] >= FLIPS
        assert log.stat().st_size == before


# The last one: for seconds afterwards the domain gets no transaction.
def test_a_flood_of_requests_to_the_store_keeps_nobody_from_it(
    module_links: LinkMaker, loud: Link, quiet: Link
) -> None:
    with bounded(daemon_of(module_links)), flood(module_links, loud.domid):
        ping(QUIET, 20)
        begin = time.monotonic()
        module_links.run("network-attach", quiet.name, timeout_s=10)
        assert time.monotonic() - begin < ATTACH_S_MAX
        module_links.run("network-detach", quiet.name, "1", timeout_s=10)
        ping(QUIET, 5)
