"""Many requests at a time on one socket, to fill a store quickly."""

import itertools
import socket
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Final, Self

from xenvirt.abi.xs_wire import XsWire
from xenvirt.xenstore.framing import MessageDecoder, encode

BATCH: Final = 64
TIMEOUT_S: Final = 60


class Pipeline:
    """A client of the store at `path`; a context manager."""

    def __init__(self, path: str) -> None:
        self._decoder = MessageDecoder()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(TIMEOUT_S)
        self._socket.connect(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    def ask(self, requests: Iterable[tuple[XsWire, bytes]]) -> list[bytes]:
        """Send requests, some at a time; their replies, none of them an error."""
        replies: list[bytes] = []
        waiting = iter(requests)
        while batch := list(itertools.islice(waiting, BATCH)):
            self._socket.sendall(
                b"".join(encode(type_, 0, 0, payload) for type_, payload in batch)
            )
            replies += self._replies(batch)
        return replies

    def _replies(self, batch: Sequence[tuple[XsWire, bytes]]) -> list[bytes]:
        replies: list[bytes] = []
        while len(replies) < len(batch):
            data = self._socket.recv(65536)
            if not data:
                raise RuntimeError("the store closed the connection")
            for message in self._decoder.feed(data):
                if message.type == XsWire.ERROR:
                    raise RuntimeError(f"{batch[len(replies)]}: {message.payload!r}")
                replies.append(message.payload)
        return replies
