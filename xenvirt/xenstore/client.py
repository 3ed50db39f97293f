"""An asynchronous client of the store, over a socket or over the domain's ring.

Any number of requests may be in flight; replies find them by req_id. Nothing here
retries, except `Client.transact`.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Protocol, Self, TypeVar, cast

from xenvirt.abi.xs_wire import XENSTORE_PAYLOAD_MAX, XsWire
from xenvirt.xenstore import payloads
from xenvirt.xenstore.errors import (
    StoreAgainError,
    StoreConnectionError,
    StoreNotFoundError,
    StoreTooBigError,
    request_error,
)
from xenvirt.xenstore.framing import FramingError, Message, MessageDecoder, encode
from xenvirt.xenstore.payloads import PartialListing, Value
from xenvirt.xenstore.perms import Perm, Perms
from xenvirt.xenstore.ring import Channel, RingClientTransport, RingPage

log = logging.getLogger(__name__)

T = TypeVar("T")


class Transport(Protocol):
    """A byte stream to the store; whoever made it says where its input goes."""

    def send(self, data: bytes) -> None:
        """Queue bytes; never blocks."""

    def close(self) -> None:
        """End the stream."""


class _SocketTransport(asyncio.Protocol):
    """The stream of a Unix socket."""

    def __init__(
        self, received: Callable[[bytes], None], lost: Callable[[Exception], None]
    ) -> None:
        self._received = received
        self._lost = lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(exc or StoreConnectionError("closed by the store"))

    def send(self, data: bytes) -> None:
        self._transport.write(data)

    def close(self) -> None:
        self._transport.close()


class Nodes:
    """The requests on nodes: directly (`Client`) or in a `Transaction`.

    Every method raises a RequestError with the path, or StoreConnectionError.
    """

    async def _ask(self, type_: XsWire, payload: bytes, path: str) -> bytes:
        raise NotImplementedError

    async def read(self, path: str) -> str:
        """The value as text; see `payloads.text` for bytes that are not UTF-8."""
        return payloads.text(await self.read_bytes(path))

    async def read_bytes(self, path: str) -> bytes:
        """The value."""
        return await self._ask(XsWire.READ, payloads.strings(path), path)

    async def write(self, path: str, value: Value) -> None:
        """Set the value; the node and what is above it are made if missing."""
        await self._ask(XsWire.WRITE, payloads.write(path, value), path)

    async def mkdir(self, path: str) -> None:
        """Make the node if it is missing."""
        await self._ask(XsWire.MKDIR, payloads.strings(path), path)

    async def rm(self, path: str) -> None:
        """Remove the node and all below it; it may be missing if its parent is not."""
        await self._ask(XsWire.RM, payloads.strings(path), path)

    async def ls(self, path: str) -> list[str]:
        """The children's names, oldest first, however many there are."""
        try:
            reply = await self._ask(XsWire.DIRECTORY, payloads.strings(path), path)
        except StoreTooBigError:
            return await self._ls_in_parts(path)
        return payloads.parse_strings(reply)

    async def _ls_in_parts(self, path: str) -> list[str]:
        listing = PartialListing()
        while True:
            payload = payloads.strings(path, listing.offset)
            if listing.add(await self._ask(XsWire.DIRECTORY_PART, payload, path)):
                return listing.children()

    async def exists(self, path: str) -> bool:
        """Whether there is such a node."""
        try:
            await self.read_bytes(path)
        except StoreNotFoundError:
            return False
        return True

    async def get_perms(self, path: str) -> Perms:
        """The permission list, the owner's entry first."""
        reply = await self._ask(XsWire.GET_PERMS, payloads.strings(path), path)
        return payloads.parse_perms(reply)

    async def set_perms(self, path: str, perms: Iterable[Perm | str]) -> None:
        """Replace the permission list; entries may be given as `"n5"`."""
        await self._ask(XsWire.SET_PERMS, payloads.set_perms(path, perms), path)


class Transaction(Nodes):
    """The requests of one transaction; made by `Client.transaction`."""

    def __init__(self, client: "Client", tx_id: int) -> None:
        self._client = client
        self._tx_id = tx_id

    async def _ask(self, type_: XsWire, payload: bytes, path: str) -> bytes:
        return await self._client.request(type_, payload, path, tx_id=self._tx_id)

    async def end(self, *, commit: bool) -> None:
        """Commit or abort; only `Client.transaction` calls this."""
        answer = payloads.strings("T" if commit else "F")
        await self._ask(XsWire.TRANSACTION_END, answer, "")


class Watch:
    """The events of one watch, as an async iterator of paths.

    `async with client.watch(path) as watch:` registers it and takes it back at the end.
    The first event comes at once. Equal events that nobody has taken yet are one.
    """

    def __init__(
        self, client: "Client", path: str, token: str, depth: int | None
    ) -> None:
        self.path = path
        self._client = client
        self._token = token
        self._depth = () if depth is None else (depth,)
        self._waiting: dict[str, None] = {}
        self._something = asyncio.Event()
        self._registered = False

    async def __aenter__(self) -> Self:
        await self._register()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        if not self._registered:
            await self._register()
        while not self._waiting:
            self._client.check()
            self._something.clear()
            await self._something.wait()
        path = next(iter(self._waiting))
        del self._waiting[path]
        return path

    async def close(self) -> None:
        """Take the watch back; a lost connection has done so already."""
        if not self._registered:
            return
        self._registered = False
        self._client.forget(self._token)
        # Without waiting: whoever is cancelled here may have no store to answer.
        with contextlib.suppress(StoreConnectionError):
            payload = payloads.strings(self.path, self._token)
            self._client.send_unanswered(XsWire.UNWATCH, payload)

    def post(self, path: str) -> None:
        """An event came."""
        self._waiting[path] = None
        self._something.set()

    def wake(self) -> None:
        """The connection is lost: whoever waits is to find out."""
        self._something.set()

    async def _register(self) -> None:
        self._client.expect(self._token, self)
        payload = payloads.strings(self.path, self._token, *self._depth)
        try:
            await self._client.request(XsWire.WATCH, payload, self.path)
        except BaseException:
            self._client.forget(self._token)
            raise
        self._registered = True


class Client(Nodes):
    """One connection to the store; close it, or use it in `async with`."""

    def __init__(self) -> None:
        self._transport: Transport
        self._decoder = MessageDecoder()
        self._pending: dict[int, asyncio.Future[Message]] = {}
        self._watches: dict[str, Watch] = {}
        self._last_req_id = 0
        self._last_token = 0
        self._loss: Exception | None = None

    @classmethod
    async def connect_unix(cls, path: str) -> Self:
        """Connect to the server that listens at `path`; raises StoreConnectionError."""
        client = cls()
        loop = asyncio.get_running_loop()
        try:
            _, client._transport = await loop.create_unix_connection(
                client._socket_transport, path
            )
        except OSError as error:
            raise StoreConnectionError(
                f"cannot reach the store at {path}", cause=error.strerror or ""
            ) from error
        return client

    @classmethod
    async def connect_socket(cls, sock: socket.socket) -> Self:
        """Use a connected stream socket; the client owns it now."""
        client = cls()
        loop = asyncio.get_running_loop()
        _, client._transport = await loop.create_unix_connection(
            client._socket_transport, sock=sock
        )
        return client

    @classmethod
    async def connect_ring(cls, page: RingPage, channel: Channel) -> Self:
        """Use the domain's own end of its ring, which stays the caller's."""
        client = cls()
        client._transport = RingClientTransport(
            page, channel, received=client._received, lost=client._lost
        )
        return client

    def _socket_transport(self) -> _SocketTransport:
        return _SocketTransport(self._received, self._lost)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; every waiter gets StoreConnectionError."""
        self._transport.close()
        self._lost(StoreConnectionError("closed by this end"))

    async def request(
        self, type_: XsWire, payload: bytes, path: str = "", *, tx_id: int = 0
    ) -> bytes:
        """Send one request and return its reply's payload.

        Raises a RequestError about `path`, or StoreConnectionError.
        """
        self.check()
        if len(payload) > XENSTORE_PAYLOAD_MAX:
            raise StoreTooBigError("E2BIG", path)
        req_id = self._next_req_id()
        reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._pending[req_id] = reply
        self._transport.send(encode(type_, req_id, tx_id, payload))
        message = await reply
        if message.type == XsWire.ERROR:
            raise request_error(message.payload, path)
        return message.payload

    def send_unanswered(self, type_: XsWire, payload: bytes) -> None:
        """Send a request whose reply does not matter; raises StoreConnectionError."""
        self.check()
        req_id = self._next_req_id()
        self._pending[req_id] = asyncio.get_running_loop().create_future()
        self._transport.send(encode(type_, req_id, 0, payload))

    def check(self) -> None:
        """Raise StoreConnectionError if the connection is lost."""
        if self._loss is not None:
            raise _connection_error(self._loss)

    def watch(self, path: str, *, depth: int | None = None) -> Watch:
        """Changes at `path` and below, `depth` levels deep; a special name also."""
        self._last_token += 1
        return Watch(self, path, str(self._last_token), depth)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A transaction that commits at the end of the block, or an exception aborts.

        Raises StoreAgainError at the end if somebody changed what was used.
        """
        reply = await self.request(XsWire.TRANSACTION_START, b"\0")
        transaction = Transaction(self, int(reply.rstrip(b"\0")))
        try:
            yield transaction
        except BaseException:
            with contextlib.suppress(StoreConnectionError):
                await transaction.end(commit=False)
            raise
        await transaction.end(commit=True)

    async def transact(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Do `work` in a transaction, again from its start as often as it conflicts."""
        while True:
            try:
                async with self.transaction() as transaction:
                    return await work(transaction)
            except StoreAgainError:
                continue

    async def introduce(self, domid: int, gfn: int, port: int) -> None:
        """Let the store serve a domain's ring page."""
        await self.request(XsWire.INTRODUCE, payloads.strings(domid, gfn, port))

    async def release(self, domid: int) -> None:
        """Let the store forget a domain and all that it owns."""
        await self.request(XsWire.RELEASE, payloads.strings(domid))

    async def domain_path(self, domid: int) -> str:
        """Where a domain's nodes are."""
        reply = await self.request(XsWire.GET_DOMAIN_PATH, payloads.strings(domid))
        return payloads.parse_strings(reply)[0]

    async def is_domain_introduced(self, domid: int) -> bool:
        """Whether the store serves the domain."""
        reply = await self.request(XsWire.IS_DOMAIN_INTRODUCED, payloads.strings(domid))
        return reply == b"T\0"

    async def reset_watches(self) -> None:
        """Drop this connection's watches and transactions."""
        await self.request(XsWire.RESET_WATCHES, b"\0")

    async def control(self, command: str, *parameters: str) -> str:
        """Run a command of the server (`help` lists them) and return what it says."""
        payload = payloads.strings(command, *parameters)
        return payloads.text(
            (await self.request(XsWire.CONTROL, payload)).rstrip(b"\0")
        )

    def expect(self, token: str, watch: Watch) -> None:
        """Route events with this token to the watch."""
        self._watches[token] = watch

    def forget(self, token: str) -> None:
        """Drop events with this token: some may still be under way."""
        self._watches.pop(token, None)

    async def _ask(self, type_: XsWire, payload: bytes, path: str) -> bytes:
        return await self.request(type_, payload, path)

    def _next_req_id(self) -> int:
        self._last_req_id = (self._last_req_id + 1) & 0xFFFFFFFF
        return self._last_req_id

    def _received(self, data: bytes) -> None:
        try:
            messages = self._decoder.feed(data)
        except FramingError as error:
            self._transport.close()
            self._lost(error)
            return
        for message in messages:
            if message.type == XsWire.WATCH_EVENT:
                self._event(message.payload)
            else:
                self._reply(message)

    def _event(self, payload: bytes) -> None:
        path, token = payloads.parse_event(payload)
        watch = self._watches.get(token)
        if watch is not None:
            watch.post(path)

    def _reply(self, message: Message) -> None:
        reply = self._pending.pop(message.req_id, None)
        if reply is None:
            log.warning("XenStore: reply to unknown request %d", message.req_id)
        elif not reply.done():
            reply.set_result(message)

    def _lost(self, error: Exception) -> None:
        if self._loss is not None:
            return
        self._loss = error
        for reply in self._pending.values():
            if not reply.done():
                reply.set_exception(_connection_error(error))
        for watch in self._watches.values():
            watch.wake()


def _connection_error(cause: Exception) -> StoreConnectionError:
    error = StoreConnectionError("no connection to the store", cause=str(cause))
    error.__cause__ = cause
    return error
