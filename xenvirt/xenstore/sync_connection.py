"""The blocking client's connection: requests, events, and what survives a loss."""

import itertools
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol, TypeVar

from xenvirt.abi.xs_wire import XENSTORE_PAYLOAD_MAX, XsWire
from xenvirt.xenstore import payloads, requests
from xenvirt.xenstore.errors import (
    RequestError,
    StoreConnectionError,
    StoreNotFoundError,
    StoreProtocolError,
    StoreTooBigError,
    connection_error,
    request_error,
)
from xenvirt.xenstore.framing import Message, MessageDecoder, encode
from xenvirt.xenstore.requests import Request
from xenvirt.xenstore.retries import not_again

T = TypeVar("T")

_CHUNK: Final = 65536
_RETRY_S: Final = 0.02
"""Between two looks for a server that is not there; nothing tells when it comes."""

_IN_FLIGHT: Final = 32
"""Requests that are sent at once: so many fit into a socket's buffer at their longest,
so that we never wait for a store that waits for us."""


class Events(Protocol):
    """Where the events of a watch are put."""

    def __bool__(self) -> bool:
        """Whether there are any."""

    def put(self, path: str) -> None:
        """One came."""


class SyncConnection:
    """One request at a time, over one socket, or over the next when it is lost.

    `connect` makes a socket or raises StoreConnectionError. After a loss it is tried
    for `reconnect_s`, in which the store must also have answered; None: not at all.
    `answer_s` is how long it may take to answer at first; None: nobody asks.
    What then becomes of requests is in session.py's table. `epoch` counts the losses.
    """

    def __init__(
        self,
        connect: Callable[[], socket.socket],
        reconnect_s: float | None,
        answer_s: float | None = None,
    ) -> None:
        self.epoch = 0
        self._connect = connect
        self._reconnect_s = reconnect_s
        self._last_req_id = 0
        self._queues: dict[str, Events] = {}
        self._registered: dict[str, Request[None]] = {}
        self._closed = False
        self._begin(connect())
        if answer_s is not None:
            self._ask_first(time.monotonic() + answer_s)

    def _begin(self, sock: socket.socket) -> None:
        self._socket = sock
        self._decoder = MessageDecoder()
        self._replies: deque[Message] = deque()

    def close(self) -> None:
        """End the connection; there will be no other."""
        self._closed = True
        self._socket.close()

    def request(
        self, type_: XsWire, payload: bytes, path: str = "", *, tx_id: int = 0
    ) -> bytes:
        """Send one request, wait, and return its reply's payload.

        Raises a RequestError about `path`, or StoreConnectionError.
        """
        repeated = False
        while True:
            try:
                self._send(self._encoded(type_, payload, path, tx_id))
                return self._reply_to(self._last_req_id, path)
            except StoreConnectionError as error:
                self._reopen(error)
                refused = not_again(type_, payload, tx_id, error)
                if refused is not None:
                    raise refused from error
                repeated = True
            except StoreNotFoundError:
                if not (repeated and type_ == XsWire.RM):
                    raise
                return b"OK\0"

    def gather(
        self, asked: Iterable[Request[T]], *, tx_id: int = 0
    ) -> list[T | RequestError]:
        """What each request gives, or its error; several are sent at once."""
        found: list[T | RequestError] = []
        rest = iter(asked)
        while some := list(itertools.islice(rest, _IN_FLIGHT)):
            self._gather(some, tx_id, found)
        return found

    def _gather(
        self, asked: list[Request[T]], tx_id: int, found: list[T | RequestError]
    ) -> None:
        data, req_ids = [], []
        for request in asked:
            data.append(self._encoded(*request[:3], tx_id))
            req_ids.append(self._last_req_id)
        answered = 0
        try:
            self._send(b"".join(data))
            for req_id, request in zip(req_ids, asked, strict=True):
                try:
                    reply = self._reply_to(req_id, request.path)
                    found.append(request.result(reply))
                except RequestError as refused:
                    found.append(refused)
                answered += 1
        except StoreConnectionError as error:
            self._reopen(error)
            for request in asked[answered:]:
                outcome = self._again(request, tx_id, error)
                found.append(outcome)

    def subscribe(self, request: Request[None], token: str, queue: Events) -> None:
        """Register a watch whose events go to the queue."""
        self._queues[token] = queue
        try:
            self.request(request.type, request.payload, request.path)
        except BaseException:
            del self._queues[token]
            raise
        self._registered[token] = request

    def unsubscribe(self, token: str) -> None:
        """Take it back; a store that has forgotten it is no matter."""
        watch = self._registered.pop(token)
        del self._queues[token]
        request = requests.unwatch(watch.path, token)
        try:
            self.request(request.type, request.payload, request.path)
        except (StoreConnectionError, StoreNotFoundError):
            return

    def wait_for_event(self, queue: Events, deadline: float | None) -> bool:
        """Wait until the queue holds an event; False if the monotonic time passes."""
        while not queue:
            if deadline is not None and time.monotonic() >= deadline:
                return False
            try:
                if not self._receive(deadline):
                    return False
            except StoreConnectionError as error:
                self._reopen(error)
        return True

    def _encoded(self, type_: XsWire, payload: bytes, path: str, tx_id: int) -> bytes:
        if len(payload) > XENSTORE_PAYLOAD_MAX:
            raise StoreTooBigError("E2BIG", path)
        self._last_req_id = self._last_req_id % 0xFFFFFFFF + 1
        return encode(type_, self._last_req_id, tx_id, payload)

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise connection_error(error.strerror or "") from error
        except BaseException:
            # Half a request may be out, and nothing can follow it.
            self.close()
            raise

    def _reply_to(self, req_id: int, path: str, deadline: float | None = None) -> bytes:
        # Those of an interrupted request are passed over.
        while True:
            while not self._replies:
                if not self._receive(deadline):
                    raise connection_error("the store does not answer")
            reply = self._replies.popleft()
            if reply.req_id == req_id:
                break
        if reply.type == XsWire.ERROR:
            raise request_error(reply.payload, path)
        return reply.payload

    def _receive(self, deadline: float | None) -> bool:
        """Wait for input; False if the monotonic `deadline` passes."""
        if deadline is not None:
            self._socket.settimeout(max(0, deadline - time.monotonic()))
        try:
            data = self._socket.recv(_CHUNK)
        except (TimeoutError, BlockingIOError):
            return False
        except OSError as error:
            raise connection_error(error.strerror or "") from error
        finally:
            self._socket.settimeout(None)
        if not data:
            raise connection_error("closed by the store")
        try:
            self._take(self._decoder.feed(data))
        except StoreProtocolError:
            self._socket.close()
            raise
        return True

    def _take(self, messages: list[Message]) -> None:
        for message in messages:
            if message.type == XsWire.WATCH_EVENT:
                path, token = payloads.parse_event(message.payload)
                if token in self._queues:
                    self._queues[token].put(path)
            else:
                self._replies.append(message)

    def _ask_first(self, deadline: float) -> None:
        """A store without descriptors lets one connect, and never answers."""
        try:
            self._introduce_ourselves(deadline)
        except BaseException:
            self.close()
            raise

    def _reopen(self, loss: StoreConnectionError) -> None:
        """Connect again and register every watch; raises `loss` if that is not wanted.

        StoreConnectionError if there is no store in time.
        """
        if self._closed or self._reconnect_s is None:
            raise loss
        self.epoch += 1
        deadline = time.monotonic() + self._reconnect_s
        while True:
            self._socket.close()
            try:
                self._begin(self._connect())
                self._introduce_ourselves(deadline)
            except StoreConnectionError:
                if time.monotonic() >= deadline:
                    raise
            else:
                return
            time.sleep(_RETRY_S)

    def _introduce_ourselves(self, deadline: float) -> None:
        """Register the watches; the store must be there and answer."""
        asked: list[Request[None] | Request[bytes]] = [requests.read_bytes("/")]
        asked += self._registered.values()
        for request in asked:
            self._send(self._encoded(*request[:3], 0))
            try:
                self._reply_to(self._last_req_id, request.path, deadline)
            except RequestError:
                if request.type == XsWire.WATCH:
                    raise

    def _again(
        self, request: Request[T], tx_id: int, loss: StoreConnectionError
    ) -> T | RequestError:
        refused = not_again(request.type, request.payload, tx_id, loss)
        if isinstance(refused, RequestError):
            return refused
        if refused is not None:
            raise refused
        try:
            return request.result(self.request(*request[:3], tx_id=tx_id))
        except RequestError as error:
            return error
