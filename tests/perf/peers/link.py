"""A link that is measured, and what its makers share."""

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final

PREFIX: Final = f"bench-{os.getpid()}"
"""Of the names of namespaces, which all of the machine shares."""


ANSWER_S: Final = 5
"""How long a link may take until something comes through."""
IP_ICMP_BYTES: Final = 20 + 8


class Unavailable(Exception):
    """A peer cannot be had here; the message says why."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link that is up, between this namespace and one of its own.

    `near` is the host's end, a backend's, and `far` the domain's. `pids` are the
    processes that move its frames, if the kernel does not. With `never_sleeps` they
    compute even when there is no frame, and are stopped while others are measured.
    """

    number: int
    netns: str
    near: str
    far: str
    pids: Sequence[int] = ()
    never_sleeps: bool = False

    def address(self, end: str, version: int = 4) -> str:
        """The address of the `near` or the `far` end, of IP 4 or 6."""
        host = {"near": 1, "far": 2}[end]
        if version == 4:
            return f"10.213.{self.number}.{host}"
        return f"fd00:213:0:{self.number}::{host}"

    def in_far(self, *command: str) -> list[str]:
        """The command, run at the far end."""
        return ["ip", "netns", "exec", self.netns, *command]

    def configure(self) -> None:
        """Give both ends their addresses, bring them up, and wait for an answer.

        Raises Unavailable when there is none.
        """
        for end, device, where in self._ends():
            run(*where, "link", "set", device, "up")
            for version, bits in ((4, 24), (6, 64)):
                address = f"{self.address(end, version)}/{bits}"
                # A new address of IPv6 is of no use for two seconds without it.
                flags = ("nodad",) if version == 6 else ()
                add = ("address", "replace", address, "dev", device)
                run(*where, *add, *flags)
        if not self._answers():
            raise Unavailable("nothing comes through")

    def set_mtu(self, mtu: int) -> None:
        """Set the MTU of both ends.

        Raises Unavailable when they do not take it, or such a packet is lost.
        """
        for _, device, where in self._ends():
            try:
                run(*where, "link", "set", device, "mtu", str(mtu))
            except RuntimeError as error:
                raise Unavailable(str(error)) from error
        whole = ("-M", "do", "-s", str(mtu - IP_ICMP_BYTES))
        if not self._answers(*whole):
            raise Unavailable(f"a packet of {mtu:,} bytes does not come through")

    def _answers(self, *options: str) -> bool:
        """Whether a ping is answered soon."""
        ping = ("ping", "-n", "-i", "0.1", "-c", "1", "-w", str(ANSWER_S), *options)
        try:
            run(*ping, self.address("far"))
        except RuntimeError:
            return False
        return True

    def _ends(self) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
        far_ip = ("ip", "-n", self.netns)
        return (("near", self.near, ("ip",)), ("far", self.far, far_ip))


Peer = Callable[[int], AbstractContextManager[Link]]
"""Makes a link of that number, and takes down what it made."""


def run(*command: str, timeout_s: float = 120) -> str:
    """Run a command and return what it printed.

    Raises RuntimeError with what it said when it fails or takes too long.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{' '.join(command)}: no end in {timeout_s} s") from error
    if done.returncode != 0:
        said = f"{done.stdout}{done.stderr}".strip()
        raise RuntimeError(f"{' '.join(command)}: {said}")
    return done.stdout


@contextmanager
def namespace(number: int) -> Iterator[str]:
    """The namespace of a link's far end."""
    name = f"{PREFIX}-{number}"
    run("ip", "netns", "add", name)
    try:
        yield name
    finally:
        run("ip", "netns", "delete", name)
