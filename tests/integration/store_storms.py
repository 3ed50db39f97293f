"""Clients of the store that write without waiting for anything."""

import select
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.integration.links import LinkMaker
from tests.raw_store import RawClient
from xenvirt.abi.xs_wire import XsWire
from xenvirt.hypervisor.sync_client import SyncClient as Hypervisor
from xenvirt.xenstore.framing import encode


def write(path: str, value: str) -> bytes:
    """The request to write a node."""
    return encode(XsWire.WRITE, 1, 0, f"{path}\0{value}".encode())


def flip(
    links: LinkMaker, path: str, values: Sequence[str], times: int, domid: int = 0
) -> None:
    """Write the values to a node in turn, `times` in all and in one go, as a domain.

    The store does not limit domain 0.
    """
    requests = b"".join(write(path, value) for value in values)
    with _connection_of(links, domid) as sock:
        rounds = times // len(values)
        replies = RawClient(sock).pipeline(requests * rounds, rounds * len(values))
    assert all(reply.type == XsWire.WRITE for reply in replies)


def flip_one_by_one(
    links: LinkMaker, path: str, values: Sequence[str], times: int, domid: int = 0
) -> None:
    """The same, each when the one before is answered.

    The store tells watchers of each, and does not merge them as it does in one go.
    """
    with _connection_of(links, domid) as sock:
        client = RawClient(sock)
        for number in range(times):
            value = values[number % len(values)]
            client.do(XsWire.WRITE, f"{path}\0{value}".encode())


def _connection_of(links: LinkMaker, domid: int) -> socket.socket:
    """A connection to the store that has the rights of a domain."""
    with Hypervisor(links.run_dir / "hypervisor.sock") as hypervisor:
        _, (fd,) = hypervisor.call("open_xenbus", **{"as": domid})
    return socket.socket(fileno=fd)


def flood_requests(domid: int) -> bytes:
    """What a domain may ask for: writes, watches, transactions, as many as it can."""
    own = f"/local/domain/{domid}/data"
    requests = []
    for number in range(64):
        path = f"{own}/{number}"
        requests += [
            write(path, "x" * 100),
            encode(XsWire.WATCH, 1, 0, f"{path}\0{number}\0".encode()),
            encode(XsWire.TRANSACTION_START, 1, 0, b"\0"),
            encode(XsWire.DIRECTORY, 1, 0, f"{own}\0".encode()),
            encode(XsWire.UNWATCH, 1, 0, f"{path}\0{number}\0".encode()),
        ]
    return b"".join(requests)


@contextmanager
def flood(links: LinkMaker, domid: int) -> Iterator[None]:
    """A domain that asks the store without a pause, and reads what it answers."""
    requests = memoryview(flood_requests(domid))
    over = threading.Event()

    def ask(sock: socket.socket) -> None:
        sent = 0
        while not over.is_set():
            readable, writable, _ = select.select([sock], [sock], [], 0.1)
            if readable and not sock.recv(1 << 16):
                return
            if writable:
                sent = (sent + sock.send(requests[sent:])) % len(requests)

    with _connection_of(links, domid) as sock:
        sock.setblocking(False)
        thread = threading.Thread(target=ask, args=(sock,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
