"""Bytes through a link by TCP, hashed at both ends."""

import hashlib
import socket
import threading
from collections.abc import Iterable, Iterator
from itertools import cycle, islice, takewhile
from typing import Final

from xenvirt.netdev import namespaces

CHUNK: Final = 1 << 20


def _chunks() -> Iterator[bytes]:
    """A few different chunks, so that a repeated or swapped one shows."""
    return cycle([hashlib.shake_256(bytes([n])).digest(CHUNK) for n in range(7)])


class Receiver(threading.Thread):
    """Takes one connection and hashes what it brings."""

    def __init__(self, netns: str | None, address: str) -> None:
        super().__init__(daemon=True)
        self.digest = ""
        if netns is None:
            self._listener = self._listen(address)
        else:
            with namespaces.inside(netns):
                self._listener = self._listen(address)
        self.port = self._listener.getsockname()[1]
        self.start()

    @staticmethod
    def _listen(address: str) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.create_server((address, 0), family=family)

    def run(self) -> None:
        with self._listener, self._listener.accept()[0] as connection:
            sum_ = hashlib.sha256()
            while data := connection.recv(CHUNK):
                sum_.update(data)
            self.digest = sum_.hexdigest()


def transfer(
    from_netns: str | None, receiver: Receiver, address: str, size: int
) -> str:
    """Send `size` bytes (whole chunks); returns their SHA-256."""
    return _send(from_netns, receiver, address, islice(_chunks(), size // CHUNK))


def transfer_until(
    over: threading.Event, from_netns: str | None, receiver: Receiver, address: str
) -> str:
    """The same, of as many bytes as are sent until it is over."""
    chunks = takewhile(lambda _: not over.is_set(), _chunks())
    return _send(from_netns, receiver, address, chunks)


def _send(
    from_netns: str | None, receiver: Receiver, address: str, chunks: Iterable[bytes]
) -> str:
    if from_netns is None:
        connection = socket.create_connection((address, receiver.port), timeout=30)
    else:
        with namespaces.inside(from_netns):
            connection = socket.create_connection((address, receiver.port), timeout=30)
    sum_ = hashlib.sha256()
    with connection:
        for chunk in chunks:
            sum_.update(chunk)
            connection.sendall(chunk)
    receiver.join(timeout=60)
    return sum_.hexdigest()
