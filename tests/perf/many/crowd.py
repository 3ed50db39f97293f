"""Many vifs on one backend process, attached one after the other; veths beside them.

A domain's quotas in XenStore and of grants allow a few dozen vifs, so there are many
domains; all their vifs have the host's backend. Both kinds are made alternately, so
that the machine's moods meet both.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.perf.many.processes import family, private_of, shared_of
from tests.perf.peers.link import PREFIX, Link, namespace, run
from tests.perf.peers.xenvirt import daemon, end_pids
from xenvirt.toolstack import domains, vifs, vifspec
from xenvirt.toolstack.domains import DomainInfo
from xenvirt.toolstack.host import Host, connect
from xenvirt.toolstack.rundir import RunDir
from xenvirt.toolstack.vif_nodes import VifPaths

PER_DOMAIN: Final = 20
TIMEOUT_S: Final = 60.0

Progress = Callable[[int], None]


@dataclass(slots=True)
class Crowd:
    """The vifs that are up, and what each took: `attach_ms` and `veth_ms`, in order."""

    host: Host
    queues: int
    per_domain: int
    vifs: list[VifPaths] = field(default_factory=list)
    attach_ms: list[float] = field(default_factory=list)
    veth_ms: list[float] = field(default_factory=list)
    domains: list[DomainInfo] = field(default_factory=list)
    _first_kib: dict[int, int] = field(default_factory=dict)
    _shared_kib: float = 0

    def grow(self, count: int, netns: str, progress: Progress) -> None:
        """Have that many vifs, and as many veths into `netns`."""
        while len(self.vifs) < count:
            if len(self.vifs) == self.per_domain * len(self.domains):
                name = f"{PREFIX}-many{len(self.domains)}"
                self.domains.append(domains.create(self.host, name))
            self._attach(self.domains[-1])
            self._veth(netns)
            if len(self.vifs) % self.per_domain == self._base:
                self._note_memory(self.domains[-1])
            progress(len(self.vifs))

    def _attach(self, domain: DomainInfo) -> None:
        began = time.monotonic()
        spec = vifspec.parse((f"queues={self.queues}",))
        planned = domains.plan_vif(self.host, domain, spec)
        self.vifs.append(vifs.attach(self.host, planned, timeout_s=TIMEOUT_S))
        self.attach_ms.append(1e3 * (time.monotonic() - began))

    def _veth(self, netns: str) -> None:
        number = len(self.veth_ms)
        near, far = f"vm{number}a", f"vm{number}b"
        began = time.monotonic()
        # Both up, as the vif's ends are.
        run("ip", "link", "add", near, "type", "veth", "peer", far, "netns", netns)
        run("ip", "link", "set", near, "up")
        run("ip", "-n", netns, "link", "set", far, "up")
        self.veth_ms.append(1e3 * (time.monotonic() - began))

    @property
    def _base(self) -> int:
        """How many vifs a domain has when its ends are what each further one adds to.

        A process also grows by what it does for the first time.
        """
        return self.per_domain // 2

    def _note_memory(self, domain: DomainInfo) -> None:
        """Remember what a domain's ends take now; the backend with the first one's."""
        for end in self._ends_of(domain):
            self._first_kib[end] = private_of([end])
        if len(self.domains) == 1:
            self._first_kib[self._backend] = private_of([self._backend])
            self._shared_kib = shared_of(self.ends)

    @property
    def ends(self) -> list[int]:
        """The processes of both ends."""
        return end_pids(str(self.host.run_dir.path))

    @property
    def _backend(self) -> int:
        (pid,) = self._ends_of(domains.find(self.host, "0"))
        return pid

    def _ends_of(self, domain: DomainInfo) -> list[int]:
        """The processes of a domain; what they were when it was made says nothing."""
        found = domains.find(self.host, str(domain.domid))
        return [end.pid for end in found.ends if end.pid is not None]

    @property
    def processes(self) -> list[int]:
        """Those and the daemon's."""
        return family(self.ends[0])

    def memory_kib(self) -> dict[str, float]:
        """What each vif takes after the first half of a domain's, by kind of end."""
        more = {pid: private_of([pid]) - kib for pid, kib in self._first_kib.items()}
        counted = len(self.vifs) - self._base
        back = more.pop(self._backend) / counted
        front = sum(more.values()) / (len(self.vifs) - self._base * len(self.domains))
        shared = (shared_of(self.ends) - self._shared_kib) / counted
        return {
            "backend process": back,
            "frontend process": front,
            "both processes": back + front,
            "shared pages": shared,
        }

    def links(self, count: int) -> list[Link]:
        """The first vif of each of the first `count` domains, with addresses."""
        links = []
        for number, domain in enumerate(self.domains[:count]):
            paths = next(p for p in self.vifs if p.frontend_id == domain.domid)
            near = self.host.back_ifname(paths.frontend_id, paths.devid)
            far = f"xennet{paths.devid}"
            link = Link(number + 10, domain.name, near, far)
            link.configure()
            links.append(link)
        return links


@contextmanager
def crowd(queues: int, per_domain: int) -> Iterator[tuple[Crowd, str]]:
    """None yet, with a daemon of its own; and the namespace of the veths' far ends."""
    with ExitStack() as stack:
        command = stack.enter_context(daemon())
        netns = stack.enter_context(namespace(0))
        host = stack.enter_context(connect(RunDir(Path(command[2]))))
        made = Crowd(host, queues, per_domain)
        stack.callback(_take_down, host)
        yield made, netns


def _take_down(host: Host) -> None:
    """Domain by domain: all at once would take longer than the daemon is given."""
    for domain in domains.list_all(host):
        if domain.domid != 0:
            domains.destroy(host, domain, timeout_s=TIMEOUT_S)
