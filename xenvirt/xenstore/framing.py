"""Messages on a byte stream: a 16-byte header and up to 4096 bytes of payload.

`struct xsd_sockmsg` of xs_wire.h, little endian; the same on a socket and on a ring.
"""

from typing import Final, NamedTuple

from xenvirt.abi.ids import DOM0
from xenvirt.abi.xs_wire import HEADER, XENSTORE_PAYLOAD_MAX
from xenvirt.errors import PeerError

HEADER_SIZE: Final = HEADER.size


class Message(NamedTuple):
    """One request, reply or event; `type` may be a number that XsWire does not have.

    A tuple, because one is made for every request.
    """

    type: int
    req_id: int
    tx_id: int
    payload: bytes


class FramingError(PeerError):
    """A header announces more than 4096 bytes.

    `messages` are the complete ones before it in the same feed.
    """

    def __init__(self, length: int, *, domid: int, messages: list[Message]) -> None:
        super().__init__(
            f"XenStore message of {length} bytes exceeds {XENSTORE_PAYLOAD_MAX}",
            domid=domid,
        )
        self.messages = messages


def encode(type_: int, req_id: int, tx_id: int, payload: bytes) -> bytes:
    """The message's bytes; the caller has checked the payload's length."""
    return HEADER.pack(type_, req_id, tx_id, len(payload)) + payload


class MessageDecoder:
    """Cuts a stream into messages; `domid` is who to blame for a bad one."""

    def __init__(self, domid: int = DOM0) -> None:
        self._domid = domid
        self._rest = b""

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes.

        Raises FramingError; nothing after that can be decoded.
        """
        if self._rest:
            data = self._rest + data
        messages: list[Message] = []
        start, end = 0, len(data)
        while end - start >= HEADER_SIZE:
            type_, req_id, tx_id, length = HEADER.unpack_from(data, start)
            if length > XENSTORE_PAYLOAD_MAX:
                raise FramingError(length, domid=self._domid, messages=messages)
            body = start + HEADER_SIZE
            if body + length > end:
                break
            start = body + length
            messages.append(Message(type_, req_id, tx_id, data[body:start]))
        self._rest = data[start:]
        return messages
