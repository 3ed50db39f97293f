"""The server over real sockets: order, pressure, bad input, ends."""

import asyncio
import os
import socket
import stat
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.helpers_xenstore import FakeDomains, client_socket, connected, run
from xenvirt.abi.ids import DomId
from xenvirt.abi.xs_wire import HEADER, XsWire
from xenvirt.xenstore.client import Client
from xenvirt.xenstore.engine import Engine
from xenvirt.xenstore.framing import encode
from xenvirt.xenstore.server import serve

READ_ROOT = encode(XsWire.READ, 1, 0, b"/\0")
EMPTY_REPLY = encode(XsWire.READ, 1, 0, b"")


def test_a_request_in_single_bytes_is_answered() -> None:
    async def main() -> None:
        async with connected(Engine(FakeDomains())) as (reader, writer):
            for byte in READ_ROOT:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            assert await reader.readexactly(16) == EMPTY_REPLY

    run(main())


@pytest.mark.parametrize("length", [4097, 0x80000000, 0xFFFFFFFF])
def test_a_message_that_is_too_long_ends_the_connection(length: int) -> None:
    async def main() -> None:
        engine = Engine(FakeDomains())
        async with connected(engine) as (reader, writer):
            writer.write(READ_ROOT + HEADER.pack(XsWire.READ, 1, 0, length))
            assert await reader.read() == EMPTY_REPLY
        assert not engine.connections

    run(main())


def test_requests_before_the_end_of_the_stream_are_answered() -> None:
    async def main() -> None:
        async with connected(Engine(FakeDomains())) as (reader, writer):
            writer.write(READ_ROOT * 1000 + READ_ROOT[:15])
            writer.write_eof()
            assert await reader.read() == EMPTY_REPLY * 1000

    run(main())


def test_a_client_that_does_not_read_is_not_served_further() -> None:
    async def main() -> None:
        engine = Engine(FakeDomains())
        served = 0
        handle = engine.handle

        def counting(conn: object, message: object) -> None:
            nonlocal served
            served += 1
            handle(conn, message)  # type: ignore[arg-type]

        engine.handle = counting  # type: ignore[method-assign]
        async with await Client.connect_socket(await client_socket(engine)) as other:
            await other.write("/big", bytes(4000))
            sock = await client_socket(engine)
            sock.setblocking(False)
            request = encode(XsWire.READ, 1, 0, b"/big\0")
            sent = 0
            while (sent_now := _send(sock, request * 100)) or sent < 100_000:
                sent += sent_now
                await other.read("/big")
            before = served
            await other.read("/big")
            assert served == before + 1
            assert served < sent // len(request)
            sock.close()

    run(main())


def _send(sock: socket.socket, data: bytes) -> int:
    try:
        return sock.send(data)
    except BlockingIOError:
        return 0


def test_a_slow_reader_gets_every_reply_in_order() -> None:
    async def main() -> None:
        async with connected(Engine(FakeDomains())) as (reader, writer):
            for number in range(20_000):
                writer.write(encode(XsWire.GET_PERMS, number, 0, b"/\0"))
            for number in range(20_000):
                reply = await reader.readexactly(19)
                assert reply == encode(XsWire.GET_PERMS, number, 0, b"n0\0")

    run(main())


def test_another_client_gets_its_turn_while_one_asks_for_much() -> None:
    async def main() -> None:
        engine = Engine(FakeDomains())
        async with AsyncExitStack() as stack:
            _, greedy = await stack.enter_async_context(connected(engine))
            reader, writer = await stack.enter_async_context(connected(engine))
            greedy.write(encode(XsWire.WRITE, 1, 0, b"/greedy\0v") * 5000)
            await _until(lambda: engine.store.get("/greedy") is not None)
            writer.write(READ_ROOT)
            await reader.readexactly(16)
            before = next(engine.store.generations)
            assert before < 2500
            await _until(lambda: next(engine.store.generations) - before > 2500)

    run(main())


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    pytest.fail("the condition never came true")


def test_a_dead_domains_socket_is_closed() -> None:
    async def main() -> None:
        engine = Engine(FakeDomains())
        async with connected(engine, domid=1) as (reader, writer):
            writer.write(encode(XsWire.GET_DOMAIN_PATH, 1, 0, b"1\0"))
            await reader.readexactly(16)
            engine.domain_dead(DomId(1))
            assert await reader.read() == b"/local/domain/1\0"

    run(main())


def test_the_socket_is_private_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def main() -> None:
        server = await serve(Engine(FakeDomains()), str(path))
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        async with await Client.connect_unix(str(path)) as client:
            assert await client.ls("/") == ["tool"]
            await server.close()
            with pytest.raises(Exception, match="no connection"):
                await client.ls("/")
        assert not path.exists()

    run(main())


def test_a_dead_servers_socket_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)

    async def main() -> None:
        server = await serve(Engine(FakeDomains()), path)
        async with await Client.connect_unix(path) as client:
            assert await client.exists("/tool")
        await server.close()

    run(main())
