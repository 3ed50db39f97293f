"""Killing a daemon under links, and comparing what was before with what is after."""

import os
import signal
import subprocess
from dataclasses import dataclass

from tests.integration.daemons import child_of, eventually, gone
from tests.integration.links import Link, LinkMaker
from xenvirt.abi.ids import DevId, DomId
from xenvirt.abi.xs_wire import XsWire
from xenvirt.hypervisor.sync_client import SyncClient as Hypervisor
from xenvirt.netdev import links as netlinks
from xenvirt.netdev import namespaces
from xenvirt.xenstore import payloads
from xenvirt.xenstore.sync_client import SyncClient

CONNECTED = "4"


def launcher_of(links: LinkMaker) -> int:
    """The launcher's process."""
    return int((links.run_dir / "lock").read_text())


def daemon_of(links: LinkMaker, after: int | None = None) -> int:
    """The daemon's process, which may have yet to be started again.

    Not that of `after`, which was killed, and which its parent may not have reaped.
    """
    launcher = launcher_of(links)
    found: list[int] = []

    def there_is_one() -> bool:
        found.append(child_of(launcher, "daemon"))
        return found[-1] not in {0, after}

    eventually(there_is_one, "there is no daemon")
    return found[-1]


def kill_daemon(links: LinkMaker) -> None:
    """Kill the daemon; return when the next one serves."""
    pid = daemon_of(links)
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    links.ends()
    assert daemon_of(links) != pid


def store_of(links: LinkMaker) -> SyncClient:
    """A privileged client that survives the daemon."""
    path = links.run_dir / "xenstored" / "socket"
    return SyncClient(str(path), reconnect_s=30)


@dataclass(frozen=True, slots=True)
class Node:
    """All that a client can learn of a node."""

    value: bytes
    perms: list[str]
    children: list[str]
    generation: bytes


def snapshot(store: SyncClient, path: str = "/") -> dict[str, Node]:
    """Every node from `path` on."""
    part = store.request(XsWire.DIRECTORY_PART, payloads.strings(path, "0"))
    children = store.ls(path)
    nodes = {
        path: Node(
            store.read_bytes(path),
            [str(perm) for perm in store.get_perms(path)],
            children,
            part.split(b"\0")[0],
        )
    }
    for child in children:
        nodes |= snapshot(store, f"{path.rstrip('/')}/{child}")
    return nodes


def states(links: LinkMaker, link: Link) -> tuple[str, str]:
    """Both ends' xenbus states."""
    with store_of(links) as store:
        return (
            store.read(f"/local/domain/{link.domid}/device/vif/0/state"),
            store.read(f"/local/domain/0/backend/vif/{link.domid}/0/state"),
        )


def showing(links: LinkMaker, link: Link) -> set[tuple[str, int, int]]:
    """Side, process and number of each queue of the link's vif that its ends show."""
    with Hypervisor(links.run_dir / "hypervisor.sock") as hypervisor:
        pages = hypervisor.published(DomId(link.domid), DevId(link.devid))
    for page in pages:
        os.close(page.fd)
    return {(page.side, page.pid, page.queue) for page in pages}


class Ping:
    """Pings an address a hundred times a second; `lost` waits for its end."""

    def __init__(self, address: str, seconds: float) -> None:
        self._count = int(seconds * 100)
        self._process = subprocess.Popen(
            ["ping", "-q", "-i", "0.01", "-W", "2", "-c", str(self._count), address],
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def lost(self) -> int:
        """How many were not answered."""
        output, _ = self._process.communicate(timeout=60)
        (line,) = [line for line in output.splitlines() if "packets" in line]
        words = line.split()
        assert int(words[0]) == self._count, line
        return self._count - int(words[3])


def leftovers(links: LinkMaker, tag: str) -> list[str]:
    """Namespaces and interfaces that are there."""
    return [
        *(name for name in namespaces.list_names() if name.startswith(tag)),
        *netlinks.owned(str(links.run_dir)),
    ]
