"""An asynchronous client of XenStore, over a Unix socket or a domain's ring page.

    async with await Client.connect_unix("/run/xenstored/socket") as store:
        await store.write("/tool/hello", "world")
        print(await store.read("/tool/hello"))

        async with store.transaction() as tx:  # StoreAgainError at the end of
            await tx.write("/tool/a", "1")     # the block if somebody interfered

        async def increment(tx: Transaction) -> int:
            value = int(await tx.read("/tool/a")) + 1
            await tx.write("/tool/a", str(value))
            return value

        print(await store.transact(increment))  # again until nobody interferes

        async with store.watch("/tool", depth=1) as events:
            async for path in events:
                print(path)                     # "/tool" itself at first
                break

A request that is refused raises a `RequestError`, a subclass for each error of the
protocol; `xenvirt.xenstore.errors` has them all. Without a store it is a
`StoreConnectionError`. Any number of requests may be in flight: `asyncio.gather`
sends them without waiting. Every method may be cancelled, and leaves nothing behind
in the store.

docs/xenstore-client.md shows all of it; `sync_client` is the same without a loop.
"""

import contextlib
import socket
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar

from xenvirt.abi.xs_wire import ServerFeature, XsWire
from xenvirt.xenstore import payloads, requests
from xenvirt.xenstore.device_client import device_opener
from xenvirt.xenstore.errors import (
    StoreAgainError,
    StoreNotFoundError,
    StoreUncertainError,
)
from xenvirt.xenstore.nodes import Nodes
from xenvirt.xenstore.retries import MAX_ATTEMPTS, TORN
from xenvirt.xenstore.ring_client import Channel, RingPage, ring_opener, ring_reopener
from xenvirt.xenstore.session import Session
from xenvirt.xenstore.subscription import Watch
from xenvirt.xenstore.transactions import Attempts, Transaction
from xenvirt.xenstore.transports import Opener, path_opener, patient, socket_opener

__all__ = ["Attempts", "Client", "Nodes", "Transaction", "Watch"]

T = TypeVar("T")


class Client(Nodes):
    """One connection to the store; close it, or use it in `async with`.

    Made by one of `connect_unix`, `connect_socket`, `connect_ring`. With their way to
    reconnect, a loss of the connection is survived: requests wait and are sent again,
    watches are registered again and give their first event once more, transactions
    get StoreAgainError, and what may have been done but must not be done twice (a
    commit, CONTROL) gets StoreUncertainError.
    """

    def __init__(self) -> None:
        self._session = Session(
            on_event=self._event, on_reopened=self._watch_again, on_end=self._wake
        )
        self._watches: dict[str, Watch] = {}
        self._last_token = 0

    @classmethod
    async def connect_unix(cls, path: str, *, reconnect_s: float | None = None) -> Self:
        """Connect to the server that listens at `path`; raises StoreConnectionError.

        After a loss the path is tried for `reconnect_s` seconds; None: not at all.
        """
        opener = path_opener(path)
        reopen = None if reconnect_s is None else patient(opener, reconnect_s)
        return await cls._open(opener, reopen)

    @classmethod
    async def connect_socket(
        cls,
        sock: socket.socket,
        *,
        reconnect: Callable[[], Awaitable[socket.socket]] | None = None,
    ) -> Self:
        """Use a connected stream socket; the client owns it now.

        After a loss `reconnect` is awaited for another one. It may take its time; what
        it raises ends the client.
        """

        async def connected() -> socket.socket:
            return sock

        reopen = None if reconnect is None else socket_opener(reconnect)
        return await cls._open(socket_opener(connected), reopen)

    @classmethod
    async def connect_device(cls, path: str) -> Self:
        """Use the kernel's device, /dev/xen/xenbus, as the domain that it runs in.

        Raises StoreConnectionError.
        """
        return await cls._open(device_opener(path), None)

    @classmethod
    async def connect_ring(
        cls,
        page: RingPage,
        channel: Channel,
        *,
        reconnect: Callable[[], Awaitable[Channel]] | None = None,
    ) -> Self:
        """Use the domain's own end of its ring; page and channel stay the caller's.

        After a loss (the store gave up the ring, or `reconnect()`) `reconnect` is
        awaited for the channel to go on with, a new one or the same, and the store
        is asked to begin anew with the page. What it raises ends the client, and so
        does a store that does not offer ring reconnection.
        """
        reopen = None if reconnect is None else ring_reopener(page, reconnect)
        return await cls._open(ring_opener(page, channel), reopen)

    @classmethod
    async def _open(cls, opener: Opener, reopen: Opener | None) -> Self:
        client = cls()
        await client._session.open(opener, reopen)
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; every waiter gets StoreConnectionError."""
        self._session.close()

    def reconnect(self) -> None:
        """Give up the connection for a new one, as after a loss.

        For who learns by other means that the store is gone: a ring does not tell.
        Nothing happens while a new one is being made. LocalError if the client was
        made without a way to reconnect.
        """
        self._session.reconnect()

    def check(self) -> None:
        """Raise StoreConnectionError if the connection is lost for good."""
        self._session.check()

    async def request(
        self, type_: XsWire, payload: bytes, path: str = "", *, tx_id: int = 0
    ) -> bytes:
        """Send one request and return its reply's payload, both as they are.

        Raises a RequestError about `path`, or StoreConnectionError.
        """
        return await self._session.request(type_, payload, path, tx_id)

    async def _ask(self, type_: XsWire, payload: bytes, path: str) -> bytes:
        return await self._session.request(type_, payload, path)

    def watch(self, path: str, *, depth: int | None = None) -> Watch:
        """Changes at `path` and below, `depth` levels deep; a special name also.

        StoreInvalidError for a depth, if the store does not know it.
        """
        self._last_token += 1
        return Watch(self._session, self._watches, path, str(self._last_token), depth)

    async def reset_watches(self) -> None:
        """Drop this connection's watches, whose iterations end, and transactions."""
        watches = list(self._watches.values())
        await self._do(requests.reset_watches())
        for watch in watches:
            watch.end()

    def transaction(self) -> Transaction:
        """A transaction that commits at the end of its `async with`.

        An exception aborts it. Raises StoreAgainError at the end if somebody changed
        what was used.
        """
        return Transaction(self._session)

    def transactions(
        self, *, attempts: int = MAX_ATTEMPTS, idempotent: bool = False
    ) -> Attempts:
        """Transactions, one after the other, until one commits; see `Attempts`.

        With `idempotent`, a commit that may have been done is tried again as well.
        """
        return Attempts(self._session, attempts, idempotent=idempotent)

    async def transact(
        self,
        work: Callable[[Transaction], Awaitable[T]],
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
        async with self.transactions(attempts=attempts, idempotent=idempotent) as tries:
            async for transaction in tries:
                try:
                    result = await work(transaction)
                except StoreAgainError as error:
                    tries.conflict(error)
                except TORN as error:
                    tries.torn(error)
        return result

    async def domain_path(self, domid: int) -> str:
        """Where a domain's nodes are."""
        return await self._do(requests.domain_path(domid))

    async def introduce(self, domid: int, gfn: int, port: int) -> None:
        """Let the store serve a domain's ring page, or begin anew with it.

        If the connection was lost meanwhile, a domain that the store then serves was
        introduced.
        """
        request = requests.introduce(domid, gfn, port)
        try:
            await self._do(request)
        except StoreUncertainError:
            if not await self.is_domain_introduced(domid):
                await self._do(request)

    async def release(self, domid: int) -> None:
        """Let the store forget a domain and all that it owns."""
        try:
            await self._do(requests.release(domid))
        except StoreUncertainError:
            with contextlib.suppress(StoreNotFoundError):
                await self._do(requests.release(domid))

    async def resume(self, domid: int) -> None:
        """Tell of the domain's next shutdown again."""
        await self._do(requests.resume(domid))

    async def is_domain_introduced(self, domid: int) -> bool:
        """Whether the store serves the domain."""
        return await self._do(requests.is_domain_introduced(domid))

    async def set_target(self, domid: int, target: int) -> None:
        """Give a domain, a device model, the rights of its `target`."""
        await self._do(requests.set_target(domid, target))

    async def get_features(self, domid: int | None = None) -> ServerFeature:
        """What the store offers a domain, None: this client."""
        return await self._do(requests.get_features(domid))

    async def set_features(self, domid: int, features: ServerFeature) -> None:
        """Offer a domain these alone; StoreBusyError once it is introduced."""
        await self._do(requests.set_features(domid, features))

    async def quota_names(self) -> list[str]:
        """The names of all quotas."""
        return await self._do(requests.quota_names())

    async def get_quota(self, name: str, domid: int | None = None) -> int:
        """A quota of a domain, None: of all that have none of their own."""
        return await self._do(requests.get_quota(name, domid))

    async def set_quota(self, name: str, value: int, domid: int | None = None) -> None:
        """Set it; 0 is no limit. One less than `value` is what can be reached."""
        await self._do(requests.set_quota(name, value, domid))

    async def control(self, command: str, *parameters: str) -> str:
        """Run a command of the server (`help` lists them) and return what it says."""
        return await self._do(requests.control(command, *parameters))

    def _event(self, payload: bytes) -> None:
        path, token = payloads.parse_event(payload)
        watch = self._watches.get(token)
        if watch is not None:
            watch.put(path)

    def _watch_again(self) -> None:
        for watch in self._watches.values():
            watch.register_again()

    def _wake(self) -> None:
        for watch in self._watches.values():
            watch.wake()
