"""Links made as a user makes them, by the command, in a run directory of their own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from xenvirt.hypervisor.detect import found
from xenvirt.hypervisor.interface import HypervisorKind
from xenvirt.hypervisor.sync_client import SyncClient

ON_XEN: Final = found() is HypervisorKind.XEN
"""In dom0 both ends of a link are there, each a process, without a daemon."""

XENVIRT: Final = Path(sys.executable).parent / "xenvirt"


@dataclass(frozen=True, slots=True)
class Link:
    """A link that is up, in the emulation or within one domain of Xen."""

    name: str
    domid: int
    devid: int
    near: str
    far: str

    @property
    def netns(self) -> str:
        """The domain's namespace."""
        return self.name


class LinkMaker:
    """Runs `xenvirt` with one run directory; `close` takes everything down."""

    def __init__(self, directory: Path, tag: str) -> None:
        self.run_dir = directory / "run"
        self._tag = tag

    def name(self, name: str) -> str:
        """A domain name that no other run of the tests uses."""
        return f"{self._tag}-{name}"

    def command(self, *arguments: str) -> list[str]:
        """The command line of `xenvirt ARGUMENTS`."""
        return [str(XENVIRT), "--run-dir", str(self.run_dir), *arguments]

    def run(
        self, *arguments: str, status: int | None = 0, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run `xenvirt ARGUMENTS`; it must end with `status`, if one is given."""
        done = subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
        assert status in (None, done.returncode), (arguments, done.stdout, done.stderr)
        return done

    def json(self, *arguments: str) -> dict[str, Any]:
        """What `xenvirt --json ARGUMENTS` prints."""
        parsed: dict[str, Any] = json.loads(self.run("--json", *arguments).stdout)
        assert parsed["schema"] == "xenvirt/1"
        return parsed

    def up(self, name: str, *arguments: str) -> Link:
        """A link that is Connected at both ends."""
        shown = self.json("up", self.name(name), *arguments)["link"]
        return Link(
            self.name(name),
            shown["domain"]["domid"],
            shown["paths"]["devid"],
            shown["back_ifname"],
            shown["front_ifname"],
        )

    def down(self, link: Link) -> None:
        """Remove a link."""
        self.run("down", link.name)

    def counters(self, link: Link) -> dict[str, dict[str, int]]:
        """Both ends' counters of a link's only vif, by side; of all its queues."""
        of_queues = self.queue_counters(link)
        return {
            side: {name: sum(q[name] for q in queues) for name in queues[0]}
            for side, queues in of_queues.items()
        }

    def queue_counters(self, link: Link) -> dict[str, list[dict[str, int]]]:
        """The same, of each queue."""
        (view,) = self.json("show", f"{link.domid}/{link.devid}")["vifs"]
        return {
            side: [queue["counters"] for queue in view[side]["queues"]]
            for side in ("front", "back")
        }

    def ends(self) -> dict[tuple[str, int], int]:
        """The process of each end, by role and domid."""
        with SyncClient(self.run_dir / "hypervisor.sock") as hypervisor:
            domains = hypervisor.domain_list()
        return {
            (end["role"], domain["domid"]): end["pid"]
            for domain in cast(list[dict[str, Any]], domains)
            for end in domain["ends"]
        }

    def log(self) -> str:
        """What every process has logged."""
        return (self.run_dir / "log").read_text()

    def close(self) -> None:
        """Take everything down, the daemon too."""
        if ON_XEN:
            self.run("down", "--all")
        elif (self.run_dir / "hypervisor.sock").exists():
            self.run("daemon", "--stop")


def tag() -> str:
    """What makes this run's names its own."""
    return f"t{os.getpid()}"
