"""The requests of a trace asked of our store, and what it sends held against the trace.

A request is asked when those before it are answered, whoever asks, so that our store
changes in the order in which the real one did. In the end the replies and events of
each connection are compared: all of them, in order, with NUL shown as space.
"""

from __future__ import annotations

import difflib
import socket
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.conformance.ours import OurHypervisor
from tests.conformance.trace import (
    Died,
    Dropped,
    Ended,
    Opened,
    Record,
    Request,
    Sent,
    read,
)
from tests.conformance.trace_transactions import Transactions, transactions
from tests.conformance.wire import XS, Message, RingChannel, SocketChannel, Wire
from xenvirt.xenstore.server import StoreServer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Why(Enum):
    """What a difference comes of that is no fault; test_trace.py has each of them."""

    NOT_TAKEN = (
        "The client left, or its domain died, before it took all: a message is traced "
        "when it is sent. One without payload is not sent to who left at its header."
    )
    CUT = "The trace ends before the message was sent."
    SHUTDOWN = (
        "A domain has shut down, and is still there: C xenstored hears of it by "
        "VIRQ_DOM_EXC and sends @releaseDomain. Ours is told of a domain's end only."
    )
    DROPPED = (
        "An event like it was still waiting for the client: C xenstored sends one, and "
        "its trace says that it has dropped the other. Ours sends both."
    )


SHUTDOWN_EVENT: Final = b"WATCH_EVENT (@releaseDomain "


class Difference(NamedTuple):
    """Messages of one connection; what is alike before and after is left out."""

    request: Request | None
    """The last one that the connection had made."""
    theirs: tuple[bytes, ...]
    ours: tuple[bytes, ...]
    why: Why | None = None

    def __str__(self) -> str:
        where = "nothing" if self.request is None else _shown_request(self.request)
        theirs, ours = (_text(b"; ".join(them)) for them in (self.theirs, self.ours))
        return f"after {where}: xenstored sent [{theirs}], ours [{ours}]"


@dataclass
class Comparison:
    """What was compared, and what was not alike."""

    requests: int
    transactions: Transactions
    compared: Counter[XS] = field(default_factory=Counter)
    """Messages that are alike, by type."""
    differences: list[Difference] = field(default_factory=list)

    def unexplained(self) -> list[str]:
        """Differences that are in the store's behaviour."""
        return [str(found) for found in self.differences if found.why is None]

    def messages_unexplained(self) -> int:
        """How much it is that is not alike."""
        return sum(
            len(found.theirs) + len(found.ours)
            for found in self.differences
            if found.why is None
        )

    @property
    def events(self) -> int:
        """How many events are alike."""
        return self.compared[XS.WATCH_EVENT]

    @property
    def replies(self) -> int:
        """How many replies are alike."""
        return self.compared.total() - self.events

    def __str__(self) -> str:
        return (
            f"{self.requests} requests; {self.replies} replies and {self.events} "
            f"events are alike; {len(self.differences)} differences; "
            f"{len(self.transactions.assumed)} requests assumed in a transaction, "
            f"{len(self.transactions.undecided)} undecided"
        )


def replay(path: Path) -> Comparison:
    """Replay a trace; a file's name ends with .gz if it is compressed."""
    return replay_records(read(path))


def replay_records(records: Sequence[Record]) -> Comparison:
    """Replay what was read of a trace.

    While something differs, undecided requests are tried elsewhere, one by one, and
    left where fewer messages differ.
    """
    best = _attempt(records, transactions(records))
    for index, elsewhere in best.transactions.undecided.items():
        for start in elsewhere:
            if not best.unexplained():
                return best
            other = _attempt(records, best.transactions.moved(index, start))
            best = min(best, other, key=lambda found: found.messages_unexplained())
    return best


def _attempt(records: Sequence[Record], known: Transactions) -> Comparison:
    replay = _Replay(records, known)
    try:
        for index, record in enumerate(records):
            replay.step(index, record)
        return replay.compare()
    finally:
        replay.close()


class _Client:
    """A connection to our store in place of one that was traced."""

    def __init__(self, opened: Opened, wire: Wire) -> None:
        self.domid = opened.domid
        self.wire = wire
        self.is_open = True
        self.ours: list[Message] = []
        self.theirs: list[Sent] = []
        self.requests: list[Request] = []
        self.dropped: list[Difference] = []

    def leave(self) -> None:
        """Take what has come, and go; nothing if it has gone."""
        if self.is_open:
            self.is_open = False
            self.ours += self.wire.settle()
            self.wire.close()

    def drop(self, text: bytes) -> bool:
        """Leave an event out that came while one like it was not traced as sent yet.

        Returns whether there is one: otherwise xenstored had no cause to drop it here.
        """
        self.ours += self.wire.settle()
        shown = _shown(XS.WATCH_EVENT, text)
        came = [
            index
            for index, message in enumerate(self.ours)
            if message.type == XS.WATCH_EVENT
            and _shown(message.type, message.payload) == shown
        ]
        sent = sum(
            sent.type == XS.WATCH_EVENT and sent.text == text for sent in self.theirs
        )
        if len(came) - sent < 2:
            return False
        last = _last_request(self, came[-1])
        self.dropped.append(Difference(last, (), (shown,), Why.DROPPED))
        del self.ours[came[-1]]
        return True


class _Replay:
    def __init__(self, records: Sequence[Record], known: Transactions) -> None:
        self._transactions = known
        self._tx_ids: dict[int, int] = {}
        self._last_asked: Request | None = None
        self._not_dropped: list[Difference] = []
        self._clients: dict[int, _Client] = {}
        self._store = StoreServer()
        self._hypervisor = OurHypervisor(self._store, rings=True)
        # A domain's first nodes are made before it is introduced.
        for record in records:
            if isinstance(record, Opened) and record.domid:
                self._hypervisor.create(record.domid)

    def step(self, index: int, record: Record) -> None:
        """Do what was done, or remember what was sent."""
        match record:
            case Opened():
                self._clients[record.conn] = _Client(record, self._connect(record))
            case Request():
                self._ask(index, record)
            case Sent():
                self._clients[record.conn].theirs.append(record)
            case Ended():
                self._clients[record.conn].leave()
            case Died():
                self._clients[record.conn].leave()
                self._hypervisor.destroy(record.domid)
            case Dropped():
                self._drop(record)

    def _connect(self, opened: Opened) -> Wire:
        if page := self._hypervisor.pages.get(opened.domid):
            return Wire(RingChannel(page.memory, page.to_domain, page.notify))
        ours, theirs = socket.socketpair()
        self._store.adopt(theirs, 0, privileged=True)
        return Wire(SocketChannel(ours))

    def _ask(self, index: int, request: Request) -> None:
        client = self._clients[request.conn]
        client.requests.append(request)
        self._last_asked = request
        if request.type == XS.RELEASE:
            self._let_go(request)
        start = self._transactions.start_of.get(index)
        tx_id = 0 if start is None else self._tx_ids.get(start, 0)
        reply = client.wire.ask(request.type, request.payload, tx_id)
        assert reply.tx_id == tx_id
        if reply.type == XS.TRANSACTION_START:
            self._tx_ids[index] = int(reply.payload.rstrip(b"\0"))

    def _let_go(self, release: Request) -> None:
        """Take what the domain was sent while its ring page is served."""
        for client in self._clients.values():
            if client.domid and b"%d\0" % client.domid == release.payload:
                client.leave()

    def _drop(self, dropped: Dropped) -> None:
        """Leave the event out for whom it was dropped; it is amiss if it is nobody."""
        for client in self._clients.values():
            is_it = client.is_open and client.domid == dropped.domid
            if is_it and client.drop(dropped.text):
                return
        theirs = _shown(XS.WATCH_EVENT, dropped.text) + b" and dropped it"
        self._not_dropped.append(Difference(self._last_asked, (theirs,), ()))

    def compare(self) -> Comparison:
        """Hold what came against what should have come."""
        asked = sum(len(client.requests) for client in self._clients.values())
        found = Comparison(asked, self._transactions)
        found.differences += self._not_dropped
        for client in self._clients.values():
            has_left = not client.is_open
            client.leave()
            _compare(client, found, has_left=has_left)
        return found

    def close(self) -> None:
        """Stop our store; may come at any time."""
        for client in self._clients.values():
            client.wire.close()
        self._hypervisor.close()
        self._store.close()


def _compare(client: _Client, found: Comparison, *, has_left: bool) -> None:
    found.differences += client.dropped
    theirs = [_shown(sent.type, sent.text) for sent in client.theirs]
    ours = [_shown(message.type, message.payload) for message in client.ours]
    matcher = difflib.SequenceMatcher(None, theirs, ours, autojunk=False)
    for what, begin, end, our_begin, our_end in matcher.get_opcodes():
        if what == "equal":
            found.compared.update(sent.type for sent in client.theirs[begin:end])
            continue
        why = None
        if what == "insert" and our_end == len(ours):
            why = Why.NOT_TAKEN if has_left else Why.CUT
        elif what == "delete" and all(
            sent.startswith(SHUTDOWN_EVENT) for sent in theirs[begin:end]
        ):
            why = Why.SHUTDOWN
        found.differences.append(
            Difference(
                _last_request(client, our_begin),
                tuple(theirs[begin:end]),
                tuple(ours[our_begin:our_end]),
                why,
            )
        )


def _shown(type_: int, payload: bytes) -> bytes:
    """As a trace shows it; the id of a new transaction is the store's own."""
    text = payload.replace(b"\0", b" ")
    if type_ == XS.TRANSACTION_START and text.rstrip(b" ").isdigit():
        text = b"a tx_id"
    return XS(type_).name.encode() + b" (" + text + b")"


def _shown_request(request: Request) -> str:
    shown = _text(_shown(request.type, request.payload))
    return f"{shown} of connection {request.conn} in line {request.line}"


def _text(shown: bytes) -> str:
    return shown.decode(errors="backslashreplace")


def _last_request(client: _Client, our_begin: int) -> Request | None:
    """What our store was answering when it sent the message before."""
    events = sum(m.type == XS.WATCH_EVENT for m in client.ours[:our_begin])
    answered = our_begin - events
    return client.requests[answered - 1] if answered else None
