"""The daemon's end of the launcher's socket."""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence

from xenvirt.errors import HypercallError
from xenvirt.hypervisor import sync_client, wire
from xenvirt.hypervisor.keeper import Value

OnAnswer = Callable[[wire.Packet | None], None]
"""Takes the launcher's answer, None if it has gone; `unpack` reads either."""


def unpack(packet: wire.Packet | None) -> dict[str, object]:
    """Return the result in an answer; HypercallError if refused, or if it has gone."""
    if packet is None:
        raise HypercallError("ECONNRESET", "the launcher has ended")
    result, fds = sync_client.unpack(packet)
    wire.close_fds(fds)
    return result


class LauncherClient:
    """Orders for the launcher, on the running loop, and its keeper; owns the socket.

    Orders and records are taken in the order in which they were given. A record that
    is in the socket's queue is safe: the launcher reads what a dead daemon has sent.

    Answers and events are handed over in the order in which they were sent: a
    process is known before it can be told to have ended.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[OnAnswer] = deque()
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        self._writer_fd = -1
        self._settled = asyncio.Event()
        self._settled.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._on_exited: Callable[[int, int], None]
        self._on_gone: Callable[[], None]

    def start(
        self, *, on_exited: Callable[[int, int], None], on_gone: Callable[[], None]
    ) -> None:
        """Begin to hand over what the launcher says."""
        self._on_exited = on_exited
        self._on_gone = on_gone
        self._loop.add_reader(self._sock.fileno(), self._receive)

    def close(self) -> None:
        """Close the socket."""
        if self._sock.fileno() < 0:
            return
        self._loop.remove_reader(self._sock.fileno())
        self._stop_writing()
        self._sock.close()
        for _, fds in self._unsent:
            wire.close_fds(fds)
        self._unsent.clear()
        self._settled.set()
        self._idle.set()
        while self._waiting:
            self._waiting.popleft()(None)

    async def become_idle(self) -> None:
        """Return when nobody waits for an answer and everything is sent."""
        await self._idle.wait()

    # Keeper.

    def put(self, key: str, value: Value, fds: Sequence[int] = ()) -> None:
        """See `Keeper.put`."""
        self.tell("keep", fds, key=key, value=value)

    def drop(self, key: str) -> None:
        """See `Keeper.drop`."""
        self.tell("drop", key=key)

    @property
    def settled(self) -> bool:
        """See `Keeper.settled`."""
        return not self._unsent

    async def settle(self) -> None:
        """See `Keeper.settle`."""
        await self._settled.wait()

    # Orders.

    def tell(self, op: str, fds: Sequence[int] = (), /, **args: object) -> None:
        """Give an order that nobody waits for; `fds` stay the caller's."""
        data = wire.encode({"op": op, **args}, wire.MAX_REPLY)
        if self._sock.fileno() < 0 or (not self._unsent and self._try_send(data, fds)):
            return
        # Copies: the caller may close its own before there is room.
        self._unsent.append((data, [os.dup(fd) for fd in fds]))
        self._settled.clear()
        self._idle.clear()
        if self._writer_fd < 0:
            # A descriptor of its own: uvloop ties reader and writer of one number.
            self._writer_fd = os.dup(self._sock.fileno())
            self._loop.add_writer(self._writer_fd, self._send_more)

    def request(self, on_answer: OnAnswer, op: str, /, **args: object) -> None:
        """Ask the launcher; `on_answer` gets its packet, None if it has gone."""
        if self._sock.fileno() < 0:
            on_answer(None)
            return
        self._waiting.append(on_answer)
        self._idle.clear()
        self.tell(op, **args)

    async def call(self, op: str, **args: object) -> dict[str, object]:
        """Ask the launcher and return its result; HypercallError if it refuses."""
        future: asyncio.Future[dict[str, object]] = self._loop.create_future()

        def answer(packet: wire.Packet | None) -> None:
            if future.done():
                return
            try:
                future.set_result(unpack(packet))
            except HypercallError as error:
                future.set_exception(error)

        self.request(answer, op, **args)
        return await future

    def _try_send(self, data: bytes, fds: Sequence[int]) -> bool:
        try:
            wire.send(self._sock, data, fds)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):
            # A launcher that is gone is noticed where the socket is read.
            return True
        return True

    def _send_more(self) -> None:
        while self._unsent and self._try_send(*self._unsent[0]):
            wire.close_fds(self._unsent.popleft()[1])
        if not self._unsent:
            self._stop_writing()
            self._settled.set()
            self._note_idle()

    def _note_idle(self) -> None:
        if not self._waiting and not self._unsent:
            self._idle.set()

    def _stop_writing(self) -> None:
        fd, self._writer_fd = self._writer_fd, -1
        if fd >= 0:
            self._loop.remove_writer(fd)
            os.close(fd)

    def _receive(self) -> None:
        try:
            packet = wire.receive(self._sock, wire.MAX_REPLY)
        except BlockingIOError:
            return
        except OSError:
            packet = None
        if packet is None:
            self.close()
            self._on_gone()
        elif "event" in packet.body:
            self._on_exited(
                int(str(packet.body["pid"])), int(str(packet.body["status"]))
            )
        else:
            self._waiting.popleft()(packet)
            self._note_idle()
