"""Traffic for a demonstration: ping, iperf3, and a TCP transfer without iperf3."""

import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from xenvirt.errors import NotFoundError, XenvirtError
from xenvirt.netdev import namespaces

TRANSFER_BYTES: Final = 256 * 1024 * 1024

_CHUNK: Final = bytes(1024 * 1024)
_SERVER_TIMEOUT_S: Final = 5.0
_LISTENING: Final = "Server listening"


@dataclass(frozen=True, slots=True)
class Throughput:
    """What a TCP connection carried; `retransmits` is None where it is not known."""

    gbit_per_s: float
    carried_bytes: int
    seconds: float
    retransmits: int | None = None


def ping(address: str, *, count: int, interval_s: float = 0.2) -> list[str]:
    """Send echo requests from the host; return ping's lines.

    NotFoundError without ping, XenvirtError if an answer is missing.
    """
    result = _run(["ping", "-n", "-c", str(count), "-i", str(interval_s), address])
    lines = [line for line in result.stdout.splitlines() if line]
    if result.returncode != 0:
        raise XenvirtError(
            f"ping {address} has failed", cause="; ".join(lines[-2:]) or result.stderr
        )
    return lines


def has_iperf3() -> bool:
    """Say whether iperf3 is installed."""
    return shutil.which("iperf3") is not None


def iperf3(netns: str, address: str, *, seconds: int, reverse: bool) -> Throughput:
    """Run an iperf3 server in a namespace, and a client to it on the host.

    `reverse` has the server send. XenvirtError if either fails.
    """
    command = ["iperf3", "--client", address, "--time", str(seconds), "--json"]
    with _iperf3_server(netns):
        result = _run([*command, "--reverse"] if reverse else command)
    try:
        report = json.loads(result.stdout)
        if "error" in report:
            raise XenvirtError("iperf3 has failed", cause=report["error"])
        sent, received = report["end"]["sum_sent"], report["end"]["sum_received"]
        return Throughput(
            received["bits_per_second"] / 1e9,
            received["bytes"],
            received["seconds"],
            sent.get("retransmits"),
        )
    except (ValueError, KeyError) as error:
        raise XenvirtError(
            "iperf3 has failed", cause=result.stderr.strip() or "its report is no JSON"
        ) from error


@contextlib.contextmanager
def _iperf3_server(netns: str) -> Iterator[None]:
    with namespaces.inside(netns):
        # The child begins where the thread is that starts it. One run each: a
        # server that has just ended one is busy for a while.
        server = subprocess.Popen(
            ["iperf3", "--server", "--one-off", "--forceflush"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        assert server.stdout is not None
        said = []
        for line in server.stdout:
            said.append(line)
            if _LISTENING in line:
                break
        else:
            raise XenvirtError("the iperf3 server has ended", cause=" ".join(said))
        yield
    finally:
        server.terminate()
        try:
            server.communicate(timeout=_SERVER_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.communicate()


def transfer(netns: str, address: str, *, reverse: bool) -> Throughput:
    """Send 256 MiB by TCP from the host into the namespace, or back if `reverse`."""
    with namespaces.inside(netns):
        listening = socket.create_server((address, 0), family=_family(address))
    failures: list[OSError] = []

    def serve() -> None:
        try:
            peer, _ = listening.accept()
            with peer:
                (_send if reverse else _receive)(peer)
        except OSError as error:
            failures.append(error)

    server = threading.Thread(target=serve, name="transfer")
    with listening:
        listening.settimeout(_SERVER_TIMEOUT_S)
        server.start()
        begin = time.monotonic()
        try:
            port = listening.getsockname()[1]
            with socket.create_connection((address, port), _SERVER_TIMEOUT_S) as ours:
                count = (_receive if reverse else _send)(ours)
        finally:
            server.join()
        seconds = time.monotonic() - begin
    if failures or count != TRANSFER_BYTES:
        raise XenvirtError(f"a transfer to {address} has failed", cause=str(failures))
    return Throughput(count * 8 / seconds / 1e9, count, seconds)


def _send(sock: socket.socket) -> int:
    for _ in range(TRANSFER_BYTES // len(_CHUNK)):
        sock.sendall(_CHUNK)
    sock.shutdown(socket.SHUT_WR)
    # The other side closes when it has everything.
    sock.recv(1)
    return TRANSFER_BYTES


def _receive(sock: socket.socket) -> int:
    buffer = bytearray(len(_CHUNK))
    count = 0
    while size := sock.recv_into(buffer):
        count += size
    return count


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise NotFoundError(
            f"there is no {command[0]} here",
            hint=f"apt-get install {_package(command)}",
        ) from error


def _package(command: Sequence[str]) -> str:
    return {"ping": "iputils-ping"}.get(command[0], command[0])
