"""A blocking client of the store, for commands: no event loop, quick to import."""

import contextlib
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Final, Self, TypeVar

from xenvirt.abi.xs_wire import XENSTORE_PAYLOAD_MAX, XsWire
from xenvirt.xenstore import payloads
from xenvirt.xenstore.errors import (
    StoreAgainError,
    StoreConnectionError,
    StoreNotFoundError,
    StoreTooBigError,
    request_error,
)
from xenvirt.xenstore.framing import Message, MessageDecoder, encode
from xenvirt.xenstore.payloads import PartialListing, Value
from xenvirt.xenstore.perms import Perm, Perms

T = TypeVar("T")

_CHUNK: Final = 65536
_REQ_ID: Final = 0


class SyncNodes:
    """The requests on nodes: directly (`SyncClient`) or in a `SyncTransaction`.

    Every method raises a RequestError with the path, or StoreConnectionError.
    """

    def _ask(self, type_: XsWire, payload: bytes, path: str) -> bytes:
        raise NotImplementedError

    def read(self, path: str) -> str:
        """The value as text; see `payloads.text` for bytes that are not UTF-8."""
        return payloads.text(self.read_bytes(path))

    def read_bytes(self, path: str) -> bytes:
        """The value."""
        return self._ask(XsWire.READ, payloads.strings(path), path)

    def write(self, pairs: Mapping[str, Value]) -> None:
        """Set the value of each path, in order; missing nodes are made."""
        for path, value in pairs.items():
            self._ask(XsWire.WRITE, payloads.write(path, value), path)

    def mkdir(self, path: str) -> None:
        """Make the node if it is missing."""
        self._ask(XsWire.MKDIR, payloads.strings(path), path)

    def rm(self, path: str) -> None:
        """Remove the node and all below it; it may be missing if its parent is not."""
        self._ask(XsWire.RM, payloads.strings(path), path)

    def ls(self, path: str) -> list[str]:
        """The children's names, oldest first, however many there are."""
        try:
            reply = self._ask(XsWire.DIRECTORY, payloads.strings(path), path)
        except StoreTooBigError:
            return self._ls_in_parts(path)
        return payloads.parse_strings(reply)

    def _ls_in_parts(self, path: str) -> list[str]:
        listing = PartialListing()
        while True:
            payload = payloads.strings(path, listing.offset)
            if listing.add(self._ask(XsWire.DIRECTORY_PART, payload, path)):
                return listing.children()

    def exists(self, path: str) -> bool:
        """Whether there is such a node."""
        try:
            self.read_bytes(path)
        except StoreNotFoundError:
            return False
        return True

    def get_perms(self, path: str) -> Perms:
        """The permission list, the owner's entry first."""
        reply = self._ask(XsWire.GET_PERMS, payloads.strings(path), path)
        return payloads.parse_perms(reply)

    def set_perms(self, path: str, perms: Iterable[Perm | str]) -> None:
        """Replace the permission list; entries may be given as `"n5"`."""
        self._ask(XsWire.SET_PERMS, payloads.set_perms(path, perms), path)


class SyncTransaction(SyncNodes):
    """The requests of one transaction; made by `SyncClient.transaction`."""

    def __init__(self, client: "SyncClient", tx_id: int) -> None:
        self._client = client
        self._tx_id = tx_id

    def _ask(self, type_: XsWire, payload: bytes, path: str) -> bytes:
        return self._client.request(type_, payload, path, tx_id=self._tx_id)

    def end(self, *, commit: bool) -> None:
        """Commit or abort; only `SyncClient.transaction` calls this."""
        answer = payloads.strings("T" if commit else "F")
        self._ask(XsWire.TRANSACTION_END, answer, "")


class SyncClient(SyncNodes):
    """One connection to the server that listens at `path`; a context manager."""

    def __init__(self, path: str) -> None:
        self._decoder = MessageDecoder()
        self._replies: deque[Message] = deque()
        self._events: dict[tuple[str, str], None] = {}
        self._last_token = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise StoreConnectionError(
                f"cannot reach the store at {path}", cause=error.strerror or ""
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def _ask(self, type_: XsWire, payload: bytes, path: str) -> bytes:
        return self.request(type_, payload, path)

    def request(
        self, type_: XsWire, payload: bytes, path: str = "", *, tx_id: int = 0
    ) -> bytes:
        """Send one request, wait, and return its reply's payload.

        Raises a RequestError about `path`, or StoreConnectionError.
        """
        if len(payload) > XENSTORE_PAYLOAD_MAX:
            raise StoreTooBigError("E2BIG", path)
        try:
            self._socket.sendall(encode(type_, _REQ_ID, tx_id, payload))
        except OSError as error:
            raise _connection_error(error.strerror or "") from error
        while not self._replies:
            self._receive()
        reply = self._replies.popleft()
        if reply.type == XsWire.ERROR:
            raise request_error(reply.payload, path)
        return reply.payload

    @contextlib.contextmanager
    def transaction(self) -> Iterator[SyncTransaction]:
        """A transaction that commits at the end of the block, or an exception aborts.

        Raises StoreAgainError at the end if somebody changed what was used.
        """
        reply = self.request(XsWire.TRANSACTION_START, b"\0")
        transaction = SyncTransaction(self, int(reply.rstrip(b"\0")))
        try:
            yield transaction
        except BaseException:
            with contextlib.suppress(StoreConnectionError):
                transaction.end(commit=False)
            raise
        transaction.end(commit=True)

    def transact(self, work: Callable[[SyncTransaction], T]) -> T:
        """Do `work` in a transaction, again from its start as often as it conflicts."""
        while True:
            try:
                with self.transaction() as transaction:
                    return work(transaction)
            except StoreAgainError:
                continue

    def watch(self, path: str, *, timeout_s: float | None = None) -> "SyncWatch":
        """Changes at `path` and below; see SyncWatch."""
        self._last_token += 1
        return SyncWatch(self, path, str(self._last_token), timeout_s)

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

    def next_event(self, token: str, deadline: float | None) -> str | None:
        """The path of the watch's next event; None if `deadline` (monotonic) passes."""
        while True:
            for event in self._events:
                if event[1] == token:
                    del self._events[event]
                    return event[0]
            if deadline is not None and time.monotonic() >= deadline:
                return None
            if not self._receive(deadline):
                return None

    def forget_events(self, token: str) -> None:
        """Drop the events of a watch that was taken back."""
        self._events = {e: None for e in self._events if e[1] != token}

    def _value(self, path: str) -> str | None:
        try:
            return self.read(path)
        except StoreNotFoundError:
            return None

    def _receive(self, deadline: float | None = None) -> bool:
        """Wait for input; False if the monotonic `deadline` passes."""
        if deadline is not None:
            self._socket.settimeout(max(0, deadline - time.monotonic()))
        try:
            data = self._socket.recv(_CHUNK)
        except (TimeoutError, BlockingIOError):
            return False
        except OSError as error:
            raise _connection_error(error.strerror or "") from error
        finally:
            self._socket.settimeout(None)
        if not data:
            raise _connection_error("closed by the store")
        for message in self._decoder.feed(data):
            if message.type == XsWire.WATCH_EVENT:
                self._events[payloads.parse_event(message.payload)] = None
            else:
                self._replies.append(message)
        return True


class SyncWatch:
    """The events of one watch, as an iterator of paths; a context manager.

    The first event comes at once; equal ones that nobody has taken are one. The
    iteration ends `timeout_s` after the watch was made, or never. Other requests may
    be made meanwhile.
    """

    def __init__(
        self, client: SyncClient, path: str, token: str, timeout_s: float | None
    ) -> None:
        self._client = client
        self._path = path
        self._token = token
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s

    def __enter__(self) -> Self:
        arguments = payloads.strings(self._path, self._token)
        self._client.request(XsWire.WATCH, arguments, self._path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        arguments = payloads.strings(self._path, self._token)
        with contextlib.suppress(StoreConnectionError, StoreNotFoundError):
            self._client.request(XsWire.UNWATCH, arguments, self._path)
        self._client.forget_events(self._token)

    def __iter__(self) -> Iterator[str]:
        while True:
            path = self._client.next_event(self._token, self._deadline)
            if path is None:
                return
            yield path


def _connection_error(cause: str) -> StoreConnectionError:
    return StoreConnectionError("no connection to the store", cause=cause)
