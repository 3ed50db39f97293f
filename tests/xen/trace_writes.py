"""The changes of one vif in XenStore, cut out of what xenstored has traced.

Who made each, in which transaction, and in the order in which the others saw them. A
path is relative to the node it lies in (`frontend/state`, `backend/state`,
`libxl/state`), and what is another number in each run is shown by its form, such as
`<gref>`: so two lives of a vif can be compared, line by line.
"""

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from tests.conformance.trace import Opened, Record, Request, Sent, parse
from tests.conformance.trace_transactions import CHANGES, transactions
from tests.conformance.wire import XS
from xenvirt.toolstack.vif_nodes import VifPaths
from xenvirt.xenstore.sync_client import SyncClient

TRACE: Final = Path("/run/xenstored.trace")

_MARK: Final = "/trace-mark"
_COMMIT: Final = b"T\0"
_NODES: Final = ("frontend", "backend", "libxl", "frontend_error", "backend_error")
"""Which of a vif's paths a change is looked for in."""

_DROPPED: Final = re.compile(rb"^dropping duplicate watch .*\n", re.MULTILINE)
"""An event that is not sent, as one like it waits to be."""

# The forms of values, by the name of the key.
_NUMBER: Final = re.compile(r"0|[1-9]\d*")
_MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_FORMS: Final = {
    "tx-ring-ref": (_NUMBER, "<gref>"),
    "rx-ring-ref": (_NUMBER, "<gref>"),
    "event-channel": (_NUMBER, "<port>"),
    "event-channel-tx": (_NUMBER, "<port>"),
    "event-channel-rx": (_NUMBER, "<port>"),
    "mac": (_MAC, "<mac>"),
}


class Who(StrEnum):
    """Whose connection it is."""

    BACKEND = "backend"
    FRONTEND = "frontend"
    TOOLSTACK = "toolstack"
    SCRIPT = "script"


class Step(NamedTuple):
    """A change, or those of a transaction, where the others saw it."""

    who: Who
    changes: tuple[str, ...]
    end: str | None
    """How the transaction ended, "commit" or "abort"; None: there was none."""

    def lines(self) -> tuple[str, ...]:
        """It as text, a change in a transaction indented."""
        if self.end is None:
            return self.changes
        return ("start", *(f"  {change}" for change in self.changes), self.end)


@dataclass(frozen=True, slots=True)
class TracedVif:
    """Shows what is done to a vif without its own numbers and paths."""

    paths: VifPaths

    def relative(self, path: str) -> str | None:
        """An absolute path from one of the nodes on; None: it is no part of them.

        What holds one of them is `frontend/..`, `backend/..` or `libxl/..`.
        """
        for name in _NODES:
            node: str = getattr(self.paths, name)
            if path == node or path.startswith(f"{node}/"):
                return name + path.removeprefix(node)
            if path == node.rpartition("/")[0]:
                return f"{name}/.."
        return None

    def path(self, domid: int, path: bytes) -> str | None:
        """The same for a path as a domain has it in a message."""
        text = path.decode()
        absolute = text.startswith("/")
        return self.relative(text if absolute else f"/local/domain/{domid}/{text}")

    def form(self, key: str, value: str) -> str:
        """A key's value, or its form where it is another one for each vif."""
        pattern, form = _FORMS.get(key, (None, ""))
        if pattern is not None and pattern.fullmatch(value):
            return form
        paths = self.paths
        own = {
            "frontend": (paths.frontend, "<frontend>"),
            "backend": (paths.backend, "<backend>"),
            "frontend-id": (str(paths.frontend_id), "<domid>"),
            "handle": (str(paths.devid), "<devid>"),
        }
        expected, form = own.get(key, (None, ""))
        return form if value == expected else value

    def perms(self, perms: Sequence[str]) -> str:
        """A permission list with the frontend's domid by its form."""
        domid = str(self.paths.frontend_id)
        return ",".join(
            f"{perm[0]}<domid>" if perm[1:] == domid else perm for perm in perms
        )

    def change(self, domid: int, request: Request) -> str | None:
        """What a request of a domain changes, as text; None: nothing of this vif."""
        strings = request.payload.decode().split("\0")
        relative = self.path(domid, request.payload.split(b"\0")[0])
        if request.type not in CHANGES or relative is None:
            return None
        if request.type == XS.WRITE:
            value = self.form(relative.rpartition("/")[2], strings[1])
            return f"{relative} = {value}".rstrip()
        if request.type == XS.SET_PERMS:
            return (
                f"perms {relative} {self.perms([each for each in strings[1:] if each])}"
            )
        return f"{request.type.name.lower()} {relative}"


def mark(client: SyncClient, name: str) -> None:
    """Have a phase begin in the trace."""
    client.write({_MARK: name})


def read_phases(vif: TracedVif, trace: Path = TRACE) -> dict[str, list[Step]]:
    """All changes of a vif, by the mark that they came after."""
    return phases(parse(_DROPPED.sub(b"", trace.read_bytes())), vif)


def phases(records: Sequence[Record], vif: TracedVif) -> dict[str, list[Step]]:
    """All changes of a vif, by the mark that they came after."""
    conns = _connections(records, vif)
    replies = _replies(records)
    start_of = _transactions(records, vif, conns)
    unfinished: dict[int, list[str]] = defaultdict(list)
    current: list[Step] = []
    found = {"": current}
    for index, record in enumerate(records):
        if not isinstance(record, Request):
            continue
        conn, reply = conns[record.conn], replies.get(index)
        start = start_of.get(index)
        if record.type == XS.TRANSACTION_END and start is not None:
            changes = tuple(unfinished.pop(start, ()))
            if changes and reply is not None and reply.type != XS.ERROR:
                end = "commit" if record.payload == _COMMIT else "abort"
                current.append(Step(conn.who, changes, end))
        elif record.type == XS.WRITE and record.payload.startswith(_MARK.encode()):
            current = found.setdefault(record.payload.decode().split("\0")[1], [])
        elif change := vif.change(conn.domid, record):
            if reply is not None and reply.type == XS.ERROR:
                change += f" -> {reply.text.decode().strip()}"
            if start is None:
                current.append(Step(conn.who, (change,), None))
            else:
                unfinished[start].append(change)
    return found


class _Connection(NamedTuple):
    domid: int
    who: Who


def _connections(records: Sequence[Record], vif: TracedVif) -> dict[int, _Connection]:
    """Who it is at each connection.

    A ring page is a kernel's; of the sockets, a backend's watches the bus of dom0's
    backends, and libxl's changes what is libxl's.
    """
    found: dict[int, _Connection] = {}
    for record in records:
        if isinstance(record, Opened):
            is_frontend = record.is_ring and record.domid == vif.paths.frontend_id
            is_backend = record.is_ring and record.domid == 0
            who = (
                Who.FRONTEND
                if is_frontend
                else Who.BACKEND
                if is_backend
                else Who.SCRIPT
            )
            found[record.conn] = _Connection(record.domid, who)
        elif isinstance(record, Request) and found[record.conn].who is Who.SCRIPT:
            if record.type == XS.WATCH and record.payload.startswith(b"backend\0"):
                found[record.conn] = _Connection(0, Who.BACKEND)
            elif record.type in CHANGES and record.payload.startswith(b"/libxl/"):
                found[record.conn] = _Connection(0, Who.TOOLSTACK)
    return found


def _transactions(
    records: Sequence[Record], vif: TracedVif, conns: dict[int, _Connection]
) -> dict[int, int]:
    """The TRANSACTION_START that each change in a transaction belongs to, and its end.

    Where it is undecided who of a connection made a request, and so whether it was in
    the transaction that was open, the events tell: each end watches its own nodes, and
    hears of what it changed in a transaction only after its end. Others may hear late
    of an earlier change; on its own connection all comes in order.
    """
    found = transactions(records)
    replied = _reply_places(records)
    ends = {
        start: index
        for index, start in found.start_of.items()
        if _is(records[index], XS.TRANSACTION_END)
    }
    start_of = {end: start for start, end in ends.items()}
    candidates = {
        index: start
        for index, starts in found.undecided.items()
        for start in starts
        if start is not None
    } | found.start_of
    for index, start in candidates.items():
        record = records[index]
        if isinstance(record, Request) and record.type in CHANGES and start in ends:
            path = vif.path(conns[record.conn].domid, record.payload.split(b"\0")[0])
            after = records[replied.get(index, index) : ends[start]]
            own = (each for each in after if getattr(each, "conn", None) == record.conn)
            if path not in _events(own, vif, conns):
                start_of[index] = start
    return start_of


def _is(record: Record, type_: XS) -> bool:
    return isinstance(record, Request) and record.type == type_


def _events(
    records: Iterable[Record], vif: TracedVif, conns: dict[int, _Connection]
) -> Iterator[str | None]:
    """What was changed, as the watches tell."""
    for record in records:
        if isinstance(record, Sent) and record.type == XS.WATCH_EVENT:
            yield vif.path(conns[record.conn].domid, record.text.split(b" ")[0])


def _reply_places(records: Sequence[Record]) -> dict[int, int]:
    """Where the reply of each request is; a connection is answered in order."""
    places: dict[int, int] = {}
    waiting: dict[int, deque[int]] = defaultdict(deque)
    for index, record in enumerate(records):
        if isinstance(record, Request):
            waiting[record.conn].append(index)
        elif isinstance(record, Sent) and record.type != XS.WATCH_EVENT:
            places[waiting[record.conn].popleft()] = index
    return places


def _replies(records: Sequence[Record]) -> dict[int, Sent]:
    """The reply of each request, by its index."""
    found = {}
    for request, place in _reply_places(records).items():
        reply = records[place]
        assert isinstance(reply, Sent)
        found[request] = reply
    return found
