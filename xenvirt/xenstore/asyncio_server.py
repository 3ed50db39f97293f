"""The store on Unix stream sockets.

Nothing waits for one client: its requests are served a few at a time, and while it does
not read its replies its requests are not read either.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Final, cast

from xenvirt.abi.ids import DOM0
from xenvirt.xenstore.engine import Engine
from xenvirt.xenstore.framing import FramingError, Message, MessageDecoder

log = logging.getLogger(__name__)

TURN: Final = 64
"""Requests of one client that are served before the others get their turn."""

BACKLOG: Final = 128
"""Connections that the kernel keeps waiting for accept."""


class StoreProtocol(asyncio.Protocol):
    """One connected client, which speaks as `domid`; `lost` is called at its end."""

    def __init__(
        self,
        engine: Engine,
        domid: int,
        *,
        privileged: bool,
        lost: Callable[["StoreProtocol"], None] | None = None,
    ) -> None:
        self._engine = engine
        self._lost = lost
        self._decoder = MessageDecoder(domid)
        self._requests: deque[Message] = deque()
        self._connected = False
        self._aborted = False
        self._choked = False
        self._ending = False
        self._turn_is_due = False
        self._serving = False
        self._conn = engine.connect(domid, privileged=privileged)
        self._conn.wake = self._wake

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Nothing is sent before the first request."""
        self._transport = cast(asyncio.Transport, transport)
        self._connected = True
        if self._aborted:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone; what it asked for and was not served is dropped."""
        self._requests.clear()
        self._engine.disconnect(self._conn)
        if self._lost is not None:
            self._lost(self)

    def abort(self) -> None:
        """Close now, or as soon as connected; what waits to be sent is dropped."""
        self._aborted = True
        if self._connected:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Serve what is complete; a message that is too long ends the connection."""
        try:
            self._requests.extend(self._decoder.feed(data))
        except FramingError as error:
            log.warning("XenStore client of domain %d: %s", error.domid, error)
            self._requests.extend(error.messages)
            self._ending = True
        self._serve()

    def eof_received(self) -> bool:
        """The client has asked all it wants: serve that, then close."""
        self._ending = True
        self._serve()
        return True

    def pause_writing(self) -> None:
        """The client does not read: stop serving it."""
        self._choked = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._choked = False
        self._serve()

    def _serve(self) -> None:
        """One turn; the rest of the requests waits for the next one."""
        self._turn_is_due = False
        if self._choked or self._transport.is_closing():
            return
        self._serving = True
        for _ in range(min(TURN, len(self._requests))):
            self._engine.handle(self._conn, self._requests.popleft())
        self._serving = False
        self._flush()
        if self._choked or self._transport.is_closing():
            return
        if self._requests:
            self._transport.pause_reading()
            self._take_turn_soon()
        elif self._ending:
            self._transport.close()
        else:
            self._transport.resume_reading()

    def _flush(self) -> None:
        if not self._choked:
            waiting = self._conn.take()
            if waiting:
                self._transport.write(b"".join(waiting))

    def _wake(self) -> None:
        if not self._conn.alive:
            self.abort()
        elif not (self._serving or self._choked):
            self._take_turn_soon()

    def _take_turn_soon(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            asyncio.get_running_loop().call_soon(self._serve)


class StoreServer:
    """A listening socket and the clients that came through it."""

    def __init__(self, engine: Engine, path: str, domid: int) -> None:
        self._engine = engine
        self._path = path
        self._domid = domid
        self._clients: set[StoreProtocol] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; a socket that a dead server left at the path is replaced."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(self._path)
            os.chmod(self._path, 0o600)
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(
                self._client, sock=sock, backlog=BACKLOG, start_serving=False
            )
            await self._server.start_serving()
        except BaseException:
            sock.close()
            raise

    async def close(self) -> None:
        """Stop listening, drop the clients, remove the socket's file."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        for client in list(self._clients):
            client.abort()
        await self._empty.wait()
        await server.wait_closed()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def _client(self) -> StoreProtocol:
        client = StoreProtocol(
            self._engine, self._domid, privileged=True, lost=self._forget
        )
        self._clients.add(client)
        self._empty.clear()
        if self._server is None:
            client.abort()
        return client

    def _forget(self, client: StoreProtocol) -> None:
        self._clients.discard(client)
        if not self._clients:
            self._empty.set()


async def serve(engine: Engine, path: str, *, domid: int = DOM0) -> StoreServer:
    """Listen at `path` (mode 0600) for privileged clients that speak as `domid`.

    The caller closes the server.
    """
    server = StoreServer(engine, path, domid)
    await server.start()
    return server


async def attach_socket(
    engine: Engine, sock: socket.socket, domid: int, *, privileged: bool = False
) -> StoreProtocol:
    """Serve a connected stream socket whose other end speaks as `domid`.

    The socket is owned by the returned protocol; `abort` ends it, and so do the other
    end's close and the domain's death.
    """
    loop = asyncio.get_running_loop()
    _, protocol = await loop.connect_accepted_socket(
        lambda: StoreProtocol(engine, domid, privileged=privileged), sock
    )
    return protocol
