"""The daemon's end of the launcher's socket."""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable

from xenvirt.errors import HypercallError
from xenvirt.hypervisor import sync_client, wire

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
    """Orders for the launcher, on the running loop; owns the socket.

    Answers and events are handed over in the order in which they were sent: a
    process is known before it can be told to have ended.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_exited: Callable[[int, int], None],
        on_gone: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._on_exited = on_exited
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[bytes, OnAnswer]] = deque()
        self._loop.add_reader(sock.fileno(), self._receive)

    def close(self) -> None:
        """Close the socket, at which the launcher takes down what it has and ends."""
        if self._sock.fileno() < 0:
            return
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        while self._waiting:
            _, on_answer = self._waiting.popleft()
            on_answer(None)

    def request(self, on_answer: OnAnswer, op: str, /, **args: object) -> None:
        """Ask the launcher; `on_answer` gets its packet, None if it has gone."""
        if self._sock.fileno() < 0:
            on_answer(None)
            return
        request = wire.encode({"op": op, **args}, wire.MAX_REQUEST)
        self._waiting.append((request, on_answer))
        if len(self._waiting) == 1:
            self._send_first()

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

    def _send_first(self) -> None:
        # One at a time, so that the socket's buffer always has room for it.
        # A launcher that is gone is noticed where the socket is read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            wire.send(self._sock, self._waiting[0][0])

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
            _, on_answer = self._waiting.popleft()
            on_answer(packet)
            if self._waiting:
                self._send_first()
