"""Round trips by UDP from this process: in a fraction of a millisecond, and no fork.

Not ping(8), nor ICMP at all: Linux answers that by one socket for each CPU, which all
network namespaces share. A domain that cannot resolve its neighbour, as its link was
just broken, has its answers wait there for a second or three; 200 of them fill the
socket, and nobody else is answered (IcmpOutErrors).
"""

import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Final, Self

from tests.soak.stream import inside

_PORT: Final = 7
_NUMBER: Final = struct.Struct("!I")
_INTERVAL_S: Final = 0.01
_LATE_S: Final = 2.0


class Responder:
    """Answers at an address of a namespace until it is closed."""

    def __init__(self, netns: str, address: str) -> None:
        with inside(netns):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, _PORT))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer nobody any more."""
        # It says ENOTCONN, and whoever waits for data is told that none will come.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while True:
            data, sender = self._socket.recvfrom(_NUMBER.size)
            if not data:
                return
            # Refused without a route or a carrier: lost, as on the way.
            with suppress(OSError):
                self._socket.sendto(data, sender)


class _Socket:
    """A socket for one address, whose answers tell the number of their request."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((address, _PORT))

    def close(self) -> None:
        self._socket.close()

    def send(self, number: int) -> bool:
        """Send a request; False without a route, or without a carrier."""
        # The first error may be what became of an earlier one.
        for _ in range(2):
            with suppress(OSError):
                self._socket.send(_NUMBER.pack(number))
                return True
        return False

    def answered(self, deadline: float) -> int | None:
        """The number of the next answer; None when there is none by then."""
        while True:
            self._socket.settimeout(max(0.0, deadline - time.monotonic()))
            try:
                number: int = _NUMBER.unpack(self._socket.recv(_NUMBER.size))[0]
            except (TimeoutError, BlockingIOError):
                return None
            except OSError:
                # An earlier request is told to have found nobody.
                continue
            return number


class Echo:
    """Asks the responder at an address whether it answers."""

    def __init__(self, address: str) -> None:
        self._socket = _Socket(address)
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def answered(self, timeout_s: float) -> bool:
        """Send one, and wait for the answer to it."""
        self._number += 1
        deadline = time.monotonic() + timeout_s
        if not self._socket.send(self._number):
            time.sleep(timeout_s)
            return False
        while (number := self._socket.answered(deadline)) is not None:
            if number == self._number:
                return True
        return False


class Echoes:
    """Asks an address a hundred times a second for a while, from now on."""

    def __init__(self, address: str, seconds: float) -> None:
        self._socket = _Socket(address)
        self._unanswered: set[int] = set()
        self._count = int(seconds / _INTERVAL_S)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def lost(self) -> int:
        """Wait for the end; how many had no answer after another two seconds."""
        self._thread.join()
        self._socket.close()
        return len(self._unanswered)

    def _run(self) -> None:
        began = time.monotonic()
        for number in range(self._count):
            self._unanswered.add(number)
            self._socket.send(number)
            self._receive(began + (number + 1) * _INTERVAL_S)
        deadline = time.monotonic() + _LATE_S
        while self._unanswered:
            answered = self._socket.answered(deadline)
            if answered is None:
                return
            self._unanswered.discard(answered)

    def _receive(self, until: float) -> None:
        while (answered := self._socket.answered(until)) is not None:
            self._unanswered.discard(answered)
