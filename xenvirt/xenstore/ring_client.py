"""The domain's own end of its store ring, as a stream for the client."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from xenvirt.abi.xs_wire import (
    XENSTORE_RING_SIZE,
    RingConnection,
    RingError,
    ServerFeature,
)
from xenvirt.errors import RingIndexError
from xenvirt.xenstore.errors import StoreConnectionError
from xenvirt.xenstore.transports import Lost, Opener, Received, Transport

PASSES: Final = 16
"""Ring fulls that are moved before the rest of the process gets a turn."""


class RingPage(Protocol):
    """The client's end of the page: the queue it consumes, the one it produces, words.

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


class RingClientTransport:
    """Moves bytes between the page's two queues and a client (xenstore-ring.txt).

    A queue has 1024 bytes, so a message may take several passes. Every pass is
    followed by a notification, because the store may wait for bytes or for room. The
    event is taken back before the ring is looked at: what the store does after that
    look makes a new one, and no wake-up is lost.

    Page and channel stay the caller's.
    """

    def __init__(
        self, page: RingPage, channel: Channel, received: Received, lost: Lost
    ) -> None:
        self._page = page
        self._channel = channel
        self._received = received
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._unsent = bytearray()
        self._connected = False
        self._turn_is_due = False
        self._open = True
        self._loop.add_reader(channel.fd, self._notified)
        self._take_turn_soon()

    def send(self, data: bytes) -> None:
        """Queue bytes for the store; they leave as the ring has room."""
        self._unsent += data
        self._take_turn_soon()

    def close(self) -> None:
        """Leave the page and the channel alone from now on; they stay open."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._channel.fd)

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
                if not self._open or not self._is_served() or not self._pass():
                    return
                self._channel.notify()
        except (RingIndexError, StoreConnectionError) as error:
            self.close()
            self._lost(error)
        else:
            self._take_turn_soon()

    def _is_served(self) -> bool:
        """Nothing moves, and no word counts, before the store has connected."""
        if self._page.connection != RingConnection.CONNECTED:
            if self._connected:
                raise StoreConnectionError("the store begins anew with the ring")
            return False
        self._connected = True
        if self._page.error != RingError.NONE:
            raise StoreConnectionError(f"ring given up, error {self._page.error}")
        return True

    def _pass(self) -> bool:
        """Move what the queues allow; returns whether anything moved."""
        taken = 0
        if self._unsent:
            taken = self._page.write(bytes(self._unsent[:XENSTORE_RING_SIZE]))
            del self._unsent[:taken]
        data = self._page.read(XENSTORE_RING_SIZE)
        if data:
            self._received(data)
        return bool(taken or data)


def ring_opener(page: RingPage, channel: Channel) -> Opener:
    """Use a ring that the store serves, or is about to."""

    async def open_ring(received: Received, lost: Lost) -> Transport:
        return RingClientTransport(page, channel, received, lost)

    return open_ring


def ring_reopener(
    page: RingPage, obtain_channel: Callable[[], Awaitable[Channel]]
) -> Opener:
    """Have the store begin anew with a ring, over the channel that is obtained.

    Raises StoreConnectionError if the store does not offer that.
    """

    async def reopen_ring(received: Received, lost: Lost) -> Transport:
        channel = await obtain_channel()
        if not page.server_features & ServerFeature.RECONNECTION:
            raise StoreConnectionError("the store offers no ring reconnection")
        page.connection = RingConnection.RECONNECT
        channel.notify()
        return RingClientTransport(page, channel, received, lost)

    return reopen_ring
