"""The requests on what a connection holds: its watches and its transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xenvirt.abi.xs_wire import ServerFeature
from xenvirt.errors import StoreError
from xenvirt.xenstore import path as paths
from xenvirt.xenstore.arguments import number, strings, text
from xenvirt.xenstore.node_requests import OK, node_path
from xenvirt.xenstore.quota import exceeds
from xenvirt.xenstore.transaction import Transaction
from xenvirt.xenstore.watch import Watch

if TYPE_CHECKING:
    from xenvirt.xenstore.connection import Connection
    from xenvirt.xenstore.engine import Engine
    from xenvirt.xenstore.store import Tree


def watch(engine: Engine, conn: Connection, tree: Tree, payload: bytes) -> bytes:
    """WATCH: report changes from now on; one event comes at once."""
    has_depth = ServerFeature.WATCH_DEPTH in engine.domains.features(conn.domid)
    sent, token, *depth = strings(payload, 2, 3 if has_depth else 2)
    wanted = text(sent)
    path = node_path(conn, wanted, special=True)
    if (path, token) in conn.watches:
        raise StoreError("EEXIST")
    if not conn.privileged and exceeds(
        conn.account.watches + 1, conn.account.quotas.watches
    ):
        raise StoreError("ENOSPC")
    new = Watch(
        conn,
        path,
        token,
        skip=len(path) - len(wanted) if paths.is_relative(wanted) else 0,
        depth=number(depth[0], 1 << 31) if depth else None,
    )
    conn.watches[path, token] = new
    conn.account.watches += 1
    engine.watches.add(new)
    new.report(path)
    return OK


def unwatch(engine: Engine, conn: Connection, tree: Tree, payload: bytes) -> bytes:
    """UNWATCH: end the watch that was set with this path and token."""
    sent, token = strings(payload, 2, 2)
    path = node_path(conn, text(sent), special=True)
    old = conn.watches.pop((path, token), None)
    if old is None:
        raise StoreError("ENOENT")
    conn.account.watches -= 1
    engine.watches.remove(old)
    return OK


def transaction_start(
    engine: Engine, conn: Connection, tree: Tree, payload: bytes
) -> bytes:
    """TRANSACTION_START: the new transaction's id, which is never 0."""
    if tree is not engine.store:
        raise StoreError("EBUSY")
    quotas = conn.account.quotas
    if not conn.privileged and exceeds(
        conn.account.transactions + 1, quotas.transactions
    ):
        raise StoreError("ENOSPC")
    tx_id = conn.next_tx_id()
    conn.transactions[tx_id] = Transaction(
        tx_id, engine.store, 0 if conn.privileged else quotas.transaction_nodes
    )
    conn.account.transactions += 1
    return b"%d\0" % tx_id


def transaction_end(
    engine: Engine, conn: Connection, tree: Tree, payload: bytes
) -> bytes:
    """TRANSACTION_END: `T` commits, or fails with EAGAIN; `F` drops everything."""
    if payload not in (b"T\0", b"F\0"):
        raise StoreError("EINVAL")
    if not isinstance(tree, Transaction):
        raise StoreError("ENOENT")
    del conn.transactions[tree.tx_id]
    conn.account.transactions -= 1
    if payload == b"T\0":
        _check_nodes(conn, tree)
        tree.commit()
        for change in tree.changes.values():
            engine.watches.fire(change)
    return OK


def reset_watches(
    engine: Engine, conn: Connection, tree: Tree, payload: bytes
) -> bytes:
    """RESET_WATCHES: as if the client had just connected."""
    drop_all(engine, conn)
    return OK


def drop_all(engine: Engine, conn: Connection) -> None:
    """End every watch and every transaction of the connection."""
    for old in conn.watches.values():
        engine.watches.remove(old)
    conn.account.watches -= len(conn.watches)
    conn.watches.clear()
    conn.account.transactions -= len(conn.transactions)
    conn.transactions.clear()


def _check_nodes(conn: Connection, transaction: Transaction) -> None:
    """Other transactions may have used up the quota since the nodes were created."""
    nodes = transaction.owned_by(conn.domid)
    if (
        not conn.privileged
        and nodes > transaction.store.owned_by(conn.domid)
        and exceeds(nodes, conn.account.quotas.nodes)
    ):
        raise StoreError("ENOSPC")
