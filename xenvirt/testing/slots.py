"""What lies in a ring's slots, written down from netif.h.

Not taken from native/: a test that used the C's own structs would agree with its
mistakes.
"""

from struct import Struct
from typing import Final, NamedTuple, TypeVar


class TxRequest(NamedTuple):
    """`size` is the whole frame's in its first slot; `flags` are of `TxFlags`."""

    gref: int
    offset: int = 0
    flags: int = 0
    id: int = 0
    size: int = 0


class TxResponse(NamedTuple):
    """`status` is one of `NetifRsp`."""

    id: int
    status: int = 0


class RxRequest(NamedTuple):
    """A page that the backend may write to."""

    id: int
    gref: int


class RxResponse(NamedTuple):
    """`status` is how many bytes, or a negative error; `flags` are of `RxFlags`."""

    id: int
    offset: int = 0
    flags: int = 0
    status: int = 0


class Extra(NamedTuple):
    """An extra-info slot of an `ExtraType`; flag 1: another one follows."""

    type: int
    flags: int = 0
    payload: bytes = bytes(6)


FORMATS: Final[dict[type[NamedTuple], Struct]] = {
    TxRequest: Struct("<IHHHH"),
    TxResponse: Struct("<Hh"),
    RxRequest: Struct("<HxxI"),
    RxResponse: Struct("<HHHh"),
    Extra: Struct("<BB6s"),
}

TX_SLOT_SIZE: Final = 12
RX_SLOT_SIZE: Final = 8
"""Bytes of a slot: what is longer of a request and a response."""

Slot = TypeVar("Slot", TxRequest, TxResponse, RxRequest, RxResponse, Extra)


def gso(size: int, kind: int = 1, flags: int = 0) -> Extra:
    """Return a GSO extra-info: bytes of a segment, a `GsoType`."""
    return Extra(1, flags, Struct("<HBBH").pack(size, kind, 0, 0))


def pack(slot: NamedTuple) -> bytes:
    """Return a slot's bytes; struct.error for a value that its field cannot hold."""
    return FORMATS[type(slot)].pack(*slot)


def parse(kind: type[Slot], raw: bytes) -> Slot:
    """Read bytes as a slot of that kind."""
    return kind(*FORMATS[kind].unpack_from(raw))
