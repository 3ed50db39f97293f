"""A ring page (ring.h) with every word of it in the script's hands."""

from typing import Final, NamedTuple

from xenvirt.errors import XenvirtError
from xenvirt.native.shared_memory import load_acquire, store_release
from xenvirt.testing.slots import pack

U32: Final = 1 << 32
RING_SIZE: Final = 256
_HEADER_SIZE: Final = 64


class Index:
    """One of a ring page's four shared words, free-running modulo 2**32."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def __get__(self, ring: "Ring", owner: type) -> int:
        return load_acquire(ring.page, self._offset)

    def __set__(self, ring: "Ring", value: int) -> None:
        store_release(ring.page, self._offset, value % U32)


class Ring:
    """A ring page as either end may write it; nothing is checked.

    An index's value is seen by the other end after what was written before it.
    """

    req_prod = Index(0)
    req_event = Index(4)
    rsp_prod = Index(8)
    rsp_event = Index(12)

    def __init__(self, page: memoryview, slot_size: int) -> None:
        self.page = page
        self._slot_size = slot_size

    def init(self, start: int = 0) -> None:
        """Do what a frontend does to a new ring, whose indices begin at `start`."""
        self.page[:_HEADER_SIZE] = bytes(_HEADER_SIZE)
        self.req_prod = self.rsp_prod = start
        self.req_event = self.rsp_event = start + 1

    def waiting(self, prod: int, cons: int) -> int:
        """Return how many slots the other end has produced that we have not taken.

        `prod` is its shared index. XenvirtError if there cannot be so many.
        """
        count = (prod - cons) % U32
        if count > RING_SIZE:
            raise XenvirtError(
                f"the other end's index is {prod}, and {cons % U32} slots are taken",
                cause=f"a ring has {RING_SIZE}",
            )
        return count

    def write(self, index: int, slot: NamedTuple) -> None:
        """Write a slot, of any index, pushed or not."""
        self.write_raw(index, pack(slot))

    def write_raw(self, index: int, data: bytes) -> None:
        """Write bytes from a slot's first one on."""
        at = self._at(index)
        self.page[at : at + len(data)] = data

    def raw(self, index: int) -> bytes:
        """Return a slot's bytes."""
        at = self._at(index)
        return bytes(self.page[at : at + self._slot_size])

    def _at(self, index: int) -> int:
        return _HEADER_SIZE + index % RING_SIZE * self._slot_size
