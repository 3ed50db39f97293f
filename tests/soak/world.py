"""Two links as users have them: one with addresses, one on a bridge, both with routes.

                                 .- xvif1i0 === xennet0 (plain: 10.214.6.0/24)
10.214.8.0/24 via plain   host --+
10.214.9.0/24 via bridge         '- bridge -- xvif2i0 === xennet0 (10.214.7.0/24)
"""

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.integration.links import Link, LinkMaker
from tests.soak.echo import Responder
from xenvirt.netdev import links as netlinks
from xenvirt.toolstack.host import Host, connect
from xenvirt.toolstack.rundir import RunDir
from xenvirt.xenstore.errors import StoreNotFoundError

PLAIN_NEAR: Final = "10.214.6.1"
PLAIN_FAR: Final = "10.214.6.2"
BRIDGE_NEAR: Final = "10.214.7.1"
BRIDGE_FAR: Final = "10.214.7.2"
BRIDGE: Final = "xsoak0"

CONNECTED: Final = "4"

START_S: Final = 15.0
_POLL_S: Final = 0.002


def run(*command: str) -> str:
    """What a command prints; CalledProcessError if it fails."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True, slots=True)
class World:
    """The links, and connections to their daemon that outlive it."""

    links: LinkMaker
    host: Host
    plain: Link
    bridged: Link

    @property
    def all_links(self) -> tuple[Link, Link]:
        """Both of them."""
        return self.plain, self.bridged

    @property
    def launcher(self) -> int:
        """The first process."""
        return int((self.links.run_dir / "lock").read_text())

    def child(self, name: str) -> int:
        """One of them, which may have yet to be started again."""
        deadline = time.monotonic() + START_S
        while (pid := self.children().get(name)) is None:
            assert time.monotonic() < deadline, f"there is no {name}"
            time.sleep(_POLL_S)
        return pid

    def killable(self) -> list[str]:
        """The names of the processes that its links need, but for the launcher."""
        return ["backend-0", "daemon"] + [f"frontend-{x.domid}" for x in self.all_links]

    def is_its(self, netns: str) -> bool:
        """Whether a namespace's name is one that its links have, or would have."""
        return netns.startswith(self.links.name(""))

    def children(self) -> dict[str, int]:
        """The launcher's children by name: daemon, backend-0, frontend-1, …"""
        pid = self.launcher
        found = {}
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in children:
            with suppress(OSError):
                name = Path(f"/proc/{child}/comm").read_text().strip()
                found[name] = int(child)
        return found

    def is_connected(self, link: Link) -> bool:
        """Whether both ends say so."""
        return all(
            self._read(path) == CONNECTED
            for path in (
                f"/local/domain/{link.domid}/device/vif/0/state",
                f"/local/domain/0/backend/vif/{link.domid}/0/state",
            )
        )

    def _read(self, path: str) -> str | None:
        try:
            return self.host.store.read(path)
        except StoreNotFoundError:
            return None


@contextmanager
def world(links: LinkMaker) -> Iterator[World]:
    """Have both links up, and answering; they stay, for the maker to take down."""
    with ExitStack() as stack:
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        stack.callback(netlinks.delete, BRIDGE)
        # Or Linux takes seconds to give it an address of IPv6.
        run("ip", "link", "set", BRIDGE, "addrgenmode", "none")
        run("ip", "link", "set", BRIDGE, "up")
        run("ip", "address", "add", f"{BRIDGE_NEAR}/24", "dev", BRIDGE)
        plain = links.up(
            "plain", "--ip", f"{PLAIN_FAR}/24", "--peer-ip", f"{PLAIN_NEAR}/24"
        )
        bridged = links.up("bridged", f"bridge={BRIDGE}", "--ip", f"{BRIDGE_FAR}/24")
        for link, near, far, beyond in (
            (plain, PLAIN_NEAR, PLAIN_FAR, "10.214.8.0/24"),
            (bridged, BRIDGE_NEAR, BRIDGE_FAR, "10.214.9.0/24"),
        ):
            run("ip", "route", "add", beyond, "via", far)
            run("ip", "-n", link.netns, "route", "add", "default", "via", near)
            stack.callback(Responder(link.netns, far).close)
        host = stack.enter_context(connect(RunDir(links.run_dir)))
        yield World(links, host, plain, bridged)
