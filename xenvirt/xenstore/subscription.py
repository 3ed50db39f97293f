"""A watch, as an asynchronous iterator of the paths that changed."""

from types import TracebackType
from typing import Self

from xenvirt.xenstore import requests
from xenvirt.xenstore.errors import RequestError
from xenvirt.xenstore.events import EventQueue
from xenvirt.xenstore.session import Session
from xenvirt.xenstore.wakeup import Wakeup


class Watch:
    """The events of one watch, as an asynchronous iterator of paths.

    `async with client.watch(path) as events:` registers it and takes it back at the
    end; so does the first `anext`, and `close`. The first event is `path` itself, and
    comes at once. A path is spelt as `path` was: relative below a relative one.

    An event is a hint to look again: equal ones that nobody has taken are one, and
    when 1024 different ones wait they all become `path`. After a reconnection `path`
    comes once more.
    """

    def __init__(
        self,
        session: Session,
        watches: dict[str, "Watch"],
        path: str,
        token: str,
        depth: int | None,
    ) -> None:
        self.path = path
        self._session = session
        self._watches = watches
        self._token = token
        self._request = requests.watch(path, token, depth)
        self._queue = EventQueue(path)
        self._something = Wakeup()
        self._registered = False
        self._ended = False
        self._refused: Exception | None = None

    async def __aenter__(self) -> Self:
        await self._register()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        if not (self._registered or self._ended):
            await self._register()
        while not self._queue:
            if self._ended:
                raise StopAsyncIteration
            if self._refused is not None:
                raise self._refused
            self._session.check()
            await self._something.wait()
        return self._queue.take()

    def close(self) -> None:
        """Take the watch back; a lost connection has done so already.

        Nothing is waited for: whoever is cancelled may have no store to answer.
        """
        if self._registered:
            self.end()
            self._take_back()

    def end(self) -> None:
        """The store has no such watch any more: the iteration ends."""
        self._registered = False
        self._ended = True
        self._watches.pop(self._token, None)
        self._something.wake()

    def put(self, path: str) -> None:
        """An event came."""
        self._queue.put(path)
        self._something.wake()

    def wake(self) -> None:
        """The connection is lost for good: whoever waits is to find out."""
        self._something.wake()

    def register_again(self) -> None:
        """There is a new connection, which has no watches."""
        if self._registered:
            self._session.ask_once(self._request, self._refuse)

    def _refuse(self, error: Exception) -> None:
        self._refused = error
        self._something.wake()

    async def _register(self) -> None:
        # The first event may come right behind the reply.
        self._watches[self._token] = self
        request = self._request
        try:
            await self._session.request(request.type, request.payload, request.path)
        except RequestError:
            del self._watches[self._token]
            raise
        except BaseException:
            # The store may have it, or get it yet.
            del self._watches[self._token]
            self._take_back()
            raise
        self._registered = True

    def _take_back(self) -> None:
        self._session.ask_once(requests.unwatch(self.path, self._token))
