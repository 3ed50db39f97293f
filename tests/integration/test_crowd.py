"""A hundred vifs on one backend process: connected, idle, small, and gone together."""

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import pytest

from tests.integration.links import LinkMaker
from tests.perf.many.processes import cpu_ns, family, private_of
from xenvirt.abi.ids import DOM0, DomId
from xenvirt.abi.xenbus import XenbusState
from xenvirt.netdev import addresses, namespaces
from xenvirt.toolstack import domains, vifs, vifspec, waiting
from xenvirt.toolstack.domains import DomainInfo
from xenvirt.toolstack.host import Host, connect
from xenvirt.toolstack.rundir import RunDir
from xenvirt.toolstack.vif_nodes import VifPaths

pytestmark = [pytest.mark.root, pytest.mark.slow]

NR_DOMAINS: Final = 4
PER_DOMAIN: Final = 25
TIMEOUT_S: Final = 60.0
IDLE_S: Final = 2.0
IDLE_TICKS: Final = 3
"""Of 10 ms, in IDLE_S, of some hundred threads."""
MEMORY_KIB: Final = 100.0


@dataclass(slots=True)
class Crowd:
    """The vifs of some domains, and what its processes took with half of them."""

    host: Host
    domains: list[DomainInfo] = field(default_factory=list)
    vifs: list[VifPaths] = field(default_factory=list)
    half_kib: int = 0

    def attach_to_each(self, count: int) -> None:
        """Give each domain `count` more vifs, of two queues whatever the CPUs."""
        for domain in self.domains:
            for _ in range(count):
                plan = domains.plan_vif(self.host, domain, vifspec.parse(["queues=2"]))
                made = vifs.attach(self.host, plan, timeout_s=TIMEOUT_S)
                self.vifs.append(made)

    def end(self, domid: DomId) -> int:
        """The process of a domain's only end."""
        (end,) = domains.find(self.host, str(domid)).ends
        assert end.pid is not None
        return end.pid

    def ends(self) -> list[int]:
        """The backend's process, and the frontends'."""
        return [self.end(domid) for domid in (DOM0, *(d.domid for d in self.domains))]


@pytest.fixture(scope="module")
def crowd(module_links: LinkMaker) -> Iterator[Crowd]:
    module_links.run("daemon")
    with connect(RunDir(module_links.run_dir)) as host:
        made = Crowd(host)
        for number in range(NR_DOMAINS):
            name = module_links.name(f"crowd{number}")
            made.domains.append(domains.create(host, name))
        half = PER_DOMAIN // 2
        made.attach_to_each(half)
        made.half_kib = private_of(made.ends())
        made.attach_to_each(PER_DOMAIN - half)
        yield made


def test_all_are_connected_to_one_backend_process(crowd: Crowd) -> None:
    assert len(set(crowd.vifs)) == NR_DOMAINS * PER_DOMAIN
    for paths in crowd.vifs:
        progress = waiting.look(crowd.host.store, paths)
        assert progress.connected, progress
    assert all(paths.backend_id == DOM0 for paths in crowd.vifs)
    assert len(set(crowd.ends())) == 1 + NR_DOMAINS


def test_an_idle_one_takes_little_private_memory(crowd: Crowd) -> None:
    more = private_of(crowd.ends()) - crowd.half_kib
    assert more / (NR_DOMAINS * (PER_DOMAIN - PER_DOMAIN // 2)) < MEMORY_KIB


def test_nothing_runs_while_all_are_idle(crowd: Crowd) -> None:
    pids = family(crowd.end(DOM0))
    assert set(crowd.ends()) < set(pids)
    before = cpu_ns(pids)
    # Nothing is waited for here: this is how long they are looked at.
    time.sleep(IDLE_S)
    assert cpu_ns(pids) - before <= IDLE_TICKS * 10_000_000


@pytest.mark.parametrize("number", [0, PER_DOMAIN + 3, NR_DOMAINS * PER_DOMAIN - 1])
def test_a_ping_goes_through_any(crowd: Crowd, number: int) -> None:
    paths = crowd.vifs[number]
    near, far = f"10.216.{number}.1", f"10.216.{number}.2"
    back = crowd.host.back_ifname(paths.frontend_id, paths.devid)
    domain = next(d for d in crowd.domains if d.domid == paths.frontend_id)
    addresses.add(back, f"{near}/24")
    with namespaces.inside(domain.name):
        addresses.add(f"xennet{paths.devid}", f"{far}/24")
    subprocess.run(["ping", "-c", "1", "-w", "5", far], check=True)


def test_all_go_at_once(crowd: Crowd, module_links: LinkMaker) -> None:
    """The last: what it leaves, if anything, the fixture finds."""
    state = f"{crowd.vifs[-1].backend}/state"
    assert crowd.host.store.read(state) == str(int(XenbusState.CONNECTED))
    module_links.run("down", "--all")
    assert [d.domid for d in domains.list_all(crowd.host)] == [DOM0]
    for domain in crowd.domains:
        for root in ("/libxl", "/local/domain", "/local/domain/0/backend/vif"):
            assert not crowd.host.store.exists(f"{root}/{domain.domid}")
