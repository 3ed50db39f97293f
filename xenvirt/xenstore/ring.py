"""The store over a shared ring page and an event channel (docs/misc/xenstore-ring.txt).

The page has a queue of 1024 bytes for each direction, so a message may take several
passes. Every pass is followed by a notification, because the other end may wait for
bytes or for room. The event is taken back before the ring is looked at: what the
other end does after that look makes a new one, and no wake-up is lost.
"""

import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from xenvirt.abi.xs_wire import XENSTORE_RING_SIZE, RingConnection, RingError
from xenvirt.errors import RingIndexError, XenvirtError
from xenvirt.xenstore.engine import Engine
from xenvirt.xenstore.errors import StoreConnectionError
from xenvirt.xenstore.framing import FramingError, Message, MessageDecoder
from xenvirt.xenstore.quota import exceeds

log = logging.getLogger(__name__)

PASSES: Final = 16
"""Ring fulls that one end moves before the rest of its process gets a turn."""


class RingPage(Protocol):
    """One end of the page: the queue it consumes, the queue it produces, the words.

    Both transfers raise RingIndexError and have the barriers of xenstore-ring.txt.
    """

    connection: int
    error: int
    server_features: int

    def read(self, limit: int) -> bytes:
        """Consume up to `limit` bytes; b"" if there are none."""

    def write(self, data: bytes | memoryview) -> int:
        """Produce as much as there is room for; returns the bytes taken."""


class Channel(Protocol):
    """One end of the event channel."""

    @property
    def fd(self) -> int:
        """A non-blocking eventfd, readable when the other end has notified."""

    def notify(self) -> None:
        """Wake the other end."""


class RingStream:
    """Moves bytes between a ring page and whoever subclasses this, in both directions.

    The subclass says what goes out, takes what comes in, and may stop the coming in.
    """

    def __init__(self, page: RingPage, channel: Channel) -> None:
        self._page = page
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._unsent = memoryview(b"")
        self._turn_is_due = False
        self._open = False

    def _open_stream(self) -> None:
        self._open = True
        self._loop.add_reader(self._channel.fd, self._notified)
        self._take_turn_soon()

    def close(self) -> None:
        """Leave the page and the channel alone from now on; they stay open."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._channel.fd)

    def _next_output(self) -> bytes:
        raise NotImplementedError

    def _wants_input(self) -> bool:
        raise NotImplementedError

    def _input(self, data: bytes) -> None:
        raise NotImplementedError

    def _failed(self, error: XenvirtError) -> None:
        raise NotImplementedError

    def _notified(self) -> None:
        # The other end shares the flag, and may have drained it since.
        os.set_blocking(self._channel.fd, False)
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._channel.fd)
        self._turn()

    def _take_turn_soon(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_is_due = False
        try:
            for _ in range(PASSES):
                if not self._open or not self._pass():
                    return
                self._channel.notify()
        except (RingIndexError, FramingError) as error:
            self.close()
            self._failed(error)
        else:
            self._take_turn_soon()

    def _pass(self) -> bool:
        """Move what the queues allow; returns whether anything moved."""
        pushed = self._push()
        data = self._page.read(XENSTORE_RING_SIZE) if self._wants_input() else b""
        if data:
            self._input(data)
        return pushed or bool(data)

    def _push(self) -> bool:
        if not self._unsent:
            self._unsent = memoryview(self._next_output())
        if not self._unsent:
            return False
        taken = self._page.write(self._unsent)
        self._unsent = self._unsent[taken:]
        return taken > 0


class RingServerTransport(RingStream):
    """Serves one domain's ring.

    While `outstanding` messages wait in the queue for the domain to read, its requests
    stay in the ring. A domain that breaks the ring is not served again, until it is
    introduced again with a new transport.
    """

    def __init__(
        self, engine: Engine, domid: int, page: RingPage, channel: Channel
    ) -> None:
        super().__init__(page, channel)
        self._engine = engine
        self._domid = domid
        self._decoder = MessageDecoder(domid)
        self._requests: deque[Message] = deque()
        self._conn = engine.connect(domid)
        self._conn.wake = self._wake
        page.error = RingError.NONE
        page.server_features = engine.domains.features(domid)
        page.connection = RingConnection.CONNECTED
        channel.notify()
        self._open_stream()

    def close(self) -> None:
        """Stop serving; the domain's watches and transactions are dropped."""
        super().close()
        self._engine.disconnect(self._conn)

    def _wake(self) -> None:
        if self._conn.alive:
            self._take_turn_soon()
        else:
            super().close()

    def _next_output(self) -> bytes:
        self._serve()
        return b"".join(self._conn.take())

    def _wants_input(self) -> bool:
        return not (self._unsent or self._requests)

    def _input(self, data: bytes) -> None:
        self._requests.extend(self._decoder.feed(data))
        self._serve()

    def _serve(self) -> None:
        conn = self._conn
        while (
            self._requests
            and not self._unsent
            and not exceeds(len(conn.outbox) + 1, conn.account.quotas.outstanding)
        ):
            self._engine.handle(conn, self._requests.popleft())

    def _failed(self, error: XenvirtError) -> None:
        framing = isinstance(error, FramingError)
        self._page.error = RingError.PROTO if framing else RingError.RINGIDX
        self._channel.notify()
        log.warning("XenStore ring of domain %d: %s", self._domid, error)


class RingClientTransport(RingStream):
    """A domain's own end of its ring, for `client.Client`."""

    def __init__(
        self,
        page: RingPage,
        channel: Channel,
        *,
        received: Callable[[bytes], None],
        lost: Callable[[Exception], None],
    ) -> None:
        super().__init__(page, channel)
        self._received = received
        self._lost = lost
        self._waiting = bytearray()
        self._open_stream()

    def send(self, data: bytes) -> None:
        """Queue bytes for the store; they leave as the ring has room."""
        self._waiting += data
        self._take_turn_soon()

    def _pass(self) -> bool:
        """Nothing moves while the store has yet to connect."""
        if self._page.error != RingError.NONE:
            self.close()
            self._lost(StoreConnectionError(f"ring given up, error {self._page.error}"))
            return False
        if self._page.connection != RingConnection.CONNECTED:
            return False
        return super()._pass()

    def _next_output(self) -> bytes:
        waiting, self._waiting = bytes(self._waiting), bytearray()
        return waiting

    def _wants_input(self) -> bool:
        return True

    def _input(self, data: bytes) -> None:
        self._received(data)

    def _failed(self, error: XenvirtError) -> None:
        self._lost(error)
