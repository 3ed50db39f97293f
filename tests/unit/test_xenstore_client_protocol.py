"""A store that sends what the protocol does not know."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from tests.helpers_xenstore import run
from xenvirt.abi.xs_wire import HEADER, XsWire
from xenvirt.xenstore.client import Client
from xenvirt.xenstore.errors import StoreProtocolError
from xenvirt.xenstore.framing import encode


class Impostor:
    """A server that sends what it is told to, whatever it is asked."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()

    async def check(self, answer: bytes) -> None:
        client = await Client.connect_socket(self.theirs)
        self.ours.sendall(answer)
        with self.ours, pytest.raises(StoreProtocolError):
            await client.read("/")
        client.close()


@pytest.mark.parametrize(
    "answer",
    [
        HEADER.pack(XsWire.READ, 1, 0, 4097),
        encode(XsWire.WRITE, 1, 0, b"OK\0"),
        encode(XsWire.WATCH_EVENT, 0, 0, b"/a"),
        encode(XsWire.WATCH_EVENT, 0, 0, b"/a\0t\0more\0"),
    ],
)
def test_a_store_that_breaks_the_protocol_is_not_believed(answer: bytes) -> None:
    async def main() -> None:
        await Impostor().check(answer)

    run(main())


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (lambda client: client.get_perms("/"), b"x0\0"),
        (lambda client: client.get_perms("/"), b""),
        (lambda client: client.get_quota("nodes"), b"many\0"),
    ],
)
def test_a_reply_that_cannot_be_read_is_an_error_of_its_request(
    request_: Callable[[Client], Awaitable[object]], answer: bytes
) -> None:
    async def main() -> None:
        impostor = Impostor()
        async with await Client.connect_socket(impostor.theirs) as client:
            asked = asyncio.ensure_future(request_(client))
            await asyncio.sleep(0)
            loop = asyncio.get_running_loop()
            impostor.ours.setblocking(False)
            request = await loop.sock_recv(impostor.ours, 100)
            type_, req_id, _, _ = HEADER.unpack_from(request)
            impostor.ours.sendall(encode(type_, req_id, 0, answer))
            with pytest.raises(StoreProtocolError):
                await asked
            impostor.ours.close()

    run(main())
