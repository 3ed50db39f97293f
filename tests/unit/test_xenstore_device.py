"""/dev/xen/xenbus as a transport, with a socket in the device's place."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from xenvirt.abi.xs_wire import XsWire
from xenvirt.xenstore.client import Client
from xenvirt.xenstore.device_client import DeviceTransport
from xenvirt.xenstore.errors import StoreConnectionError
from xenvirt.xenstore.framing import encode


class Device:
    """The kernel's side, and what the client's side was told."""

    def __init__(self) -> None:
        self.kernel, client = socket.socketpair()
        self.kernel.setblocking(False)
        client.setblocking(False)
        self.came = asyncio.Event()
        self.losses: list[Exception] = []
        self.transport = DeviceTransport(client.detach(), self._received, self._lost)

    def _received(self, data: bytes) -> None:
        del data
        self.came.set()

    def _lost(self, error: Exception) -> None:
        self.losses.append(error)
        self.came.set()

    def close(self) -> None:
        self.transport.close()
        self.kernel.close()

    def written(self) -> bytes:
        try:
            return self.kernel.recv(65536)
        except BlockingIOError:
            return b""

    async def says(self, data: bytes) -> None:
        self.came.clear()
        self.kernel.send(data)
        await self.came.wait()


def message(type_: XsWire, req_id: int, payload: bytes = b"") -> bytes:
    return encode(type_, req_id, 0, payload)


WATCH = message(XsWire.WATCH, 2, b"a\0b\0")
READ = message(XsWire.READ, 1, b"a\0")


def test_a_request_waits_for_the_answer_to_the_one_before() -> None:
    async def main() -> None:
        device = Device()
        device.transport.send(READ + WATCH)
        assert device.written() == READ
        await device.says(message(XsWire.WATCH_EVENT, 0, b"a\0b\0"))
        assert device.written() == b""
        answer = message(XsWire.READ, 1, b"value")
        await device.says(answer[:10])
        assert device.written() == b""
        await device.says(answer[10:])
        assert device.written() == WATCH
        device.close()

    asyncio.run(main())


def test_an_error_is_an_answer() -> None:
    async def main() -> None:
        device = Device()
        device.transport.send(READ)
        device.transport.send(WATCH)
        assert device.written() == READ
        await device.says(message(XsWire.ERROR, 1, b"ENOENT\0"))
        assert device.written() == WATCH
        device.close()

    asyncio.run(main())


def test_a_device_that_is_gone_is_told_once() -> None:
    async def main() -> None:
        device = Device()
        device.kernel.close()
        await device.came.wait()
        device.transport.send(READ)
        assert [type(loss) for loss in device.losses] == [StoreConnectionError]

    asyncio.run(main())


def test_no_device(tmp_path: Path) -> None:
    path = os.fspath(tmp_path / "xenbus")
    with pytest.raises(StoreConnectionError, match=f"cannot open {path}"):
        asyncio.run(Client.connect_device(path))
