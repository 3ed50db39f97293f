"""Transactions of the asynchronous client: one, or as many as it takes."""

import asyncio
from types import TracebackType
from typing import Self

from xenvirt.abi.xs_wire import XsWire
from xenvirt.errors import LocalError
from xenvirt.xenstore import requests
from xenvirt.xenstore.errors import (
    RequestError,
    StoreAgainError,
    StoreUncertainError,
)
from xenvirt.xenstore.nodes import Nodes
from xenvirt.xenstore.retries import TORN_ATTEMPTS, pause_s
from xenvirt.xenstore.session import Session


class Transaction(Nodes):
    """The requests of one transaction; see `Client.transaction`.

    It reads what it wrote; others see that after the commit alone. StoreAgainError
    from any request: the connection was lost meanwhile, and the transaction with it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tx_id = 0
        self._epoch = -1

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            await self.commit()
        else:
            self.abort()

    async def start(self) -> None:
        """Begin it; the context manager does."""
        self._tx_id, self._epoch = await self._session.start_transaction()

    async def commit(self) -> None:
        """End it; StoreAgainError if nothing was done because of a conflict."""
        request = requests.transaction_end(commit=True)
        try:
            await self._ask(request.type, request.payload, "")
        finally:
            self._tx_id = 0

    def abort(self) -> None:
        """End it with nothing done; nothing is waited for."""
        if self._tx_id and self._epoch == self._session.epoch:
            request = requests.transaction_end(commit=False)
            self._session.ask_once(request, tx_id=self._tx_id)
        self._tx_id = 0

    async def _ask(self, type_: XsWire, payload: bytes, path: str) -> bytes:
        if not self._tx_id:
            raise LocalError("the transaction has ended, or has yet to begin")
        if self._epoch != self._session.epoch:
            raise StoreAgainError("EAGAIN", path)
        return await self._session.request(type_, payload, path, self._tx_id)


class Attempts:
    """Transactions, one after the other, until one is committed.

        async with client.transactions() as attempts:
            async for tx in attempts:
                value = int(await tx.read("count"))
                await tx.write("count", str(value + 1))

    A transaction commits when the body of the loop comes to its end; if it conflicted,
    the body runs again with the next one. Leaving the loop in any other way (an
    exception, break, return) aborts. StoreAgainError once all attempts have conflicted.
    """

    def __init__(self, session: Session, attempts: int, *, idempotent: bool) -> None:
        self._session = session
        self._attempts = attempts
        self._idempotent = idempotent
        self._failed = 0
        self._torn = 0
        self._transaction: Transaction | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._abort()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Transaction:
        if self._transaction is not None and await self._commit(self._transaction):
            raise StopAsyncIteration
        if self._failed:
            await asyncio.sleep(pause_s(self._failed))
        self._transaction = Transaction(self._session)
        await self._transaction.start()
        return self._transaction

    def conflict(self, error: StoreAgainError | StoreUncertainError) -> None:
        """Count an attempt that failed; raises the error if it was the last one."""
        self._abort()
        self._failed += 1
        if self._failed >= self._attempts:
            raise error

    def torn(self, error: RequestError) -> None:
        """Count one that may have seen others' changes; raises after the last one."""
        self._abort()
        self._torn += 1
        if self._torn >= TORN_ATTEMPTS:
            raise error

    def _abort(self) -> None:
        if self._transaction is not None:
            self._transaction.abort()
            self._transaction = None

    async def _commit(self, transaction: Transaction) -> bool:
        self._transaction = None
        try:
            await transaction.commit()
        except StoreAgainError as error:
            self.conflict(error)
        except StoreUncertainError as error:
            if not self._idempotent:
                raise
            self.conflict(error)
        else:
            return True
        return False
