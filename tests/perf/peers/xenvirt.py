"""The split driver, set up as a user does it, by `xenvirt up`."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.perf.peers.link import PREFIX, Link, run
from xenvirt.hypervisor.sync_client import SyncClient

XENVIRT: Final = Path(sys.executable).parent / "xenvirt"


@contextmanager
def daemon() -> Iterator[tuple[str, ...]]:
    """How to run `xenvirt` with a daemon of its own, which ends with the block."""
    with tempfile.TemporaryDirectory(prefix="xenvirt-bench-") as directory:
        os.chmod(directory, 0o755)
        command = (str(XENVIRT), "--run-dir", f"{directory}/run")
        try:
            run(*command, "daemon")
            yield command
        finally:
            run(*command, "daemon", "--stop")


def end_pids(run_dir: str) -> list[int]:
    """The processes of both ends, which move the frames."""
    with SyncClient(Path(run_dir) / "hypervisor.sock") as hypervisor:
        domains = hypervisor.domain_list()
    ends = [end for domain in domains for end in _list(domain["ends"])]
    return [int(str(end["pid"])) for end in ends]


def _list(value: object) -> list[dict[str, object]]:
    assert isinstance(value, list)
    return value


@contextmanager
def xenvirt(number: int, *keys: str) -> Iterator[Link]:
    """A link with the defaults of `xenvirt up`, less those that `keys` change."""
    name = f"{PREFIX}-{number}"
    with daemon() as command:
        ips = (f"10.213.{number}.2/24", f"10.213.{number}.1/24")
        words = (*keys, "--ip", ips[0], "--peer-ip", ips[1])
        up = (*command, "--json", "up", name, *words)
        shown = json.loads(run(*up))["link"]
        devices = (shown["back_ifname"], shown["front_ifname"])
        link = Link(number, name, *devices, pids=end_pids(command[2]))
        link.configure()
        yield link


def up_ms(times: int) -> list[float]:
    """How long `xenvirt up` takes to both ends Connected, with a daemon running."""
    name = f"{PREFIX}-up"
    taken = []
    with daemon() as command:
        for _ in range(times):
            shown = json.loads(run(*command, "--json", "up", name))
            taken.append(1e3 * shown["link"]["connected_s"])
            run(*command, "down", name)
    return taken
