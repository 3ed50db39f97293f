"""Hypercalls of the emulation, over its socket, on an event loop."""

import asyncio
import contextlib
import os
import socket
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from xenvirt.abi.ids import DevId, DomId, Gfn, Port
from xenvirt.errors import HypercallError, XenvirtError
from xenvirt.hypervisor import sync_client, wire
from xenvirt.hypervisor.eventfds import EventfdChannel
from xenvirt.hypervisor.interface import Side
from xenvirt.hypervisor.start_info import DomainMemory, StartInfo

_RETRY_S: Final = 0.01

_Answer = tuple[dict[str, object], list[int]]


@dataclass(eq=False, slots=True)
class _Call:
    """A hypercall that has no answer yet; `fds` are its caller's."""

    body: dict[str, object]
    fds: Sequence[int]
    answer: "asyncio.Future[_Answer]"

    def fail(self, error: HypercallError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def succeed(self, answer: _Answer) -> None:
        if self.answer.done():
            wire.close_fds(answer[1])
        else:
            self.answer.set_result(answer)


class Client:
    """A connection on the running loop; requests are pipelined, answers in order.

    `as_domid` acts as that domain, which only a privileged caller may. What was
    allocated through the connection ends with `close`.

    A `lasting` client outlives the daemon: it connects again when the daemon was
    killed, has everything that it had, and repeats the calls that got no answer.
    """

    def __init__(
        self, path: Path, *, as_domid: DomId | None = None, lasting: bool = False
    ) -> None:
        self._path = path
        self._as = {} if as_domid is None else {"as": as_domid}
        self._lasting = lasting
        self._loop = asyncio.get_running_loop()
        self._sending = asyncio.Lock()
        self._waiting: deque[_Call] = deque()
        self._closed = asyncio.Event()
        self._connected = asyncio.Event()
        self._session = uuid.uuid4().hex
        self._has_session = False
        self._last_serial = 0
        self._reconnecting: asyncio.Task[None] | None = None
        self._begin(sync_client.connect(path))
        self._connected.set()

    def close(self) -> None:
        """Close the connection; calls that still wait fail with ECONNRESET."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._connected.set()
        self._disconnect()
        if self._reconnecting is not None:
            self._reconnecting.cancel()
        while self._waiting:
            self._waiting.popleft().fail(_gone())

    async def wait_closed(self) -> None:
        """Return when the connection is closed, by whichever side, for good."""
        await self._closed.wait()

    async def call(
        self, op: str, fds: Sequence[int] = (), /, **args: object
    ) -> tuple[dict[str, object], list[int]]:
        """Make one hypercall; return its result and descriptors, now the caller's.

        `fds` stay the caller's. A cancelled call is still carried out; the
        descriptors of its answer are closed. HypercallError when refused.
        """
        body = {"op": op, **self._as, **args}
        if self._lasting:
            self._last_serial += 1
            body["serial"] = self._last_serial
        call = _Call(body, fds, self._loop.create_future())
        wire.encode({**body, "again": True}, wire.MAX_REQUEST)
        await self._take_turn(call)
        return await call.answer

    async def start_info(self) -> StartInfo:
        """Return who the caller is, its memory and its way to the store."""
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
            EventfdChannel(port, pending_fd, notify_fd),
        )

    async def memory(self, domid: DomId) -> DomainMemory:
        """Return the memory of a domain that has a vif with the caller's.

        EACCES without such a vif, ESRCH if there is no such domain.
        """
        body, (fd,) = await self.call("memory", domid=domid)
        return _memory(body, fd)

    async def alloc_unbound(self, remote_domid: DomId) -> EventfdChannel:
        """See `Hypervisor.alloc_unbound`."""
        body, (pending_fd, notify_fd) = await self.call(
            "alloc_unbound", remote_domid=remote_domid
        )
        return EventfdChannel(Port(_int(body, "port")), pending_fd, notify_fd)

    async def bind_interdomain(
        self, remote_domid: DomId, remote_port: Port
    ) -> EventfdChannel:
        """See `Hypervisor.bind_interdomain`."""
        body, (pending_fd, notify_fd) = await self.call(
            "bind_interdomain", remote_domid=remote_domid, remote_port=remote_port
        )
        return EventfdChannel(Port(_int(body, "port")), pending_fd, notify_fd)

    async def close_port(self, port: Port) -> None:
        """Close one of the caller's ports; the other end can be bound again."""
        await self.call("close_port", port=port)

    async def open_xenbus(self) -> socket.socket:
        """Return a socket, not blocking, that speaks xs_wire as the caller's domain."""
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

    async def unpublish(self, domid: DomId, devid: DevId, side: Side) -> None:
        """See `Hypervisor.unpublish`."""
        await self.call("unpublish", domid=domid, devid=devid, side=side)

    # One connection.

    async def _take_turn(self, call: _Call) -> None:
        """Send a call and have it wait for its answer, once there is a connection."""
        while True:
            await self._connected.wait()
            async with self._sending:
                if self._closed.is_set():
                    raise _gone()
                if not self._connected.is_set():
                    continue
                self._waiting.append(call)
                try:
                    await self._send(call)
                except BaseException:
                    self._waiting.remove(call)
                    raise
                return

    async def _send(self, call: _Call, *, again: bool = False) -> None:
        """Send a call whole or not at all; a loss is noticed by the reader."""
        body = {**call.body, "again": True} if again else call.body
        data = wire.encode(body, wire.MAX_REQUEST)
        sock = self._sock
        while sock.fileno() >= 0:
            try:
                wire.send(sock, data, call.fds)
            except BlockingIOError:
                await self._writable(sock)
            except OSError:
                return
            else:
                return

    async def _writable(self, sock: socket.socket) -> None:
        # A descriptor of its own: uvloop ties reader and writer of one number.
        fd = os.dup(sock.fileno())
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
            self._lost()
            return
        except HypercallError as error:
            if error.errno_name == "ECONNRESET":
                self._lost()
            elif not self._waiting:
                self.close()
            else:
                self._waiting.popleft().fail(error)
            return
        if not self._waiting:
            wire.close_fds(answer[1])
            self.close()
        else:
            self._waiting.popleft().succeed(answer)

    def _disconnect(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    def _begin(self, sock: socket.socket) -> None:
        """Use a new connection, which has room for the session's packet."""
        sock.setblocking(False)
        self._sock = sock
        self._waiting.clear()
        if self._lasting:
            call = _Call(
                {"op": "session", "name": self._session, "resume": self._has_session},
                (),
                self._loop.create_future(),
            )
            call.answer.add_done_callback(self._session_answered)
            self._waiting.append(call)
            with contextlib.suppress(OSError):
                wire.send(sock, wire.encode(call.body, wire.MAX_REQUEST))
        self._loop.add_reader(sock.fileno(), self._receive)

    def _session_answered(self, answer: "asyncio.Future[_Answer]") -> None:
        if answer.exception() is None:
            self._has_session = True
        else:
            # What it had is lost: a new process has to begin anew.
            self.close()

    # The next one.

    def _lost(self) -> None:
        self._disconnect()
        if not self._lasting:
            self.close()
            return
        self._connected.clear()
        self._reconnecting = self._loop.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        """Connect, take up what this client had, and repeat what is unanswered.

        Who has to wait is in the queue of the listening socket, which the daemon's
        launcher keeps; a daemon that is gone for good is refused there.
        """
        async with self._sending:
            try:
                sock = await self._connect()
            except XenvirtError:
                self.close()
                return
            unanswered = deque(
                call
                for call in self._waiting
                if call.body["op"] != "session" and not call.answer.done()
            )
            self._begin(sock)
            while unanswered:
                call = unanswered.popleft()
                self._waiting.append(call)
                await self._send(call, again=True)
                if sock.fileno() < 0:
                    self._waiting.extend(unanswered)
                    return
            self._connected.set()

    async def _connect(self) -> socket.socket:
        while True:
            try:
                return sync_client.connect(self._path, timeout_s=0)
            except BlockingIOError:
                # The queue is full, of which nothing tells when it is not.
                await asyncio.sleep(_RETRY_S)


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
