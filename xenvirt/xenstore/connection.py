"""One client of the store: what it holds, and what waits to be sent to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xenvirt.abi.xs_wire import XENSTORE_PAYLOAD_MAX, XsWire
from xenvirt.xenstore.framing import encode
from xenvirt.xenstore.perms import READ, Perms, rights

if TYPE_CHECKING:
    from collections.abc import Callable

    from xenvirt.xenstore.quota import Account
    from xenvirt.xenstore.transaction import Transaction
    from xenvirt.xenstore.watch import Watch

PRIVILEGED_OUTBOX_MAX: Final = 32 * 1024 * 1024
"""Bytes; a dom0 client that leaves this much unread is disconnected (XSA-326)."""


def _do_nothing() -> None:
    pass


class Connection:
    """State of one client.

    `wake` is called when there is something to `take`, and once when the engine has
    dropped the connection (`alive` is then false): the transport closes.
    """

    def __init__(
        self,
        domid: int,
        *,
        privileged: bool,
        account: Account,
        woken: list[Connection],
    ) -> None:
        self.domid = domid
        self.privileged = privileged
        self.account = account
        self.target: int | None = None
        self.alive = True
        self.wake: Callable[[], None] = _do_nothing
        self.outbox: list[bytes] = []
        self.watches: dict[tuple[str, bytes], Watch] = {}
        self.transactions: dict[int, Transaction] = {}
        self._last_tx_id = 0
        self._woken = woken
        self._unread = 0
        self._pending_events: set[bytes] = set()

    def may_read(self, perms: Perms) -> bool:
        """Whether the list lets this client read."""
        return self.privileged or bool(rights(perms, self.domid, self.target) & READ)

    def post_event(self, path: str, token: bytes) -> None:
        """Queue a WATCH_EVENT, unless the same one still waits there.

        One that does not fit into a message is dropped (XSA-324). Special events are
        never merged: two domains may have gone.
        """
        payload = b"%b\0%b\0" % (path.encode(), token)
        if len(payload) > XENSTORE_PAYLOAD_MAX:
            return
        if not path.startswith("@"):
            if payload in self._pending_events:
                return
            self._pending_events.add(payload)
        self.post(len(self.outbox), encode(XsWire.WATCH_EVENT, 0, 0, payload))
        if self.overrun:
            self._woken.append(self)

    def post(self, position: int, data: bytes) -> None:
        """Queue a message before the `position`th one that waits."""
        if not self.outbox:
            self._woken.append(self)
        self.outbox.insert(position, data)
        self._unread += len(data)

    @property
    def overrun(self) -> bool:
        """Whether the client has left more unread than it may."""
        limit = PRIVILEGED_OUTBOX_MAX if self.privileged else self.account.quotas.memory
        return 0 < limit < self._unread

    def take(self) -> list[bytes]:
        """Everything that waits, in order; the transport owns it now."""
        taken, self.outbox = self.outbox, []
        self._unread = 0
        self._pending_events.clear()
        return taken

    def drop(self) -> None:
        """Let the transport close."""
        self.alive = False
        self._woken.append(self)

    def next_tx_id(self) -> int:
        """An id that none of the open transactions has; 32 bits, never 0."""
        while True:
            self._last_tx_id = self._last_tx_id % 0xFFFFFFFF + 1
            if self._last_tx_id not in self.transactions:
                return self._last_tx_id

    def forget_domain(self, domid: int) -> None:
        """Another domain died: its rights do not go to who gets its domid next."""
        if self.target == domid:
            self.target = None
        for transaction in self.transactions.values():
            transaction.forget_domain(domid)
