"""A witness: a TCP connection that goes on for as long as a run, each byte checked."""

import contextlib
import hashlib
import socket
import threading
import time
from typing import Final

from xenvirt.netdev import namespaces

_PATTERN: Final = hashlib.shake_256(b"witness").digest(65521)
"""Of a prime length, so that whatever is lost, doubled or swapped shows."""
_TWICE: Final = _PATTERN + _PATTERN
_CHUNK: Final = 32768
_INTERVAL_S: Final = 0.005
_END_S: Final = 60.0


def _pattern(position: int, size: int) -> bytes:
    start = position % len(_PATTERN)
    return _TWICE[start : start + size]


class Stream:
    """Sends from a namespace (None: here) to an address of another, until `stop`."""

    def __init__(
        self, sender_netns: str | None, receiver_netns: str | None, address: str
    ) -> None:
        with inside(receiver_netns):
            listener = socket.create_server((address, 0))
        with inside(sender_netns):
            self._out = socket.create_connection(listener.getsockname(), timeout=10)
        self._out.settimeout(None)
        self._in, _ = listener.accept()
        listener.close()
        self._stopping = threading.Event()
        self.sent = self.received = 0
        self.wrong: str | None = None
        self._threads = [
            threading.Thread(target=work, daemon=True)
            for work in (self._send, self._receive)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> str | None:
        """End it, and say what was wrong with it; None if it lost nothing."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(_END_S)
            if thread.is_alive() and self.wrong is None:
                self.wrong = f"it hangs after {self.received} bytes"
        self._out.close()
        self._in.close()
        if self.wrong is None and self.received != self.sent:
            self.wrong = f"{self.sent} bytes were sent, {self.received} came"
        return self.wrong

    def _send(self) -> None:
        try:
            while not self._stopping.is_set():
                self._out.sendall(_pattern(self.sent, _CHUNK))
                self.sent += _CHUNK
                time.sleep(_INTERVAL_S)
            self._out.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.wrong = f"the sender's connection broke: {error}"

    def _receive(self) -> None:
        try:
            while data := self._in.recv(_CHUNK):
                if data != _pattern(self.received, len(data)):
                    self.wrong = f"other bytes after {self.received}"
                    return
                self.received += len(data)
        except OSError as error:
            self.wrong = f"the receiver's connection broke: {error}"


def inside(netns: str | None) -> contextlib.AbstractContextManager[None]:
    """Have the block run in a namespace, or here."""
    return namespaces.inside(netns) if netns else contextlib.nullcontext()
