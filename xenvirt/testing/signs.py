"""Waiting for a condition, looking at it whenever something may have changed it."""

import select
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

from xenvirt.hypervisor.eventfds import EventfdChannel
from xenvirt.xenstore.sync_client import SyncClient


class Signs:
    """The event channels that were added, and every change below `path` in the store.

    `sock` is a connection to the store for this alone; it is closed by `undo`.
    """

    def __init__(self, sock: socket.socket, path: str, undo: ExitStack) -> None:
        self._sock = sock
        self._store = undo.enter_context(SyncClient.from_socket(sock))
        undo.enter_context(self._store.watch(path))
        self._channels: list[EventfdChannel] = []

    def add(self, channel: EventfdChannel) -> None:
        """Look when this one is notified, too."""
        self._channels.append(channel)

    def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Return whether the condition holds, within so many seconds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            left_s = deadline - time.monotonic()
            channels = [channel for channel in self._channels if channel.fd >= 0]
            if left_s <= 0 or not self._wait(channels, left_s):
                return False
        return True

    def _wait(self, channels: list[EventfdChannel], timeout_s: float) -> bool:
        """Return whether there was a sign, and take it, before the next look."""
        fds = [self._sock.fileno(), *(channel.fd for channel in channels)]
        ready, _, _ = select.select(fds, [], [], timeout_s)
        for channel in channels:
            channel.drain()
        if self._sock.fileno() in ready:
            # Any request takes the events that wait.
            self._store.domain_path(0)
        return bool(ready)
