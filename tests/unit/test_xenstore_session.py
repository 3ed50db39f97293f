"""The order of what a session sends, byte by byte, on a transport of the test's own."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.helpers_xenstore import run
from xenvirt.abi.xs_wire import XsWire
from xenvirt.xenstore import requests
from xenvirt.xenstore.errors import StoreConnectionError
from xenvirt.xenstore.framing import Message, MessageDecoder, encode
from xenvirt.xenstore.session import Session
from xenvirt.xenstore.transports import Lost, Received


class Wire:
    """A transport whose other end is the test; each reconnection makes a new one."""

    def __init__(self, received: Received, lost: Lost) -> None:
        self.received = received
        self.lost = lost
        self.sent: list[Message] = []
        self.closed = False

    def send(self, data: bytes) -> None:
        self.sent += MessageDecoder().feed(data)

    def close(self) -> None:
        self.closed = True

    def types(self) -> list[int]:
        return [message.type for message in self.sent]

    def answer(self, number: int, payload: bytes) -> None:
        """Answer the request that was sent as that one."""
        asked = self.sent[number]
        self.received(encode(asked.type, asked.req_id, asked.tx_id, payload))


class Wires:
    """A session, and its transports."""

    def __init__(self) -> None:
        self.made: list[Wire] = []
        self.events: list[bytes] = []
        self.reopened = 0
        self.session = Session(
            on_event=self.events.append, on_reopened=self._reopened, on_end=lambda: None
        )

    def _reopened(self) -> None:
        self.reopened += 1
        self.session.ask_once(requests.watch("/w", "1"))

    async def open(self, received: Received, lost: Lost) -> Wire:
        self.made.append(Wire(received, lost))
        return self.made[-1]

    async def ask(self, type_: XsWire) -> bytes:
        return await self.session.request(type_, b"/a\0", "/a")


def on_wires(check: Callable[[Wires], Awaitable[None]]) -> None:
    async def main() -> None:
        wires = Wires()
        await wires.session.open(wires.open, wires.open)
        await check(wires)
        wires.session.close()

    run(main())


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    pytest.fail("the condition never came true")


def test_a_cancellation_that_meets_the_answer_ends_the_transaction() -> None:
    async def check(wires: Wires) -> None:
        starting = asyncio.ensure_future(wires.session.start_transaction())
        await asyncio.sleep(0)
        (wire,) = wires.made
        wire.answer(0, b"7\0")
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert wire.types() == [XsWire.TRANSACTION_START, XsWire.TRANSACTION_END]
        assert wire.sent[1][2:] == (7, b"F\0")

    on_wires(check)


def test_a_cancellation_that_meets_the_loss_is_a_cancellation() -> None:
    async def main() -> None:
        wires = Wires()
        await wires.session.open(wires.open, None)
        starting = asyncio.ensure_future(wires.session.start_transaction())
        await asyncio.sleep(0)
        wires.made[0].lost(OSError("gone"))
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert wires.made[0].closed

    run(main())


def test_watches_come_first_then_old_requests_then_new_ones() -> None:
    async def check(wires: Wires) -> None:
        old = [
            asyncio.ensure_future(wires.ask(type_))
            for type_ in (XsWire.WRITE, XsWire.READ)
        ]
        await asyncio.sleep(0)
        wires.session.ask_once(requests.unwatch("/w", "0"))
        wires.made[0].lost(OSError("gone"))
        new = asyncio.ensure_future(wires.ask(XsWire.MKDIR))
        await until(lambda: len(wires.made) == 2 and len(wires.made[1].sent) == 4)
        wire = wires.made[1]
        assert wire.types() == [XsWire.WATCH, XsWire.WRITE, XsWire.READ, XsWire.MKDIR]
        for number in (1, 2, 3):
            wire.answer(number, b"OK\0")
        assert await asyncio.gather(*old, new) == [b"OK\0"] * 3

    on_wires(check)


def test_what_an_old_connection_still_says_is_not_listened_to() -> None:
    async def check(wires: Wires) -> None:
        asking = asyncio.ensure_future(wires.ask(XsWire.READ))
        await asyncio.sleep(0)
        old = wires.made[0]
        wires.session.reconnect()
        assert old.closed
        old.answer(0, b"old")
        old.lost(OSError("gone"))
        await until(lambda: len(wires.made) == 2 and len(wires.made[1].sent) == 2)
        assert not asking.done()
        wires.made[1].answer(1, b"new")
        assert await asking == b"new"
        assert (wires.reopened, len(wires.made)) == (1, 2)

    on_wires(check)


def test_half_a_message_goes_with_its_connection() -> None:
    async def check(wires: Wires) -> None:
        asking = asyncio.ensure_future(wires.ask(XsWire.READ))
        await asyncio.sleep(0)
        wires.made[0].received(encode(XsWire.READ, 1, 0, b"old value")[:20])
        wires.session.reconnect()
        await until(lambda: len(wires.made) == 2 and len(wires.made[1].sent) == 2)
        wires.made[1].answer(1, b"new")
        assert await asking == b"new"

    on_wires(check)


def test_numbers_in_use_are_passed_over_when_they_begin_anew() -> None:
    async def check(wires: Wires) -> None:
        first = asyncio.ensure_future(wires.ask(XsWire.READ))
        await asyncio.sleep(0)
        wires.session._last_req_id = 0xFFFFFFFE
        rest = [asyncio.ensure_future(wires.ask(XsWire.READ)) for _ in range(2)]
        await asyncio.sleep(0)
        (wire,) = wires.made
        assert [message.req_id for message in wire.sent] == [1, 0xFFFFFFFF, 2]
        for number in range(3):
            wire.answer(number, b"%d" % number)
        assert await asyncio.gather(first, *rest) == [b"0", b"1", b"2"]

    on_wires(check)


def test_a_reply_to_nobody_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def check(wires: Wires) -> None:
        wires.made[0].received(encode(XsWire.READ, 99, 0, b""))
        assert "reply to unknown request 99" in caplog.text
        asking = asyncio.ensure_future(wires.ask(XsWire.READ))
        await asyncio.sleep(0)
        wires.made[0].answer(0, b"v")
        assert await asking == b"v"

    on_wires(check)


def test_a_stream_that_ends_while_it_is_opened_is_lost() -> None:
    async def main() -> None:
        wires = Wires()

        async def open_and_lose(received: Received, lost: Lost) -> Wire:
            lost(OSError("gone"))
            return await wires.open(received, lost)

        await wires.session.open(open_and_lose, None)
        with pytest.raises(StoreConnectionError, match="gone"):
            await wires.ask(XsWire.READ)

    run(main())
