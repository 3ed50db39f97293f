"""Hypercalls for an end: `interface.Hypervisor` over the socket, on its event loop."""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from xenvirt.abi.ids import DevId, DomId, Gfn, Port
from xenvirt.errors import HypercallError
from xenvirt.hypervisor import sync_client, wire
from xenvirt.hypervisor.interface import (
    DomainMemory,
    EventChannel,
    Side,
    StartInfo,
)

_Answer = tuple[dict[str, object], list[int]]


class Client:
    """A connection on the running loop; requests are pipelined, answers in order.

    `as_domid` acts as that domain, which only a privileged caller may. What was
    allocated through the connection ends with `close`.
    """

    def __init__(self, path: Path, *, as_domid: DomId | None = None) -> None:
        self._sock = sync_client.connect(path)
        self._sock.setblocking(False)
        self._as = {} if as_domid is None else {"as": as_domid}
        self._loop = asyncio.get_running_loop()
        self._sending = asyncio.Lock()
        self._waiting: deque[asyncio.Future[_Answer]] = deque()
        self._closed = asyncio.Event()
        self._loop.add_reader(self._sock.fileno(), self._receive)

    def close(self) -> None:
        """Close the connection; calls that still wait fail with ECONNRESET."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(_gone())

    async def wait_closed(self) -> None:
        """Return when the connection is closed, by whichever side."""
        await self._closed.wait()

    async def call(
        self, op: str, fds: Sequence[int] = (), /, **args: object
    ) -> tuple[dict[str, object], list[int]]:
        """Make one hypercall; return its result and descriptors, now the caller's.

        `fds` stay the caller's. A cancelled call is still carried out; the
        descriptors of its answer are closed. HypercallError when refused.
        """
        request = wire.encode({"op": op, **self._as, **args}, wire.MAX_REQUEST)
        async with self._sending:
            await self._send(request, fds)
            future: asyncio.Future[_Answer] = self._loop.create_future()
            self._waiting.append(future)
        return await future

    async def start_info(self) -> StartInfo:
        """See `Hypervisor.start_info`."""
        body, fds = await self.call("start_info")
        domid, name = DomId(_int(body, "domid")), str(body["name"])
        store_gfn = Gfn(_int(body, "store_gfn"))
        if not fds:
            return StartInfo(domid, name, None, store_gfn, None)
        memory_fd, pending_fd, notify_fd = fds
        port = Port(_int(body, "store_port"))
        return StartInfo(
            domid,
            name,
            _memory(body, memory_fd),
            store_gfn,
            EventChannel(port, pending_fd, notify_fd),
        )

    async def memory(self, domid: DomId) -> DomainMemory:
        """See `Hypervisor.memory`."""
        body, (fd,) = await self.call("memory", domid=domid)
        return _memory(body, fd)

    async def alloc_unbound(self, remote_domid: DomId) -> EventChannel:
        """See `Hypervisor.alloc_unbound`."""
        body, (pending_fd, notify_fd) = await self.call(
            "alloc_unbound", remote_domid=remote_domid
        )
        return EventChannel(Port(_int(body, "port")), pending_fd, notify_fd)

    async def bind_interdomain(
        self, remote_domid: DomId, remote_port: Port
    ) -> EventChannel:
        """See `Hypervisor.bind_interdomain`."""
        body, (pending_fd, notify_fd) = await self.call(
            "bind_interdomain", remote_domid=remote_domid, remote_port=remote_port
        )
        return EventChannel(Port(_int(body, "port")), pending_fd, notify_fd)

    async def close_port(self, port: Port) -> None:
        """See `Hypervisor.close_port`."""
        await self.call("close_port", port=port)

    async def open_xenbus(self) -> socket.socket:
        """See `Hypervisor.open_xenbus`; the socket does not block."""
        _, (fd,) = await self.call("open_xenbus")
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        return sock

    async def publish(
        self, domid: DomId, devid: DevId, side: Side, queue: int, page_fd: int
    ) -> None:
        """See `Hypervisor.publish`."""
        await self.call(
            "publish", [page_fd], domid=domid, devid=devid, side=side, queue=queue
        )

    async def _send(self, request: bytes, fds: Sequence[int]) -> None:
        while not self._closed.is_set():
            try:
                wire.send(self._sock, request, fds)
            except BlockingIOError:
                await self._writable()
            except OSError:
                self.close()
            else:
                return
        raise _gone()

    async def _writable(self) -> None:
        # A descriptor of its own: uvloop ties reader and writer of one number.
        fd = os.dup(self._sock.fileno())
        writable = asyncio.Event()
        self._loop.add_writer(fd, writable.set)
        try:
            await writable.wait()
        finally:
            self._loop.remove_writer(fd)
            os.close(fd)

    def _receive(self) -> None:
        try:
            packet = wire.receive(self._sock, wire.MAX_REPLY)
            answer = sync_client.unpack(packet)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        except HypercallError as error:
            if error.errno_name == "ECONNRESET" or not self._waiting:
                self.close()
                return
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(error)
            return
        if not self._waiting:
            wire.close_fds(answer[1])
            self.close()
            return
        future = self._waiting.popleft()
        if future.done():
            wire.close_fds(answer[1])
        else:
            future.set_result(answer)


def _gone() -> HypercallError:
    return HypercallError("ECONNRESET", "the hypervisor has closed the connection")


def _memory(body: dict[str, object], fd: int) -> DomainMemory:
    return DomainMemory(fd, _int(body, "nr_pages"), _int(body, "nr_grant_frames"))


def _int(body: dict[str, object], name: str) -> int:
    value = body[name]
    if not isinstance(value, int):
        raise HypercallError(
            "EPROTO", f"{name} of the hypervisor's answer is no number"
        )
    return value
