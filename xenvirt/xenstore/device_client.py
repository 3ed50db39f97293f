"""/dev/xen/xenbus as a stream for the client: a domain's own way to XenStore on Xen.

The kernel takes one message a write, and a read may return one in pieces. A write of
WATCH or UNWATCH waits, within the kernel, for xenstored's answer, and holds what the
kernel needs to pass on the answer to an earlier request: then neither comes, to
nobody in this domain (Linux 6.1, xenbus_dev_queue_reply). So a request is written
when the one before it is answered.
"""

import asyncio
import os
from collections import deque
from typing import Final

from xenvirt.abi.xs_wire import HEADER, XsWire
from xenvirt.xenstore.errors import StoreConnectionError, StoreProtocolError
from xenvirt.xenstore.framing import MessageDecoder
from xenvirt.xenstore.transports import Lost, Opener, Received, Transport

_READ_SIZE: Final = 16384


class DeviceTransport:
    """Moves messages between the open device and a client; owns `fd`."""

    def __init__(self, fd: int, received: Received, lost: Lost) -> None:
        self._fd = fd
        self._received = received
        self._lost = lost
        self._unsent: deque[bytes] = deque()
        self._answers = MessageDecoder()
        self._unanswered = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._readable)

    def send(self, data: bytes) -> None:
        """Queue one or more whole messages; they leave one by one.

        The kernel has the caller wait for the answer to a WATCH.
        """
        while data:
            length = HEADER.size + HEADER.unpack_from(data)[3]
            self._unsent.append(data[:length])
            data = data[length:]
        self._write()

    def close(self) -> None:
        """End the stream; again is harmless."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._loop.remove_reader(fd)
            os.close(fd)

    def _write(self) -> None:
        if not self._unsent or self._unanswered or self._fd < 0:
            return
        self._unanswered = True
        try:
            os.write(self._fd, self._unsent.popleft())
        except OSError as error:
            self._end(error)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, _READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        if not data:
            self._end(StoreConnectionError("closed by the kernel"))
            return
        try:
            messages = self._answers.feed(data)
        except StoreProtocolError as error:
            self._end(error)
            return
        if any(message.type != XsWire.WATCH_EVENT for message in messages):
            self._unanswered = False
        self._received(data)
        self._write()

    def _end(self, error: Exception) -> None:
        self.close()
        self._lost(error)


def device_opener(path: str) -> Opener:
    """Open the device at `path`; StoreConnectionError."""

    async def open_device(received: Received, lost: Lost) -> Transport:
        try:
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise StoreConnectionError(
                f"cannot open {path}", cause=error.strerror or ""
            ) from error
        return DeviceTransport(fd, received, lost)

    return open_device
