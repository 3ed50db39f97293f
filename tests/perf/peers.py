"""The links that are compared: each joins this namespace with one of its own.

A peer is a context manager that gives a `Link` and takes down what it made.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
XENVIRT: Final = Path(sys.executable).parent / "xenvirt"


@dataclass(frozen=True, slots=True)
class Link:
    """A link that is up: the far namespace, and both addresses."""

    netns: str
    near_ip: str
    far_ip: str

    def far(self, *command: str) -> list[str]:
        """The command, run at the far end."""
        return ["ip", "netns", "exec", self.netns, *command]


Peer = Callable[[int], AbstractContextManager[Link]]


def run(*command: str, timeout_s: float = 120) -> str:
    """Run a command and return what it printed; an error shows what it said."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


@contextmanager
def _namespace(name: str) -> Iterator[str]:
    run("ip", "netns", "add", name)
    try:
        yield name
    finally:
        run("ip", "netns", "delete", name)


def _address(link: Link, near: str, far: str) -> Link:
    run("ip", "address", "add", f"{link.near_ip}/24", "dev", near)
    run("ip", "link", "set", near, "up")
    run("ip", "-n", link.netns, "address", "add", f"{link.far_ip}/24", "dev", far)
    run("ip", "-n", link.netns, "link", "set", far, "up")
    run("ping", "-c", "1", "-w", "5", link.far_ip)
    return link


@contextmanager
def veth(number: int) -> Iterator[Link]:
    """A veth pair: what the kernel alone can do."""
    near, far = f"vb{number}a", f"vb{number}b"
    with _namespace(f"bench-{os.getpid()}-{number}") as netns:
        run("ip", "link", "add", near, "type", "veth", "peer", far, "netns", netns)
        link = Link(netns, f"10.213.{number}.1", f"10.213.{number}.2")
        yield _address(link, near, far)


@contextmanager
def relay(number: int) -> Iterator[Link]:
    """Two TAPs and the plainest C program between them."""
    near, far = f"rb{number}a", f"rb{number}b"
    with (
        tempfile.TemporaryDirectory() as directory,
        _namespace(f"bench-{os.getpid()}-{number}") as netns,
    ):
        program = f"{directory}/tap_relay"
        run("cc", "-O2", "-o", program, str(HERE / "tap_relay.c"))
        process = subprocess.Popen([program, near, far], stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            process.stdout.readline()
            run("ip", "link", "set", far, "netns", netns)
            link = Link(netns, f"10.213.{number}.1", f"10.213.{number}.2")
            yield _address(link, near, far)
        finally:
            process.kill()
            process.communicate()


def up_ms(times: int) -> list[float]:
    """How long `xenvirt up` takes to both ends Connected, with a daemon running."""
    name = f"bench-{os.getpid()}-up"
    with tempfile.TemporaryDirectory(prefix="xenvirt-bench-") as directory:
        os.chmod(directory, 0o755)
        command = (str(XENVIRT), "--run-dir", f"{directory}/run")
        taken = []
        try:
            run(*command, "daemon")
            for _ in range(times):
                shown = json.loads(run(*command, "--json", "up", name))
                taken.append(1e3 * shown["link"]["connected_s"])
                run(*command, "down", name)
        finally:
            run(*command, "daemon", "--stop")
    return taken


@contextmanager
def xenvirt(number: int) -> Iterator[Link]:
    """The split driver."""
    name = f"bench-{os.getpid()}-{number}"
    near, far = f"10.213.{number}.1", f"10.213.{number}.2"
    with tempfile.TemporaryDirectory(prefix="xenvirt-bench-") as directory:
        os.chmod(directory, 0o755)
        command = (str(XENVIRT), "--run-dir", f"{directory}/run")
        up = [*command, "--json", "up", name, "--ip", f"{far}/24"]
        try:
            json.loads(run(*up, "--peer-ip", f"{near}/24"))
            yield Link(name, near, far)
        finally:
            run(*command, "down", "--all")
            run(*command, "daemon", "--stop")


PEERS: Final[dict[str, Peer]] = {"xenvirt": xenvirt, "veth": veth, "relay": relay}
