"""The requests in flight over one connection, and over the next one when it is lost.

Any number may be in flight; replies find them by req_id. With a way to open the
connection anew, a loss is survived; retries.py says what becomes of each request.
Without one, or when that fails, everybody gets StoreConnectionError.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from xenvirt.abi.xs_wire import XENSTORE_PAYLOAD_MAX, XsWire
from xenvirt.errors import LocalError
from xenvirt.xenstore import payloads, requests
from xenvirt.xenstore.errors import (
    StoreNotFoundError,
    StoreProtocolError,
    StoreTooBigError,
    connection_error,
    request_error,
)
from xenvirt.xenstore.framing import Message, MessageDecoder, encode
from xenvirt.xenstore.requests import Request
from xenvirt.xenstore.retries import not_again
from xenvirt.xenstore.transports import Opener, Transport

log = logging.getLogger(__name__)

_SHORTEST_PAUSE_S: Final = 0.01
_LONGEST_PAUSE_S: Final = 1.0


class _Asked:
    """One request, and who waits for its reply.

    `once`: it is about the connection that it was sent over, and goes with it.
    `epoch`: of the connection that brought the reply. `repeated`: sent twice.
    """

    __slots__ = ("epoch", "once", "payload", "repeated", "reply", "tx_id", "type")

    def __init__(
        self,
        type_: int,
        tx_id: int,
        payload: bytes,
        reply: asyncio.Future[Message],
        *,
        once: bool,
    ) -> None:
        self.type = type_
        self.tx_id = tx_id
        self.payload = payload
        self.reply = reply
        self.once = once
        self.epoch = 0
        self.repeated = False


class _Stream:
    """One connection of several, one after the other; an old one is not listened to."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._decoder = MessageDecoder()
        self.transport: Transport | None = None
        self.loss: Exception | None = None

    def received(self, data: bytes) -> None:
        if self.loss is not None:
            return
        try:
            self._session.serve(self._decoder.feed(data))
        except StoreProtocolError as error:
            self.end(error)

    def lost(self, error: Exception) -> None:
        if self.loss is None:
            self.loss = error
            self._session.lost(self, error)

    def end(self, error: Exception) -> None:
        if self.transport is not None:
            self.transport.close()
        self.lost(error)


class Session:
    """Sends requests, and gives each its reply; everything else goes to callbacks.

    `on_event` gets the payload of each WATCH_EVENT, `on_reopened` is called before
    anything else is sent over a new connection, `on_end` when there will be none.
    """

    def __init__(
        self,
        *,
        on_event: Callable[[bytes], None],
        on_reopened: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        self.epoch = 0
        self._on_event = on_event
        self._on_reopened = on_reopened
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._asked: dict[int, _Asked] = {}
        self._last_req_id = 0
        self._stream = _Stream(self)
        self._reopen: Opener | None = None
        self._reopening: asyncio.Task[None] | None = None
        self._fruitless = 0
        self._loss: Exception | None = None

    async def open(self, opener: Opener, reopen: Opener | None) -> None:
        """Connect; raises what `opener` raises."""
        stream = self._stream
        stream.transport = await opener(stream.received, stream.lost)
        self._reopen = reopen
        if stream.loss is not None:
            self.lost(stream, stream.loss)

    def close(self) -> None:
        """End it for good; every waiter gets StoreConnectionError."""
        self._end(connection_error("closed by this end"))

    def check(self) -> None:
        """Raise StoreConnectionError if the connection is lost for good."""
        if self._loss is not None:
            raise connection_error(self._loss)

    def reconnect(self) -> None:
        """Give the connection up for a new one; LocalError if there is no way to."""
        if self._reopen is None:
            raise LocalError("this client was made without a way to reconnect")
        if self._reopening is None and self._loss is None:
            self._stream.end(connection_error("given up by this end"))

    async def request(
        self, type_: XsWire, payload: bytes, path: str, tx_id: int = 0
    ) -> bytes:
        """Send one request and return its reply's payload.

        Raises a RequestError about `path`, or StoreConnectionError.
        """
        if len(payload) > XENSTORE_PAYLOAD_MAX:
            raise StoreTooBigError("E2BIG", path)
        asked = self._post(type_, payload, tx_id)
        message = await asked.reply
        if message.type != XsWire.ERROR:
            return message.payload
        error = request_error(message.payload, path)
        if (
            asked.repeated
            and type_ == XsWire.RM
            and isinstance(error, StoreNotFoundError)
        ):
            return b"OK\0"
        raise error

    async def start_transaction(self) -> tuple[int, int]:
        """The new transaction's id, and the epoch to which it belongs."""
        request = requests.transaction_start()
        asked = self._post(request.type, request.payload, 0)
        try:
            message = await asked.reply
        except asyncio.CancelledError:
            # The answer may be there, and whoever waits was just about to see it.
            reply = asked.reply
            answered = not reply.cancelled() and reply.exception() is None
            if answered and asked.epoch == self.epoch:
                self._abandon(reply.result())
            raise
        if message.type == XsWire.ERROR:
            raise request_error(message.payload)
        return request.result(message.payload), asked.epoch

    def ask_once(
        self,
        request: Request[None],
        refused: Callable[[Exception], None] | None = None,
        *,
        tx_id: int = 0,
    ) -> None:
        """Send a request that nobody waits for, over this connection or not at all."""
        if self._stream.transport is None or self._loss is not None:
            return

        def answered(reply: asyncio.Future[Message]) -> None:
            if reply.cancelled() or reply.exception() is not None or refused is None:
                return
            message = reply.result()
            if message.type == XsWire.ERROR:
                refused(request_error(message.payload, request.path))

        asked = self._post(request.type, request.payload, tx_id, once=True)
        asked.reply.add_done_callback(answered)

    def _post(
        self, type_: int, payload: bytes, tx_id: int, *, once: bool = False
    ) -> _Asked:
        self.check()
        req_id = self._next_req_id()
        asked = _Asked(type_, tx_id, payload, self._loop.create_future(), once=once)
        self._asked[req_id] = asked
        if self._stream.transport is not None:
            self._stream.transport.send(encode(type_, req_id, tx_id, payload))
        return asked

    def _next_req_id(self) -> int:
        # 0 is the events'. A number that is still in use after four billion others
        # is passed over.
        req_id = self._last_req_id
        while True:
            req_id = req_id % 0xFFFFFFFF + 1
            if req_id not in self._asked:
                self._last_req_id = req_id
                return req_id

    def serve(self, messages: list[Message]) -> None:
        """Messages came over the stream."""
        self._fruitless = 0
        for message in messages:
            if message.type == XsWire.WATCH_EVENT:
                self._on_event(message.payload)
            else:
                self._answer(message)

    def _answer(self, message: Message) -> None:
        asked = self._asked.pop(message.req_id, None)
        if asked is None:
            log.warning("XenStore: reply to unknown request %d", message.req_id)
        elif message.type not in (asked.type, XsWire.ERROR):
            self._asked[message.req_id] = asked
            raise StoreProtocolError(
                f"the store answered {asked.type} with {message.type}"
            )
        elif not asked.reply.done():
            asked.epoch = self.epoch
            asked.reply.set_result(message)
        else:
            self._abandon(message)

    def _abandon(self, message: Message) -> None:
        """Nobody waits for a reply: end the transaction, if it tells of one."""
        if message.type == XsWire.TRANSACTION_START:
            tx_id = payloads.parse_number(message.payload)
            self.ask_once(requests.transaction_end(commit=False), tx_id=tx_id)

    def lost(self, stream: _Stream, error: Exception) -> None:
        """The stream has ended; begin anew if there is a way to."""
        if stream is not self._stream or self._loss is not None:
            return
        if stream.transport is None:
            return  # It ended while it was made, which whoever makes it will see.
        if self._reopen is None:
            self._end(error)
            return
        log.info("XenStore: connection lost: %s", error)
        self.epoch += 1
        self._stream = _Stream(self)
        self._forget_unrepeatable(connection_error(error))
        self._reopening = self._loop.create_task(self._open_anew(self._reopen))

    def _forget_unrepeatable(self, loss: Exception) -> None:
        """Tell those who wait for what cannot be asked again."""
        kept: dict[int, _Asked] = {}
        for req_id, asked in self._asked.items():
            if asked.reply.done() or asked.once:
                asked.reply.cancel()
                continue
            refused = not_again(asked.type, asked.payload, asked.tx_id, loss)
            if refused is not None:
                asked.reply.set_exception(refused)
            else:
                asked.repeated = True
                kept[req_id] = asked
        self._asked = kept

    async def _open_anew(self, opener: Opener) -> None:
        stream = self._stream
        try:
            while True:
                await asyncio.sleep(self._pause_s())
                self._fruitless += 1
                transport = await opener(stream.received, stream.lost)
                if stream.loss is None:
                    break
                stream = self._stream = _Stream(self)
        except Exception as error:
            self._reopening = None
            self._end(error)
            return
        self._reopening = None
        log.info("XenStore: connected again")
        waiting = [item for item in self._asked.items() if not item[1].reply.done()]
        self._asked = dict(waiting)
        stream.transport = transport
        self._on_reopened()
        for req_id, asked in waiting:
            transport.send(encode(asked.type, req_id, asked.tx_id, asked.payload))

    def _pause_s(self) -> float:
        """None for a connection that had been of use."""
        if self._fruitless == 0:
            return 0
        pause_s: float = _SHORTEST_PAUSE_S * 2 ** min(self._fruitless, 16)
        return min(pause_s, _LONGEST_PAUSE_S)

    def _end(self, error: Exception) -> None:
        if self._loss is not None:
            return
        self._loss = error
        if self._reopening is not None:
            self._reopening.cancel()
        if self._stream.transport is not None:
            self._stream.transport.close()
        for asked in self._asked.values():
            if not asked.reply.done():
                asked.reply.set_exception(connection_error(error))
        self._asked.clear()
        self._on_end()
