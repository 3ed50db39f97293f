"""Which requests of a trace were made in a transaction: their tx_id is not traced.

What a client cannot do decides most of it. Until the reply of TRANSACTION_START is
sent, nobody can use its tx_id; and who ends a transaction has the replies of all that
it asked in it. So a request was made outside if it came before that reply, or if its
own reply came after TRANSACTION_END. That tells apart the threads of a kernel, which
share a connection.

All others between the two are assumed to be in the transaction: so do the clients
that are traced, but nothing in the trace says that a read was not made outside. Three
cases are undecided. Of two requests that wait for their replies at once only one can
be in the transaction: the first is taken to be. A connection may have several
transactions: the last one to begin is taken. And a change by a kernel in a transaction
that is given up would be of no use: it is taken to be another thread's. Where such a
choice leads to differences, the replay makes another one.

What xenstored sent overrules all that, as several clients may share a connection. A
read was made outside if its reply is not what was written before in that transaction,
or if someone else changed its node and the transaction was committed nevertheless. And
a change in a transaction that is committed fires its watches at the end, not before.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.conformance.trace import Opened, Record, Request, Sent
from tests.conformance.wire import XS

if TYPE_CHECKING:
    from collections.abc import Sequence

TRANSACTIONAL: Final = {
    XS.DIRECTORY,
    XS.DIRECTORY_PART,
    XS.READ,
    XS.GET_PERMS,
    XS.WRITE,
    XS.MKDIR,
    XS.RM,
    XS.SET_PERMS,
}
"""All others do the same inside and outside, but TRANSACTION_END."""

CHANGES: Final = {XS.WRITE, XS.MKDIR, XS.RM, XS.SET_PERMS}
READS: Final = TRANSACTIONAL - CHANGES
GIVE_UP: Final = b"F\0"
NOT_THERE: Final = b"ENOENT "


@dataclass
class Transactions:
    """Records are named by their index; a transaction by its TRANSACTION_START."""

    start_of: dict[int, int] = field(default_factory=dict)
    """Of each request that is made in a transaction, or ends it."""

    assumed: set[int] = field(default_factory=set)
    """Requests that might have been made outside."""

    undecided: dict[int, list[int | None]] = field(default_factory=dict)
    """Requests of which a choice was made: to what else each might belong."""

    def moved(self, index: int, start: int | None) -> Transactions:
        """The same with another choice for a request; None is outside."""
        start_of = self.start_of | ({} if start is None else {index: start})
        if start is None:
            start_of.pop(index, None)
        return Transactions(start_of, self.assumed, self.undecided)


def transactions(records: Sequence[Record]) -> Transactions:
    """Who belongs to what."""
    found = Transactions()
    conns: dict[int, _Connection] = {}
    replies = _replies(records)
    for index, record in enumerate(records):
        match record:
            case Opened():
                conn = _Connection(replies, found, is_shared=record.is_ring)
                conns[record.conn] = conn
            case Request():
                conns[record.conn].add(index, record)
    for conn in conns.values():
        conn.close(len(records))
    evidence = _Evidence(records, replies, found)
    evidence.judge_changes()
    evidence.judge_reads()
    return found


def _replies(records: Sequence[Record]) -> dict[int, int]:
    """The reply of each request that has one; a connection is answered in order."""
    replies: dict[int, int] = {}
    waiting: dict[int, deque[int]] = defaultdict(deque)
    for index, record in enumerate(records):
        if isinstance(record, Request):
            waiting[record.conn].append(index)
        elif isinstance(record, Sent) and record.type != XS.WATCH_EVENT:
            request = waiting[record.conn].popleft()
            if record.type != XS.ERROR or not _starts(records[request]):
                replies[request] = index
    return replies


def _starts(record: Record) -> bool:
    return isinstance(record, Request) and record.type == XS.TRANSACTION_START


class _Connection:
    """The transactions that are open at one point of a trace, and what is in them."""

    def __init__(
        self, replies: dict[int, int], found: Transactions, *, is_shared: bool
    ) -> None:
        self._replies = replies
        self._found = found
        self._is_shared = is_shared
        self._open: dict[int, list[tuple[int, Request]]] = {}

    def add(self, index: int, request: Request) -> None:
        """The next request."""
        if request.type == XS.TRANSACTION_START and index in self._replies:
            self._open[index] = []
        elif request.type == XS.TRANSACTION_END or request.type in TRANSACTIONAL:
            usable = [start for start in self._open if self._replies[start] < index]
            if len(usable) > 1:
                # Which of them ends only gives them their names.
                is_end = request.type == XS.TRANSACTION_END
                self._found.undecided[index] = [] if is_end else [*usable[:-1], None]
            if not usable:
                return
            if request.type == XS.TRANSACTION_END:
                self._found.start_of[index] = usable[-1]
                self._end(usable[-1], index, gives_up=request.payload == GIVE_UP)
            else:
                self._open[usable[-1]].append((index, request))

    def close(self, end: int) -> None:
        """Here the trace ends, with transactions open."""
        for start in list(self._open):
            self._end(start, end, gives_up=False)

    def _end(self, start: int, end: int, *, gives_up: bool) -> None:
        last_reply = start
        for index, request in self._open.pop(start):
            reply = self._replies.get(index, end)
            if reply >= end:
                continue
            is_useless = gives_up and request.type in CHANGES
            if index < last_reply or (is_useless and self._is_shared):
                self._found.undecided.setdefault(index, []).append(start)
                continue
            last_reply = reply
            self._found.start_of[index] = start
            self._found.assumed.add(index)


class _Effect(NamedTuple):
    """A change, and where all see it: if in a transaction, at its end."""

    request: int
    at: int


class _Evidence:
    """Chooses anew what replies and events tell to be otherwise."""

    def __init__(
        self, records: Sequence[Record], replies: dict[int, int], found: Transactions
    ) -> None:
        self._records = records
        self._replies = replies
        self._found = found
        self._domids: dict[int, int] = {}
        self._requests: dict[int, Request] = {}
        self._answered: dict[int, list[int]] = defaultdict(list)
        self._events: dict[bytes, list[tuple[int, int]]] = defaultdict(list)
        """Of each path, with the connection."""
        for index, record in enumerate(records):
            self._add(index, record)
        self._ends = {
            start: index
            for index, start in found.start_of.items()
            if self._requests[index].type == XS.TRANSACTION_END
        }

    def _add(self, index: int, record: Record) -> None:
        match record:
            case Opened():
                self._domids[record.conn] = record.domid
            case Request():
                self._requests[index] = record
                if index in self._replies:
                    self._answered[record.conn].append(index)
            case Sent(type=XS.WATCH_EVENT):
                path = _absolute(record.text, self._domids[record.conn])
                self._events[path].append((index, record.conn))

    def judge_changes(self) -> None:
        """Whether they were seen at once, or when the transaction was committed.

        Who watches the path has heard of it then, and not at the other time.
        """
        for index, request in self._requests.items():
            if request.type not in CHANGES or self._reply(index) is None:
                continue
            inside = self._found.start_of.get(index)
            others = self._found.undecided.get(index, [])
            for start in others if inside is None else [inside]:
                if start is None or not self._is_committed(start):
                    continue
                path = self._path(index)
                early = self._heard(path, index)
                late = self._heard(path, self._ends[start])
                if early - late and not late - early:
                    self._choose(index, None)
                elif late - early and not early - late:
                    self._choose(index, start)
                    break

    def _heard(self, path: bytes, since: int) -> set[int]:
        """Connections that had an event, which comes before replies to what is later.

        It may be of an earlier change and sent so late; where that made xenstored
        drop the event of this one, it stands for that.
        """
        return {
            conn
            for index, conn in self._events[path]
            if since < index < self._next_reply(conn, since)
        }

    def _next_reply(self, conn: int, since: int) -> int:
        answered = self._answered[conn]
        at = bisect_left(answered, since)
        return self._replies[answered[at]] if at < len(answered) else len(self._records)

    def judge_reads(self) -> None:
        """Whether they saw what is in the transaction, and nobody else's changes."""
        effects = self._effects()
        written: dict[int, dict[bytes, int]] = defaultdict(dict)
        for index, start in sorted(self._found.start_of.items()):
            request, reply = self._requests[index], self._reply(index)
            if request.type == XS.TRANSACTION_END:
                continue
            path, known = self._path(index), written[start]
            if request.type in READS:
                write = known.get(path)
                if write is not None and self._contradicts(write, index):
                    is_sure = write not in self._found.undecided
                    is_sure = is_sure and self._is_committed(start)
                    self._choose(index, None, is_sure=is_sure)
                elif self._conflicts(effects[path], index, start):
                    self._choose(index, None)
            elif reply is not None and request.type == XS.WRITE:
                known[path] = index
            elif reply is not None and request.type == XS.RM:
                for each in list(known):
                    if each == path or each.startswith(path + b"/"):
                        del known[each]

    def _contradicts(self, write: int, read: int) -> bool:
        """Whether a READ had another answer than what was written."""
        if self._requests[read].type != XS.READ or read not in self._replies:
            return False
        reply = self._records[self._replies[read]]
        assert isinstance(reply, Sent)
        if reply.type == XS.ERROR:
            return reply.text == NOT_THERE
        value = self._requests[write].payload.partition(b"\0")[2]
        return reply.text != value.replace(b"\0", b" ")

    def _conflicts(self, effects: list[_Effect], read: int, start: int) -> bool:
        """Whether the transaction would have failed if the read were in it.

        Of a read that failed it is not known: RM of what is not there does nothing.
        """
        is_known = self._is_committed(start) and self._reply(read) is not None
        return is_known and any(
            effect.request not in self._found.undecided
            and read < effect.at < self._ends[start]
            for effect in effects
        )

    def _effects(self) -> dict[bytes, list[_Effect]]:
        """Of each path; MKDIR does nothing where something is."""
        effects: dict[bytes, list[_Effect]] = defaultdict(list)
        for index, request in self._requests.items():
            if request.type in CHANGES - {XS.MKDIR} and self._reply(index) is not None:
                start = self._found.start_of.get(index)
                if start is None or self._is_committed(start):
                    at = index if start is None else self._ends[start]
                    effects[self._path(index)].append(_Effect(index, at))
        return effects

    def _path(self, index: int) -> bytes:
        request = self._requests[index]
        path = request.payload.partition(b"\0")[0]
        return _absolute(path, self._domids[request.conn])

    def _reply(self, index: int) -> Sent | None:
        """The reply to a request, if it did what was asked."""
        reply = self._records[self._replies[index]] if index in self._replies else None
        return reply if isinstance(reply, Sent) and reply.type != XS.ERROR else None

    def _is_committed(self, start: int) -> bool:
        end = self._ends.get(start)
        if end is None or self._requests[end].payload == GIVE_UP:
            return False
        return self._reply(end) is not None

    def _choose(self, index: int, start: int | None, *, is_sure: bool = False) -> None:
        """Take it to belong there; it is undecided whether not where it did before."""
        before = self._found.start_of.pop(index, None)
        others = self._found.undecided.pop(index, [])
        if not is_sure:
            others = [*others, before]
        if others := [each for each in others if each != start]:
            self._found.undecided[index] = others
        self._found.assumed.discard(index)
        if start is not None:
            self._found.start_of[index] = start
            self._found.assumed.add(index)


def _absolute(text: bytes, domid: int) -> bytes:
    """The path that a message begins with."""
    path = text.partition(b" ")[0]
    return path if path[:1] in b"/@" else b"/local/domain/%d/" % domid + path
