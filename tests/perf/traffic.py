"""Traffic over a link, and what its programs say of it."""

import json
import math
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from tests.perf.peers.link import Link, run


class Direction(StrEnum):
    """Of what carries the payload."""

    TO = "to the domain"
    FROM = "from the domain"
    BOTH = "both ways"


UDP_SOURCE: Final = Path(__file__).parent / "udp.c"
ETH_IP_UDP_BYTES: Final = 14 + 20 + 8
GRACE_S: Final = 20
"""How much longer than its traffic a program may take."""
OPTIONS: Final[Mapping[Direction, tuple[str, ...]]] = {
    Direction.TO: (),
    Direction.FROM: ("--reverse",),
    Direction.BOTH: ("--bidir",),
}


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the programs are that were built for a run."""

    directory: Path

    @property
    def udp(self) -> str:
        """Of udp.c."""
        return str(self.directory / "udp")

    def build(self) -> None:
        """Raises RuntimeError when the compiler finds an error."""
        run("cc", "-std=gnu11", "-O2", "-pthread", "-o", self.udp, str(UDP_SOURCE))


@contextmanager
def _server(link: Link) -> Iterator[None]:
    """An iperf3 server at the far end, ready for one test."""
    server = subprocess.Popen(
        link.in_far("iperf3", "--server", "--one-off", "--forceflush"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    try:
        _read_until("listening", server)
        yield
    finally:
        server.kill()
        server.communicate()


def _read_until(word: str, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if word in line:
            return
    raise RuntimeError(f"iperf3 has ended: {''.join(seen).strip()}")


def _client(link: Link, version: int, seconds: float) -> tuple[str, ...]:
    address = link.address("far", version)
    # It has no fractions, and takes 0 for a test without an end.
    return ("iperf3", "--client", address, "--time", str(math.ceil(seconds)))


def tcp(
    link: Link, seconds: float, flows: int, direction: Direction, version: int
) -> "Tcp":
    """Run so many flows for whole seconds, rounded up."""
    client = (*_client(link, version, seconds), "--json", "--parallel", str(flows))
    with _server(link):
        text = run(*client, *OPTIONS[direction], timeout_s=seconds + GRACE_S)
    return Tcp.parse(json.loads(text)["end"])


def number(tree: object, *path: str) -> float:
    """A number in a tree of JSON, by its keys."""
    for key in path:
        assert isinstance(tree, Mapping)
        tree = tree[key]
    assert isinstance(tree, int | float)
    return tree


@dataclass(frozen=True, slots=True)
class Tcp:
    """Payload that arrived, of all flows and directions: bytes, and bytes a second."""

    received: float
    received_s: float

    @classmethod
    def parse(cls, end: Mapping[str, object]) -> "Tcp":
        """From the "end" of what iperf3 gives; both directions where there are two."""
        names = ("sum_received", "sum_received_bidir_reverse")
        sums = [end[name] for name in names if name in end]
        bits_s = sum(number(each, "bits_per_second") for each in sums)
        return cls(sum(number(each, "bytes") for each in sums), bits_s / 8)


@contextmanager
def tcp_load(link: Link, direction: Direction) -> Iterator[None]:
    """One TCP flow, as fast as it gets, which runs while the block does."""
    client = (*_client(link, 4, 0), "--interval", "0.1", "--forceflush")
    with _server(link):
        load = subprocess.Popen(
            [*client, *OPTIONS[direction]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        try:
            _read_until("bits/sec", load)
            yield
        finally:
            load.kill()
            load.communicate()


@dataclass(frozen=True, slots=True)
class Udp:
    """Packets that were sent and that arrived, and how long each took."""

    sent: int
    received: int
    sending_s: float
    receiving_s: float

    @classmethod
    def parse(cls, text: str) -> "Udp":
        """What udp.c prints."""
        sent, received, sending_s, receiving_s = text.split()
        return cls(int(sent), int(received), float(sending_s), float(receiving_s))

    @property
    def delivered_s(self) -> float:
        """Packets that arrived, a second."""
        return self.received / self.receiving_s if self.received else 0.0

    @property
    def offered_s(self) -> float:
        """Packets that were sent, a second."""
        return self.sent / self.sending_s


def udp(
    programs: Programs,
    link: Link,
    seconds: float,
    direction: Direction,
    frame_bytes: int,
    rate: float = 0,
) -> Udp:
    """Frames of one flow: `rate` a second, or as fast as the sender can."""
    near, far = f"/proc/{os.getpid()}/ns/net", f"/run/netns/{link.netns}"
    to_domain = direction is Direction.TO
    ends = (near, far) if to_domain else (far, near)
    address = link.address("far" if to_domain else "near")
    payload = str(frame_bytes - ETH_IP_UDP_BYTES)
    options = (payload, f"{rate:.0f}", f"{seconds:g}")
    command = (programs.udp, *ends, address, *options)
    return Udp.parse(run(*command, timeout_s=seconds + GRACE_S))


def ping_us(link: Link, seconds: float, *pace: str) -> list[float]:
    """Round trips to the far end in whole seconds, rounded up, in microseconds.

    Raises RuntimeError when no ping came back.
    """
    deadline_s = math.ceil(seconds)
    command = ("ping", "-n", *pace, "-w", str(deadline_s), link.address("far"))
    return parse_ping(run(*command, timeout_s=deadline_s + GRACE_S))


def parse_ping(text: str) -> list[float]:
    """The round trips in what ping prints, in microseconds."""
    lines: Sequence[str] = [line for line in text.splitlines() if "time=" in line]
    return [float(line.split("time=")[1].split()[0]) * 1e3 for line in lines]
