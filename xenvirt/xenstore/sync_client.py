"""A blocking client of the store, for commands: no event loop, quick to import.

    with SyncClient("/run/xenstored/socket") as store:
        store.write({"/tool/hello": "world"})
        print(store.read("/tool/hello"))

        with store.watch("/tool", timeout_s=5) as events:
            for path in events:
                print(path)  # "/tool" itself at first
                break

The same requests, errors and transactions as `client.Client`; one request at a time.
Not for several threads at once.
"""

import contextlib
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Self, TypeVar

from xenvirt.abi.xs_wire import ServerFeature, XsWire
from xenvirt.errors import LocalError
from xenvirt.xenstore import requests
from xenvirt.xenstore.errors import (
    RequestError,
    StoreAgainError,
    StoreConnectionError,
    StoreNotFoundError,
    StoreUncertainError,
)
from xenvirt.xenstore.events import EventQueue
from xenvirt.xenstore.requests import Request
from xenvirt.xenstore.retries import MAX_ATTEMPTS, TORN, TORN_ATTEMPTS, pause_s
from xenvirt.xenstore.sync_connection import SyncConnection
from xenvirt.xenstore.sync_nodes import SyncNodes

__all__ = ["SyncClient", "SyncNodes", "SyncTransaction", "SyncWatch"]

T = TypeVar("T")


class SyncTransaction(SyncNodes):
    """The requests of one transaction; see `SyncClient.transaction`.

    It reads what it wrote; others see that after the commit alone. StoreAgainError
    from any request: the connection was lost meanwhile, and the transaction with it.
    """

    def __init__(self, connection: SyncConnection) -> None:
        self._connection = connection
        self._tx_id = 0
        self._epoch = -1

    def __enter__(self) -> Self:
        request = requests.transaction_start()
        payload = self._connection.request(request.type, request.payload)
        self._tx_id = request.result(payload)
        self._epoch = self._connection.epoch
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if not self._tx_id:
            return
        if kind is None:
            self._end(commit=True)
            return
        with contextlib.suppress(StoreConnectionError, StoreAgainError):
            self._end(commit=False)

    def _end(self, *, commit: bool) -> None:
        try:
            self._do(requests.transaction_end(commit=commit))
        finally:
            self._tx_id = 0

    def gather(self, asked: Iterable[Request[T]]) -> list[T | RequestError]:
        """See `SyncNodes`."""
        self._check("")
        return self._connection.gather(asked, tx_id=self._tx_id)

    def _ask(self, type_: XsWire, payload: bytes, path: str) -> bytes:
        self._check(path)
        return self._connection.request(type_, payload, path, tx_id=self._tx_id)

    def _check(self, path: str) -> None:
        if not self._tx_id:
            raise LocalError("the transaction has ended, or has yet to begin")
        if self._epoch != self._connection.epoch:
            raise StoreAgainError("EAGAIN", path)


class SyncClient(SyncNodes):
    """One connection to the server that listens at `path`; a context manager.

    StoreConnectionError if none does. After a loss, the path is tried for
    `reconnect_s` seconds, None: not at all. Then requests are sent again, watches
    registered again, and transactions get StoreAgainError, as with `client.Client`.
    """

    def __init__(
        self,
        path: str,
        *,
        reconnect_s: float | None = None,
        answer_s: float | None = None,
    ) -> None:
        self._connection = SyncConnection(lambda: _connect(path), reconnect_s, answer_s)
        self._last_token = 0

    @classmethod
    def from_socket(cls, sock: socket.socket) -> Self:
        """Use a connected stream socket; the client owns it now."""
        client = cls.__new__(cls)
        client._connection = SyncConnection(lambda: sock, None)
        client._last_token = 0
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def request(
        self, type_: XsWire, payload: bytes, path: str = "", *, tx_id: int = 0
    ) -> bytes:
        """Send one request, wait, and return its reply's payload, both as they are.

        Raises a RequestError about `path`, or StoreConnectionError.
        """
        return self._connection.request(type_, payload, path, tx_id=tx_id)

    def gather(self, asked: Iterable[Request[T]]) -> list[T | RequestError]:
        """See `SyncNodes`."""
        return self._connection.gather(asked)

    def _ask(self, type_: XsWire, payload: bytes, path: str) -> bytes:
        return self._connection.request(type_, payload, path)

    def transaction(self) -> SyncTransaction:
        """A transaction that commits at the end of its `with`, or an exception aborts.

        Raises StoreAgainError at the end if somebody changed what was used.
        """
        return SyncTransaction(self._connection)

    def transact(
        self,
        work: Callable[[SyncTransaction], T],
        *,
        attempts: int = MAX_ATTEMPTS,
        idempotent: bool = False,
    ) -> T:
        """Do `work` in a transaction, again from its start if it conflicts.

        Returns what it returned in the one that was committed. StoreAgainError after
        `attempts`, between which there are pauses that grow to 0.1 s. `idempotent`:
        done twice is as once, so do it again too if the connection was lost during
        the commit; StoreUncertainError otherwise. StoreInvalidError and
        StoreNotFoundError of `work` are raised when a few tries have come to them.
        """
        failed = torn = 0
        while True:
            try:
                with self.transaction() as transaction:
                    return work(transaction)
            except TORN:
                torn += 1
                if torn >= TORN_ATTEMPTS:
                    raise
                continue
            except (StoreAgainError, StoreUncertainError) as error:
                failed += 1
                certain = isinstance(error, StoreAgainError)
                if failed >= attempts or not (certain or idempotent):
                    raise
            time.sleep(pause_s(failed))

    def watch(
        self, path: str, *, depth: int | None = None, timeout_s: float | None = None
    ) -> "SyncWatch":
        """Changes at `path` and below, `depth` levels deep; see SyncWatch."""
        self._last_token += 1
        token = str(self._last_token)
        request = requests.watch(path, token, depth)
        return SyncWatch(self._connection, request, token, timeout_s)

    def follow(
        self, paths: Iterable[str], *, depth: int | None = None
    ) -> Iterator[str]:
        """Every event of watches on all of `paths`, as it comes and without an end.

        Unlike those of `watch`, equal ones are told each for itself, as xenstore-watch
        does. No other request may be made meanwhile; close the client to end it.
        """
        log = _EventLog()
        for path in paths:
            self._connection.subscribe(requests.watch(path, path, depth), path, log)
        while self._connection.wait_for_event(log, None):
            yield log.take()

    def wait_for(
        self, path: str, wanted: Callable[[str | None], bool], *, timeout_s: float
    ) -> str | None:
        """Watch a node until its value (None: missing) is `wanted`, and return that.

        Raises TimeoutError.
        """
        with self.watch(path, timeout_s=timeout_s) as changes:
            for _ in changes:
                value = self._value(path)
                if wanted(value):
                    return value
        raise TimeoutError(f"{path} did not become what was wanted in {timeout_s} s")

    def _value(self, path: str) -> str | None:
        try:
            return self.read(path)
        except StoreNotFoundError:
            return None

    def domain_path(self, domid: int) -> str:
        """Where a domain's nodes are."""
        return self._do(requests.domain_path(domid))

    def introduce(self, domid: int, gfn: int, port: int) -> None:
        """Let the store serve a domain's ring page, or begin anew with it.

        If the connection was lost meanwhile, a domain that the store then serves was
        introduced.
        """
        request = requests.introduce(domid, gfn, port)
        try:
            self._do(request)
        except StoreUncertainError:
            if not self.is_domain_introduced(domid):
                self._do(request)

    def release(self, domid: int) -> None:
        """Let the store forget a domain and all that it owns."""
        try:
            self._do(requests.release(domid))
        except StoreUncertainError:
            with contextlib.suppress(StoreNotFoundError):
                self._do(requests.release(domid))

    def resume(self, domid: int) -> None:
        """Tell of the domain's next shutdown again."""
        self._do(requests.resume(domid))

    def is_domain_introduced(self, domid: int) -> bool:
        """Whether the store serves the domain."""
        return self._do(requests.is_domain_introduced(domid))

    def set_target(self, domid: int, target: int) -> None:
        """Give a domain, a device model, the rights of its `target`."""
        self._do(requests.set_target(domid, target))

    def get_features(self, domid: int | None = None) -> ServerFeature:
        """What the store offers a domain, None: this client."""
        return self._do(requests.get_features(domid))

    def set_features(self, domid: int, features: ServerFeature) -> None:
        """Offer a domain these alone; StoreBusyError once it is introduced."""
        self._do(requests.set_features(domid, features))

    def quota_names(self) -> list[str]:
        """The names of all quotas."""
        return self._do(requests.quota_names())

    def get_quota(self, name: str, domid: int | None = None) -> int:
        """A quota of a domain, None: of all that have none of their own."""
        return self._do(requests.get_quota(name, domid))

    def set_quota(self, name: str, value: int, domid: int | None = None) -> None:
        """Set it; 0 is no limit. One less than `value` is what can be reached."""
        self._do(requests.set_quota(name, value, domid))

    def control(self, command: str, *parameters: str) -> str:
        """Run a command of the server (`help` lists them) and return what it says."""
        return self._do(requests.control(command, *parameters))


class _EventLog:
    """Every event, in order; whoever fills it empties it before it receives more."""

    def __init__(self) -> None:
        self._paths: deque[str] = deque()

    def __bool__(self) -> bool:
        return bool(self._paths)

    def put(self, path: str) -> None:
        self._paths.append(path)

    def take(self) -> str:
        return self._paths.popleft()


class SyncWatch:
    """The events of one watch, as an iterator of paths; a context manager.

    The first event comes at once; equal ones that nobody has taken are one, and when
    1024 different ones wait they all become the watched path. The iteration ends
    `timeout_s` after the watch was made, or never. Other requests may be made
    meanwhile.
    """

    def __init__(
        self,
        connection: SyncConnection,
        request: Request[None],
        token: str,
        timeout_s: float | None,
    ) -> None:
        self._connection = connection
        self._request = request
        self._token = token
        self._queue = EventQueue(request.path)
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s

    def __enter__(self) -> Self:
        self._connection.subscribe(self._request, self._token, self._queue)
        return self

    def __exit__(self, *exc: object) -> None:
        self._connection.unsubscribe(self._token)

    def __iter__(self) -> Iterator[str]:
        while self._connection.wait_for_event(self._queue, self._deadline):
            yield self._queue.take()


def _connect(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        raise StoreConnectionError(
            f"cannot reach the store at {path}", cause=error.strerror or str(error)
        ) from error
    return sock
