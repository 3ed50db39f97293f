"""UDP both ways at a low rate: how much of it is lost is only shown."""

import socket
import threading
import time
from contextlib import suppress
from typing import Final

from tests.soak.stream import inside

_SIZE: Final = 1000
_INTERVAL_S: Final = 0.002
_END_S: Final = 0.2


class Datagrams:
    """From a namespace (None: here) to an address of another, until `stop`."""

    def __init__(self, sender: str | None, receiver: str | None, address: str) -> None:
        with inside(receiver):
            self._in = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._in.bind((address, 0))
        with inside(sender):
            self._out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._in.settimeout(_END_S)
        self._stopping = threading.Event()
        self.sent = self.received = 0
        self._threads = [
            threading.Thread(target=work, daemon=True)
            for work in (self._send, self._receive)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End it."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._in.close()
        self._out.close()

    def _send(self) -> None:
        target = self._in.getsockname()
        while not self._stopping.is_set():
            # Refused without a route or a carrier: lost, as on the way.
            with suppress(OSError):
                self._out.sendto(bytes(_SIZE), target)
            self.sent += 1
            time.sleep(_INTERVAL_S)

    def _receive(self) -> None:
        while True:
            try:
                self._in.recv(_SIZE)
                self.received += 1
            except TimeoutError:
                if self._stopping.is_set():
                    return
