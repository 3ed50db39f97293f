"""Memory that others use meanwhile, and its words, with barriers."""

from typing import Protocol

from xenvirt.native.extension import ffi, lib


class WritableBuffer(Protocol):
    """Memory such as an mmap object: shared, writable, and of a fixed place."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...


def load_acquire(page: WritableBuffer, offset: int) -> int:
    """A word of shared memory; what its writer wrote before it is seen after this."""
    value: int = lib.xv_xs_ring_load(_word(page, offset), 0)
    return value


def store_release(page: WritableBuffer, offset: int, value: int) -> None:
    """Write a word of shared memory after all that was written before, and fence."""
    lib.xv_xs_ring_store(_word(page, offset), 0, value)


def _word(page: WritableBuffer, offset: int) -> object:
    if offset % 4 or not 0 <= offset <= len(page) - 4:
        raise IndexError(f"no word at {offset} of {len(page)} bytes")
    return ffi.from_buffer("uint8_t[]", page, require_writable=True) + offset
