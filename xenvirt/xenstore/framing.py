"""Messages on a byte stream: a 16-byte header and up to 4096 bytes of payload.

`struct xsd_sockmsg` of xs_wire.h, little endian; the same on a socket and on a ring.
"""

from typing import Final, NamedTuple

from xenvirt.abi.xs_wire import HEADER, XENSTORE_PAYLOAD_MAX
from xenvirt.xenstore.errors import StoreProtocolError

HEADER_SIZE: Final = HEADER.size


class Message(NamedTuple):
    """One request, reply or event; `type` may be a number that XsWire does not have.

    A tuple, because one is made for every request.
    """

    type: int
    req_id: int
    tx_id: int
    payload: bytes


def encode(type_: int, req_id: int, tx_id: int, payload: bytes) -> bytes:
    """The message's bytes; the caller has checked the payload's length."""
    return HEADER.pack(type_, req_id, tx_id, len(payload)) + payload


class MessageDecoder:
    """Cuts a stream into messages."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes.

        Raises StoreProtocolError for a header that announces more than 4096 bytes.
        What came in the same piece before it is lost; nothing after it can be decoded.
        """
        if self._rest:
            data = self._rest + data
        messages: list[Message] = []
        start, end = 0, len(data)
        while end - start >= HEADER_SIZE:
            type_, req_id, tx_id, length = HEADER.unpack_from(data, start)
            if length > XENSTORE_PAYLOAD_MAX:
                raise StoreProtocolError(
                    f"XenStore message of {length} bytes exceeds {XENSTORE_PAYLOAD_MAX}"
                )
            body = start + HEADER_SIZE
            if body + length > end:
                break
            start = body + length
            messages.append(Message(type_, req_id, tx_id, data[body:start]))
        self._rest = data[start:]
        return messages
