"""What `StoreServer.trace` gives to its readers: from bytes to records to text.

native/xenstore/server.h has the form of a record.
"""

import json
import time
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from xenvirt.abi.xs_wire import XsWire
from xenvirt.native.extension import lib
from xenvirt.xenstore.payloads import text

_HEADER: Final = Struct("<QQIIIIII")
_COUNT: Final = Struct("<Q")


class TraceKind(IntEnum):
    """What a record says that the store did."""

    CONNECT = lib.XV_XENSTORE_TRACE_CONNECT
    DISCONNECT = lib.XV_XENSTORE_TRACE_DISCONNECT
    REQUEST = lib.XV_XENSTORE_TRACE_REQUEST
    REPLY = lib.XV_XENSTORE_TRACE_REPLY
    EVENT = lib.XV_XENSTORE_TRACE_EVENT
    LOST = lib.XV_XENSTORE_TRACE_LOST


class TraceRecord(NamedTuple):
    """One thing that the store did.

    `type` and all after it are a message's, and zeros or b"" where there is none;
    `type` may be a number that XsWire does not have. `time_ns` is since 1970.
    """

    time_ns: int
    conn_id: int
    domid: int
    kind: TraceKind
    type: int
    req_id: int
    tx_id: int
    payload: bytes

    @property
    def lost(self) -> int:
        """How many records are missing in the place of this one."""
        if self.kind != TraceKind.LOST:
            return 0
        count: int = _COUNT.unpack(self.payload)[0]
        return count

    @property
    def type_name(self) -> str:
        """The message's type by its name in xs_wire.h, or else its number."""
        try:
            return XsWire(self.type).name
        except ValueError:
            return str(self.type)

    def arguments(self) -> list[bytes]:
        """The payload's strings; a value may hold NULs and is not cut there."""
        if self.type == XsWire.WRITE and self.kind == TraceKind.REQUEST:
            return self.payload.split(b"\0", 1)
        if self.type == XsWire.READ and self.kind == TraceKind.REPLY:
            return [self.payload]
        parts = self.payload.split(b"\0")
        return parts if parts[-1] else parts[:-1]


class TraceDecoder:
    """Cuts the stream into records."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[TraceRecord]:
        """The records that `data` completes."""
        data = self._rest + data
        records: list[TraceRecord] = []
        start = 0
        while len(data) - start >= _HEADER.size:
            *fields, length = _HEADER.unpack_from(data, start)
            end = start + _HEADER.size + length
            if end > len(data):
                break
            time_ns, conn_id, domid, kind, type_, req_id, tx_id = fields
            payload = data[start + _HEADER.size : end]
            records.append(
                TraceRecord(
                    time_ns,
                    conn_id,
                    domid,
                    TraceKind(kind),
                    type_,
                    req_id,
                    tx_id,
                    payload,
                )
            )
            start = end
        self._rest = data[start:]
        return records


def line(record: TraceRecord) -> str:
    """One line for people, in ASCII but for the arrow, times as they are here."""
    seconds, ns = divmod(record.time_ns, 1_000_000_000)
    at = f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{ns // 1000:06}"
    if record.kind == TraceKind.LOST:
        return f"{at} {record.lost} records lost"
    who = f"{at} conn {record.conn_id} dom {record.domid}"
    if record.kind in (TraceKind.CONNECT, TraceKind.DISCONNECT):
        return f"{who} {record.kind.name.lower()}ed"
    arrow = "→" if record.kind == TraceKind.REQUEST else "←"
    words = [who, arrow, record.type_name]
    if record.kind != TraceKind.EVENT:
        words.append(f"req {record.req_id} tx {record.tx_id}")
    return " ".join([*words, *map(_quoted, record.arguments())])


def as_json(record: TraceRecord) -> str:
    """One JSON object on one line.

    Bytes that are not UTF-8 become lone surrogates, as in Python's surrogateescape.
    """
    found: dict[str, object] = {
        "time_ns": record.time_ns,
        "kind": record.kind.name.lower(),
    }
    if record.kind == TraceKind.LOST:
        found["lost"] = record.lost
        return json.dumps(found)
    found["conn"] = record.conn_id
    found["domid"] = record.domid
    if record.kind not in (TraceKind.CONNECT, TraceKind.DISCONNECT):
        found["type"] = record.type_name
        found["req_id"] = record.req_id
        found["tx_id"] = record.tx_id
        found["arguments"] = [text(part) for part in record.arguments()]
    return json.dumps(found)


def _quoted(part: bytes) -> str:
    return '"' + "".join(map(_escaped, part)) + '"'


def _escaped(byte: int) -> str:
    character = chr(byte)
    if character in '"\\':
        return f"\\{character}"
    return character if " " <= character <= "~" else f"\\x{byte:02x}"
