"""The byte streams that a client can run over: what they share, and the socket's."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, cast

from xenvirt.xenstore.errors import StoreConnectionError

Received = Callable[[bytes], None]
Lost = Callable[[Exception], None]

_RETRY_S: Final = 0.02
"""Between two looks for a server that is not there; nothing tells when it comes."""


class Transport(Protocol):
    """A byte stream to the store; whoever made it says where its input goes."""

    def send(self, data: bytes) -> None:
        """Queue bytes; never blocks."""

    def close(self) -> None:
        """End the stream."""


Opener = Callable[[Received, Lost], Awaitable[Transport]]
"""Makes a stream, which tells what came, and once, why it ended."""


class SocketTransport(asyncio.Protocol):
    """The stream of a Unix socket."""

    def __init__(self, received: Received, lost: Lost) -> None:
        self._received = received
        self._lost = lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Nothing is sent before the first request."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Pass on what came."""
        self._received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on why."""
        self._lost(exc or StoreConnectionError("closed by the store"))

    def send(self, data: bytes) -> None:
        """See `Transport`."""
        self._transport.write(data)

    def close(self) -> None:
        """See `Transport`."""
        self._transport.close()


def path_opener(path: str) -> Opener:
    """Connect to the server that listens at `path`; StoreConnectionError."""

    async def open_path(received: Received, lost: Lost) -> Transport:
        loop = asyncio.get_running_loop()
        try:
            _, transport = await loop.create_unix_connection(
                lambda: SocketTransport(received, lost), path
            )
        except OSError as error:
            raise StoreConnectionError(
                f"cannot reach the store at {path}", cause=error.strerror or ""
            ) from error
        return transport

    return open_path


def patient(opener: Opener, timeout_s: float) -> Opener:
    """The same, tried for so long before its StoreConnectionError is raised."""

    async def open_patiently(received: Received, lost: Lost) -> Transport:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return await opener(received, lost)
            except StoreConnectionError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(_RETRY_S)

    return open_patiently


def socket_opener(connected: Callable[[], Awaitable[socket.socket]]) -> Opener:
    """Use the connected stream socket that `connected` returns, and own it."""

    async def open_socket(received: Received, lost: Lost) -> Transport:
        sock = await connected()
        loop = asyncio.get_running_loop()
        try:
            _, transport = await loop.create_unix_connection(
                lambda: SocketTransport(received, lost), sock=sock
            )
        except BaseException:
            sock.close()
            raise
        return transport

    return open_socket
