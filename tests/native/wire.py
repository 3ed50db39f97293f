"""The rings' layout, written down from netif.h and ring.h.

Not taken from native/: a test that used the C's own structs would agree with its
mistakes.
"""

from struct import Struct
from typing import Final, NamedTuple, TypeVar

U32: Final = 1 << 32


class TxRequest(NamedTuple):
    gref: int
    offset: int = 0
    flags: int = 0
    id: int = 0
    size: int = 0


class TxResponse(NamedTuple):
    id: int
    status: int


class RxRequest(NamedTuple):
    id: int
    gref: int


class RxResponse(NamedTuple):
    id: int
    offset: int = 0
    flags: int = 0
    status: int = 0


class Extra(NamedTuple):
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

Slot = TypeVar("Slot", TxRequest, TxResponse, RxRequest, RxResponse, Extra)


def gso(size: int, kind: int = 1, flags: int = 0) -> Extra:
    """A GSO extra-info: segment size, XEN_NETIF_GSO_TYPE_*."""
    return Extra(1, flags, Struct("<HBBH").pack(size, kind, 0, 0))


class Index:
    """One of a ring page's four shared words."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def __get__(self, ring: "Ring", owner: type) -> int:
        at = self._offset
        return int.from_bytes(ring.page[at : at + 4], "little")

    def __set__(self, ring: "Ring", value: int) -> None:
        at = self._offset
        ring.page[at : at + 4] = (value % U32).to_bytes(4, "little")


class Ring:
    """A ring page as its other end sees it."""

    req_prod = Index(0)
    req_event = Index(4)
    rsp_prod = Index(8)
    rsp_event = Index(12)

    def __init__(self, page: memoryview, entry_size: int) -> None:
        self.page = page
        self._entry_size = entry_size

    def init(self, start: int) -> None:
        """As a frontend would after `start` requests and responses."""
        self.page[:64] = bytes(64)
        self.req_prod = self.rsp_prod = start
        self.req_event = self.rsp_event = start + 1

    def write(self, index: int, slot: NamedTuple) -> None:
        at = self._at(index)
        data = FORMATS[type(slot)].pack(*slot)
        self.page[at : at + len(data)] = data

    def raw(self, index: int) -> bytes:
        at = self._at(index)
        return bytes(self.page[at : at + self._entry_size])

    def _at(self, index: int) -> int:
        return 64 + index % 256 * self._entry_size


def parse(kind: type[Slot], raw: bytes) -> Slot:
    return kind(*FORMATS[kind].unpack_from(raw))
