"""What a real xenstored was asked and what it sent, read from its `--trace-file`.

A line is one of these; a payload is on it with every NUL shown as a space, and goes on
in the next line where it has a line feed:

    CREATE connection 0x55d0c0ffee00
    IN 0x55d0c0ffee00 20261129 06:05:41 READ (domid )
    OUT 0x55d0c0ffee00 20261129 06:05:41 READ (0)
    DESTROY connection 0x55d0c0ffee00
    CONN 0x55d0c0ffee00 ignored, reason 2
    dropping duplicate watch device/vif/0/state my token for domain 1

A request is traced when it is served, so their order is the order in which the store
changed. A reply or an event is traced when all of it is sent: in order for one
connection, and before anything that its client does because of it.
"""

from __future__ import annotations

import gzip
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.conformance.wire import XS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Opened(NamedTuple):
    """A connection by socket, or a domain's ring page: then `is_ring`."""

    line: int
    conn: int
    domid: int
    is_ring: bool


class Request(NamedTuple):
    """A request that was served; its tx_id is not traced."""

    line: int
    conn: int
    type: XS
    payload: bytes


class Sent(NamedTuple):
    """A reply or an event, its payload with spaces for NULs."""

    line: int
    conn: int
    type: XS
    text: bytes


class Ended(NamedTuple):
    """No more is read from a connection nor sent to it."""

    line: int
    conn: int


class Died(NamedTuple):
    """The domain whose ring page it was is gone."""

    line: int
    conn: int
    domid: int


class Dropped(NamedTuple):
    """An event of the last request that is not sent, as one like it waits to be.

    Of the connections of that domain it is one that has it waiting.
    """

    line: int
    domid: int
    text: bytes
    """As an event's that is sent."""


Record = Opened | Request | Sent | Ended | Died | Dropped

NEXT_ENTRY: Final = re.compile(
    rb"\n(?=(?:IN|OUT|CONN) 0x|(?:CREATE|DESTROY) \w+ 0x|dropping duplicate watch "
    rb"|wrl: |Checking store|\*\*\*)"
)
MESSAGE: Final = re.compile(
    rb"(IN|OUT) (0x[0-9a-f]+) \d{8} [\d:]{8} (\w+) \((.*)\)\n?", re.DOTALL
)
LIFE: Final = re.compile(
    rb"(CREATE connection|DESTROY connection|CONN) (0x[0-9a-f]+)(?: ignored.*)?\s*"
)
DROPPED: Final = re.compile(
    rb"dropping duplicate watch (\S+) (.*) for domain (\d+)\n?", re.DOTALL
)
NOT_READ: Final = re.compile(
    rb"(?:CREATE|DESTROY) (?:watch|transaction) |wrl: |Checking store|\*\*\*|\s*$"
)

FREE_TEXT: Final = {XS.WRITE, XS.WATCH, XS.UNWATCH}
"""Where the second field may have spaces of its own."""


def read(path: Path) -> list[Record]:
    """The records of a trace, which may be compressed by gzip."""
    data = path.read_bytes()
    return parse(gzip.decompress(data) if path.suffix == ".gz" else data)


def parse(trace: bytes) -> list[Record]:
    """The records of a trace; raises ValueError for a line that is none of its.

    What follows the last line feed is still being written, and left out.
    """
    return list(_Reader().records(trace[: trace.rfind(b"\n") + 1]))


def raw_payload(type_: XS, text: bytes) -> bytes:
    """The request's payload out of what is shown of it.

    Paths, permissions and numbers have no spaces. A value and a token may: there only
    the first space is a NUL, and the one that ends a token. A NUL in a value is lost.
    """
    if type_ not in FREE_TEXT:
        return text.replace(b" ", b"\0")
    path, space, rest = text.partition(b" ")
    if type_ != XS.WRITE and rest.endswith(b" "):
        rest = rest[:-1] + b"\0"
    return path + space.replace(b" ", b"\0") + rest


class _Reader:
    """Tells connections apart, whose addresses are used again and again."""

    def __init__(self) -> None:
        self._conns: dict[bytes, Opened] = {}
        self._opened = 0
        self._last_request: Request | None = None

    def records(self, trace: bytes) -> Iterator[Record]:
        line = 1
        for entry in NEXT_ENTRY.split(trace):
            yield from self._entry(line, entry)
            line += entry.count(b"\n") + 1

    def _entry(self, line: int, entry: bytes) -> Iterator[Record]:
        if NOT_READ.match(entry):
            return
        if life := LIFE.fullmatch(entry):
            yield self._life(line, *life.groups())
            self._last_request = None
        elif message := MESSAGE.fullmatch(entry):
            way, address, name, text = message.groups()
            conn, type_ = self._conns[address].conn, XS[name.decode()]
            if way == b"IN":
                request = Request(line, conn, type_, raw_payload(type_, text))
                self._last_request = request
                yield request
            else:
                self._last_request = None
                yield Sent(line, conn, type_, text)
        elif dropped := DROPPED.fullmatch(entry):
            path, token, domid = dropped.groups()
            yield Dropped(line, int(domid), path + b" " + token + b" ")
        else:
            raise ValueError(f"line {line} of the trace: {entry[:80]!r}")

    def _life(self, line: int, what: bytes, address: bytes) -> Opened | Ended | Died:
        if what == b"CREATE connection":
            opened = self._open(line)
            self._conns[address] = opened
            return opened
        conn = self._conns[address]
        if what == b"CONN" or not conn.is_ring or self._last(XS.RELEASE, conn.domid):
            return Ended(line, conn.conn)
        return Died(line, conn.conn, conn.domid)

    def _open(self, line: int) -> Opened:
        """The first is the ring page of dom0's kernel; INTRODUCE opens a domain's."""
        is_first, self._opened = self._opened == 0, self._opened + 1
        introduced = 0
        if self._last(XS.INTRODUCE):
            assert self._last_request is not None
            introduced = int(self._last_request.payload.split(b"\0")[0])
        is_ring = is_first or introduced != 0
        return Opened(line, self._opened, introduced, is_ring)

    def _last(self, type_: XS, domid: int | None = None) -> bool:
        """Whether the record before was that request, for that domain."""
        request = self._last_request
        if request is None or request.type != type_:
            return False
        return domid is None or int(request.payload.split(b"\0")[0]) == domid
