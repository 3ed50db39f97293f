"""The store as a machine without I/O: requests in, replies and events out.

A transport calls `connect`, feeds `handle`, and sends what `Connection.take` gives it
whenever the connection's `wake` was called. Which function serves which message is
one table, `_TABLE`, as xenstored's `wire_funcs` is.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from xenvirt.abi.ids import DOM0, DomId
from xenvirt.abi.xs_wire import XENSTORE_PAYLOAD_MAX, XsWire
from xenvirt.errors import StoreError
from xenvirt.xenstore import (
    control,
    domain_requests,
    node_requests,
    session_requests,
)
from xenvirt.xenstore.connection import Connection
from xenvirt.xenstore.domains import Domains, DomainTable
from xenvirt.xenstore.framing import Message, encode
from xenvirt.xenstore.quota import Quotas
from xenvirt.xenstore.store import RELEASE_DOMAIN, Node, Store, Tree
from xenvirt.xenstore.transaction import Transaction
from xenvirt.xenstore.watch import Change, Watches

log = logging.getLogger(__name__)


class Engine:
    """One store and everybody who is connected to it. Not thread-safe, never blocks."""

    def __init__(self, domains: Domains, quotas: Quotas | None = None) -> None:
        self.store = Store()
        self.watches = Watches(self.store)
        self.domains = DomainTable(domains, quotas or Quotas())
        self.connections: dict[Connection, None] = {}
        self.listings = node_requests.ListingCache()
        self._woken: list[Connection] = []

    def connect(self, domid: int, *, privileged: bool | None = None) -> Connection:
        """A new client that speaks as `domid`; dom0 is privileged unless told."""
        conn = Connection(
            domid,
            privileged=domid == DOM0 if privileged is None else privileged,
            account=self.domains.account(domid),
            woken=self._woken,
        )
        conn.target = self.domains.targets.get(domid)
        self.connections[conn] = None
        return conn

    def disconnect(self, conn: Connection) -> None:
        """Forget a client, its watches and its transactions. May be repeated."""
        if self.connections.pop(conn, self) is self:
            return
        session_requests.drop_all(self, conn)
        conn.drop()
        self._wake()

    def handle(self, conn: Connection, message: Message) -> None:
        """Serve one request; its reply is queued before the events that it caused."""
        if not conn.alive:
            return
        position = len(conn.outbox)
        type_, req_id, tx_id, payload = message
        try:
            reply = self._dispatch(conn, type_, tx_id, payload)
        except StoreError as error:
            type_ = XsWire.ERROR
            reply = error.errno_name.encode() + b"\0"
        conn.post(position, encode(type_, req_id, tx_id, reply))
        self._wake()

    def _dispatch(
        self, conn: Connection, type_: int, tx_id: int, payload: bytes
    ) -> bytes:
        row = _TABLE.get(type_)
        if row is None:
            raise StoreError("ENOSYS")
        if row.privileged and not conn.privileged:
            raise StoreError("EACCES")
        tree: Tree = self.store
        if tx_id and row.in_transaction:
            transaction = conn.transactions.get(tx_id)
            if transaction is None:
                raise StoreError("ENOENT")
            tree = transaction
        reply = row.handler(self, conn, tree, payload)
        if len(reply) > XENSTORE_PAYLOAD_MAX:
            raise StoreError("E2BIG")
        return reply

    def changed(self, tree: Tree, change: Change) -> None:
        """Tell the watches, now or when the transaction commits."""
        if isinstance(tree, Transaction):
            tree.note(change)
        else:
            self.watches.fire(change)

    def removed(self, tree: Tree, nodes: Iterable[tuple[str, Node]]) -> None:
        """Tell the watches that a subtree, its top first, is gone."""
        perms_of = {}
        for path, node in nodes:
            perms_of[path] = node.perms
            above = perms_of.get(path[: path.rfind("/")])
            lists = (node.perms,) if above is None else (node.perms, above)
            self.changed(tree, Change(path, lists, exact=above is not None))

    def domain_dead(self, domid: DomId) -> None:
        """A domain is gone: so are its clients, nodes and rights; `@releaseDomain`."""
        for conn in [c for c in self.connections if c.domid == domid]:
            self.disconnect(conn)
        for path in self.store.owned_tops(domid):
            self.removed(self.store, self.store.remove(path))
        self.store.forget_domain(domid)
        for conn in self.connections:
            conn.forget_domain(domid)
        if self.domains.forget(domid):
            self.fire_special(RELEASE_DOMAIN, domid)
        self._wake()

    def fire_special(self, name: str, domid: int) -> None:
        """Tell the watches on `@introduceDomain` or `@releaseDomain`."""
        self.watches.fire_special(name, domid, self.store.node(name).perms)

    def _wake(self) -> None:
        while self._woken:
            conn = self._woken.pop()
            if conn.alive and conn.overrun:
                log.warning(
                    "XenStore: domain %d does not read its watch events, disconnected",
                    conn.domid,
                )
                self.disconnect(conn)
            else:
                conn.wake()


Handler = Callable[[Engine, Connection, Tree, bytes], bytes]


class Row(NamedTuple):
    """How one message type is served; `in_transaction`: its tx_id is looked at."""

    handler: Handler
    privileged: bool = False
    in_transaction: bool = True


_TABLE: Final[dict[int, Row]] = {
    int(type_): row
    for type_, row in {
        XsWire.CONTROL: Row(control.control, privileged=True),
        XsWire.DIRECTORY: Row(node_requests.directory),
        XsWire.READ: Row(node_requests.read),
        XsWire.GET_PERMS: Row(node_requests.get_perms),
        XsWire.WATCH: Row(session_requests.watch, in_transaction=False),
        XsWire.UNWATCH: Row(session_requests.unwatch, in_transaction=False),
        XsWire.TRANSACTION_START: Row(session_requests.transaction_start),
        XsWire.TRANSACTION_END: Row(session_requests.transaction_end),
        XsWire.INTRODUCE: Row(domain_requests.introduce, privileged=True),
        XsWire.RELEASE: Row(domain_requests.release, privileged=True),
        XsWire.GET_DOMAIN_PATH: Row(domain_requests.get_domain_path),
        XsWire.WRITE: Row(node_requests.write),
        XsWire.MKDIR: Row(node_requests.mkdir),
        XsWire.RM: Row(node_requests.rm),
        XsWire.SET_PERMS: Row(node_requests.set_perms),
        XsWire.IS_DOMAIN_INTRODUCED: Row(
            domain_requests.is_domain_introduced, privileged=True
        ),
        XsWire.RESUME: Row(domain_requests.resume, privileged=True),
        XsWire.SET_TARGET: Row(domain_requests.set_target, privileged=True),
        XsWire.RESET_WATCHES: Row(session_requests.reset_watches),
        XsWire.DIRECTORY_PART: Row(node_requests.directory_part),
        XsWire.GET_FEATURE: Row(domain_requests.get_feature),
        XsWire.SET_FEATURE: Row(domain_requests.set_feature, privileged=True),
        XsWire.GET_QUOTA: Row(domain_requests.get_quota, privileged=True),
        XsWire.SET_QUOTA: Row(domain_requests.set_quota, privileged=True),
    }.items()
}
