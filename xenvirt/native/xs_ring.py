"""The ring page by which a domain and its XenStore exchange messages."""

from typing import Final

from xenvirt.errors import RingIndexError
from xenvirt.native.extension import ffi, lib
from xenvirt.native.shared_memory import WritableBuffer


class XsRingPage:
    """The domain's side of its XenStore ring page (xs_wire.h), with barriers."""

    _SERVER_FEATURES: Final = 2064
    _CONNECTION: Final = 2068
    _ERROR: Final = 2072

    def __init__(self, memory: WritableBuffer, offset: int) -> None:
        self._memory = ffi.from_buffer(memory, require_writable=True)
        self._page = self._memory + offset

    def close(self) -> None:
        """Let go of the memory, which could not be unmapped before; no use after it."""
        ffi.release(self._memory)

    def read(self, limit: int) -> bytes:
        """Take up to `limit` bytes that the other side wrote; b"" when empty."""
        data = ffi.new("uint8_t[]", limit)
        n: int = lib.xv_xs_ring_read(self._page, data, limit)
        if n < 0:
            raise RingIndexError("producer and consumer index are too far apart")
        return bytes(ffi.buffer(data, n))

    def write(self, data: bytes | memoryview) -> int:
        """Put as many bytes as there is room for; returns how many."""
        n: int = lib.xv_xs_ring_write(self._page, ffi.from_buffer(data), len(data))
        if n < 0:
            raise RingIndexError("producer and consumer index are too far apart")
        return n

    def _load(self, offset: int) -> int:
        value: int = lib.xv_xs_ring_load(self._page, offset)
        return value

    @property
    def server_features(self) -> int:
        """What the server can do, bits of `ServerFeature`."""
        return self._load(self._SERVER_FEATURES)

    @server_features.setter
    def server_features(self, value: int) -> None:
        lib.xv_xs_ring_store(self._page, self._SERVER_FEATURES, value)

    @property
    def connection(self) -> int:
        """A `RingConnection`."""
        return self._load(self._CONNECTION)

    @connection.setter
    def connection(self, value: int) -> None:
        lib.xv_xs_ring_store(self._page, self._CONNECTION, value)

    @property
    def error(self) -> int:
        """A `RingError`."""
        return self._load(self._ERROR)

    @error.setter
    def error(self, value: int) -> None:
        lib.xv_xs_ring_store(self._page, self._ERROR, value)
