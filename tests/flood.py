"""A domain that sends to the host all that its vif lets through, and how much that is.

The bytes are those of the backend's counter tx_bytes, whole frames: what its credit
counts.
"""

import os
import socket
import threading
import time
from contextlib import suppress
from typing import Final, Self

from tests.integration.links import Link, LinkMaker
from xenvirt.abi.ids import DevId, DomId
from xenvirt.hypervisor.sync_client import SyncClient
from xenvirt.native.queue_stats import QueueStats
from xenvirt.netdev import namespaces
from xenvirt.vif import queue_stats

CHUNK: Final = 1 << 18
UDP_PAYLOAD: Final = 1400
TICK_S: Final = 0.001
NEAR: Final = "10.212.1.1"
FAR: Final = "10.212.1.2"


class Flood:
    """One TCP connection, or datagrams, from a domain to the host until it closes."""

    def __init__(
        self, links: LinkMaker, link: Link, *, near: str = NEAR, udp: bool = False
    ) -> None:
        self._links = links
        self._node = f"/local/domain/0/backend/vif/{link.domid}/{link.devid}/rate"
        self._queues = _backend_queues(links, link)
        kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
        self._sink = socket.socket(socket.AF_INET, kind)
        self._sink.bind((near, 0))
        with namespaces.inside(link.netns):
            self._source = socket.socket(socket.AF_INET, kind)
        self._sockets = [self._sink, self._source]
        if udp:
            self._source.connect(self._sink.getsockname())
        else:
            self._sink.listen()
            self._source.connect(self._sink.getsockname())
            self._sink = self._sink.accept()[0]
            self._sockets.append(self._sink)
        self._data = bytes(UDP_PAYLOAD if udp else CHUNK)
        self._threads = [
            threading.Thread(target=run) for run in (self._send, self._take)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def _send(self) -> None:
        with suppress(OSError):
            while True:
                self._source.sendall(self._data)

    def _take(self) -> None:
        room = bytearray(CHUNK)
        with suppress(OSError):
            while self._sink.recv_into(room):
                pass

    def set_rate(self, rate: str) -> None:
        """Write the backend's node, `bytes,usec`."""
        self._links.run("xenstore", "write", self._node, rate)

    def bits_per_s(self, seconds: float) -> float:
        """What comes in now, over at least so many seconds, from frame to frame."""
        begin, before = self._next_frame()
        time.sleep(seconds)
        end, after = self._next_frame()
        return 8 * (after - before) / (end - begin)

    def closest(self, mbit_per_s: float, seconds: float) -> float:
        """What comes in, Mbit/s: of three times the one that is closest to that.

        Other programs may keep a processor from it for a while.
        """
        measured = (self.bits_per_s(seconds) / 1e6 for _ in range(3))
        return min(measured, key=lambda got: abs(got - mbit_per_s))

    def stands_still(self, seconds: float) -> bool:
        """Whether nothing comes in for so many seconds."""
        before = self._bytes()
        time.sleep(seconds)
        return self._bytes() == before

    def _next_frame(self) -> tuple[float, int]:
        """When the next frame, or more, came in; and all bytes until then."""
        before = self._bytes()
        while (now := self._bytes()) == before:
            time.sleep(TICK_S)
        return time.monotonic(), now

    def _bytes(self) -> int:
        return sum(queue.counters()["tx_bytes"] for queue in self._queues)


def _backend_queues(links: LinkMaker, link: Link) -> list[QueueStats]:
    """The statistics of the backend's queues, which go on changing."""
    queues = []
    with SyncClient(links.run_dir / "hypervisor.sock") as hypervisor:
        for page in hypervisor.published(DomId(link.domid), DevId(link.devid)):
            if page.side == "back":
                queues.append(queue_stats.read(page.fd, page.queue))
            os.close(page.fd)
    return queues
