"""Runs a row of the table in a world."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.conformance.table import (
    ANYTHING,
    Differs,
    Domain,
    Event,
    Reply,
    Row,
    Settle,
    Start,
    Step,
    Who,
)
from tests.conformance.wire import XS, Message

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conformance.servers import World


class Run:
    """One row, from its preparation to what is true afterwards."""

    def __init__(self, world: World, directory: Path) -> None:
        self._world = world
        self._directory = directory
        self._tx_ids: dict[str, int] = {}

    def row(self, row: Row, *, on_c_417: bool) -> None:
        """Fails where the server does not do what the row says."""
        self._prepare(row)
        expect, before, after = row.expect, row.events, row.events_after
        differs = row.c_417 if on_c_417 else None
        if isinstance(differs, Differs):
            expect = differs.expect
            before = before if differs.events is None else differs.events
            if differs.events_after is not None:
                after = differs.events_after
        self._ask(row, expect, before, after)
        if not isinstance(differs, Differs):
            for step in row.then:
                self._step(step)

    def _prepare(self, row: Row) -> None:
        for step in row.before:
            match step:
                case Step():
                    self._step(step)
                case Start(tx, who):
                    reply = self._request(who, XS.TRANSACTION_START, b"\0")
                    self._tx_ids[tx] = int(reply.payload.rstrip(b"\0"))
                case Domain(verb, domid):
                    self._settle()
                    self._world.domain(verb, domid)
                case Settle():
                    self._settle()
        # What a domain's end leads to, the row's request has to bring.
        if not (row.before and isinstance(row.before[-1], Domain)):
            self._settle()

    def _settle(self) -> None:
        for who in self._world.connected():
            self._world.wire(who).settle()

    def _ask(
        self,
        row: Row,
        expect: Reply,
        before: tuple[Event, ...],
        after: tuple[Event, ...],
    ) -> None:
        payload = row.payload.replace(b"{dir}", str(self._directory).encode())
        wire = self._world.wire(row.who)
        reply = wire.ask(row.type, payload, self._tx_id(row.tx))
        self._check(row.type, reply, expect)
        for who in dict.fromkeys((row.who, *self._world.connected())):
            expected: list[Event | Message] = [e for e in before if e.who is who]
            if who is row.who:
                expected += [reply, *after]
            assert self._arrived(who) == expected, row.name

    def _arrived(self, who: Who) -> list[Event | Message]:
        return [
            self._event(who, message) if message.type == XS.WATCH_EVENT else message
            for message in self._world.wire(who).settle()
        ]

    def _event(self, who: Who, message: Message) -> Event:
        assert (message.req_id, message.tx_id) == (0, 0)
        path, token, end = message.payload.split(b"\0")
        assert end == b""
        return Event(who, path.decode(), token.decode())

    def _step(self, step: Step) -> None:
        payload = step.payload.replace(b"{dir}", str(self._directory).encode())
        reply = self._request(step.who, step.type, payload, step.tx)
        if step.expect is not None:
            self._check(step.type, reply, step.expect)
        else:
            assert reply.type == step.type, (step, reply)

    def _request(
        self, who: Who, type_: int, payload: bytes, tx: str | int = 0
    ) -> Message:
        return self._world.wire(who).ask(type_, payload, self._tx_id(tx))

    def _tx_id(self, tx: str | int) -> int:
        return self._tx_ids[tx] if isinstance(tx, str) else tx

    def _check(self, type_: int, reply: Message, expect: Reply) -> None:
        if expect == ANYTHING:
            return
        if isinstance(expect, str):
            assert (reply.type, reply.payload) == (XS.ERROR, expect.encode() + b"\0")
        elif isinstance(expect, re.Pattern):
            assert reply.type == type_, reply
            assert expect.fullmatch(reply.payload), reply
        else:
            assert (reply.type, reply.payload) == (type_, expect)
