"""Forking, and being told of signals, for a process that has no event loop."""

import contextlib
import gc
import os
import signal
import socket
from collections.abc import Iterator
from typing import Final

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_HANDLED: Final = (signal.SIGCHLD, *STOP_SIGNALS)


@contextlib.contextmanager
def signal_socket() -> Iterator[socket.socket]:
    """Yield a socket that gets the numbers of the signals that come, as bytes."""
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        earlier = {sig: signal.signal(sig, lambda *_: None) for sig in _HANDLED}
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield reader
        finally:
            signal.set_wakeup_fd(-1)
            for sig, handler in earlier.items():
                signal.signal(sig, handler)


def fork() -> int:
    """Fork; return 0 in the child, which has a session and signals of its own."""
    # What is there now is shared with the child until the collector writes to it.
    gc.freeze()
    # A signal for the child must not end up in its parent's socket.
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            for sig in _HANDLED:
                signal.signal(sig, signal.SIG_DFL)
            # Away from the terminal, whose ^C is for the parent.
            os.setsid()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)
    return pid
