"""CONTROL live-update: this process goes on with the code that is on disk now.

All clients stay connected. What the daemon holds is in the launcher's keeping as it
is; left to the next image are the clients' connections, of both sockets.
"""

import asyncio
import errno
import logging
import os
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from xenvirt.errors import UsageError

if TYPE_CHECKING:
    from xenvirt.hypervisor.server import HandedOver, Server
    from xenvirt.toolstack.store_host import StoreHost

DEFAULT_TIMEOUT_S: Final = 60
"""How long open transactions are waited for, as by xenstore-control."""

MAX_TIMEOUT_S: Final = 3600

CHECK_TIMEOUT_S: Final = 60.0
"""That loading the code on disk may take, which is a fraction of a second."""

_RETRY_S: Final = 0.05

_log = logging.getLogger(__name__)


_PREPARATIONS: Final = {"-f": "another program", "-c": "another command line"}
"""What xenstore-control sends before `-s`: options with one argument."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for: an update, or the end of one that waits."""

    start: bool
    timeout_s: int = DEFAULT_TIMEOUT_S
    force: bool = False


@dataclass(slots=True)
class HandOver:
    """What one image of the daemon's process leaves to the next, as descriptors.

    `asked_by` is the connection to the store that waits for the answer.
    """

    store_fd: int
    asked_by: int
    connections: "list[HandedOver]" = field(default_factory=list)


def parse(parameters: list[str]) -> Request:
    """Return what `-a`, or `-s [-t SECONDS] [-F]`, asks for; UsageError."""
    words = list(parameters)
    first = words.pop(0) if words else ""
    if first == "-a" and not words:
        return Request(start=False)
    if first != "-s":
        raise UsageError("live-update takes -s or -a")
    timeout_s, force = DEFAULT_TIMEOUT_S, False
    while words:
        word = words.pop(0)
        if word == "-F":
            force = True
        elif word == "-t" and words:
            timeout_s = _seconds(words.pop(0))
        else:
            raise UsageError(f"live-update -s takes -t SECONDS and -F, not {word!r}")
    return Request(start=True, timeout_s=timeout_s, force=force)


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= MAX_TIMEOUT_S):
        raise UsageError(f"-t {text!r} is not in 0..{MAX_TIMEOUT_S}")
    return int(text)


@dataclass(frozen=True, slots=True)
class Image:
    """How this process becomes the next one.

    `check` is a command that fails if the code on disk cannot even be loaded;
    `become(hand_over)` returns only by an OSError.
    """

    check: list[str]
    environment: dict[str, str]
    become: Callable[[HandOver], None]


class LiveUpdates:
    """Serves the requests for it, one at a time.

    `hold_still` returns when nothing is under way that the next image would not know
    of; `announce` is called before this image gives way to it, and `move_on` when
    that failed.
    """

    def __init__(
        self,
        server: "Server",
        store: "StoreHost",
        image: Image,
        *,
        hold_still: Callable[[], Awaitable[None]],
        announce: Callable[[], None],
        move_on: Callable[[], None],
    ) -> None:
        self._server = server
        self._store = store
        self._image = image
        self._hold_still = hold_still
        self._announce = announce
        self._move_on = move_on
        self._running: asyncio.Future[int] | None = None

    def serve(self, conn_id: int, parameters: list[str]) -> None:
        """Do what the request of that connection asks for, and answer it."""
        if len(parameters) == 2 and parameters[0] in _PREPARATIONS:
            what = _PREPARATIONS[parameters[0]]
            _log.info("live-update does not start %s, but this code on disk", what)
            self._store.answer(conn_id)
            return
        try:
            request = parse(parameters)
        except UsageError as error:
            _log.warning("%s", error)
            self._store.answer(conn_id, errno.EINVAL)
            return
        if not request.start:
            self._abort(conn_id)
        elif self._running is not None:
            self._store.answer(conn_id, errno.EBUSY)
        else:
            self._running = asyncio.ensure_future(self._update(request, conn_id))
            # It may be aborted before it has begun.
            self._running.add_done_callback(partial(self._ended, conn_id))

    async def close(self) -> None:
        """Give up an update that waits."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    def _abort(self, conn_id: int) -> None:
        if self._running is None:
            self._store.answer(conn_id, errno.ENOENT)
            return
        self._running.cancel()
        self._store.answer(conn_id)

    def _ended(self, conn_id: int, update: "asyncio.Future[int]") -> None:
        self._running = None
        if update.cancelled():
            _log.warning("the live update was aborted")
            error = errno.EAGAIN
        elif (failed := update.exception()) is not None:
            expected = isinstance(failed, OSError | subprocess.SubprocessError)
            _log.error(
                "the daemon on disk cannot be started: %s",
                failed,
                exc_info=None if expected else failed,
            )
            error = errno.EIO
        else:
            error = update.result()
        self._store.answer(conn_id, error)

    async def _update(self, request: Request, conn_id: int) -> int:
        """Become the next image; or return why not, as an errno."""
        await self._check_code()
        deadline = time.monotonic() + request.timeout_s
        while True:
            late = time.monotonic() >= deadline
            try:
                connections = await self._server.hand_over()
                await self._hold_still()
                store_fd = self._store.save(force=request.force and late)
            except OSError as failed:
                self._server.go_on()
                if failed.errno != errno.EBUSY:
                    raise
            except BaseException:
                self._server.go_on()
                raise
            else:
                self._become(HandOver(store_fd, conn_id, connections))
            if late:
                _log.warning("the live update met transactions that do not end")
                return errno.EBUSY
            await asyncio.sleep(_RETRY_S)

    def _become(self, hand_over: HandOver) -> None:
        """Replace this process; if that fails, all is as before, and OSError."""
        self._announce()
        try:
            self._image.become(hand_over)
        finally:
            os.close(hand_over.store_fd)
            self._store.resume()
            self._move_on()
            self._server.go_on()

    async def _check_code(self) -> None:
        done = await asyncio.to_thread(
            subprocess.run,
            self._image.check,
            env=self._image.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=CHECK_TIMEOUT_S,
        )
        if done.returncode:
            raise OSError(errno.ENOEXEC, "it cannot be loaded; see above")
