"""The requests on nodes: what each needs, checks and changes.

A handler gets the engine, who asks, the tree to work on (the store or a transaction)
and the payload; it returns the reply's payload or raises StoreError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xenvirt.abi.xs_wire import XENSTORE_PAYLOAD_MAX
from xenvirt.errors import StoreError
from xenvirt.xenstore import path as paths
from xenvirt.xenstore.arguments import number, one_string, strings, text
from xenvirt.xenstore.perms import (
    OWN,
    READ,
    WRITE,
    Perms,
    inherited,
    parse_perm,
    rights,
)
from xenvirt.xenstore.quota import exceeds
from xenvirt.xenstore.watch import Change

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xenvirt.xenstore.connection import Connection
    from xenvirt.xenstore.engine import Engine
    from xenvirt.xenstore.store import Node, Tree

OK: Final = b"OK\0"

_NODE_HEADER_SIZE: Final = 16
_NODE_PERM_SIZE: Final = 8


def node_path(conn: Connection, sent: str, *, special: bool = False) -> str:
    """The canonical path; raises StoreError EINVAL, also above the length quota."""
    canonical = paths.canonical_or_special if special else paths.canonical
    path = canonical(sent, conn.domid)
    if not conn.privileged and exceeds(
        paths.quota_length(path), conn.account.quotas.path_max
    ):
        raise StoreError("EINVAL")
    return path


def read(engine: Engine, conn: Connection, tree: Tree, payload: bytes) -> bytes:
    """READ: the value as it was written."""
    path = node_path(conn, one_string(payload))
    return _existing(conn, tree, path, READ).value


def directory(engine: Engine, conn: Connection, tree: Tree, payload: bytes) -> bytes:
    """DIRECTORY: the children's names, oldest first; too many are E2BIG."""
    path = node_path(conn, one_string(payload))
    return _listing(_existing(conn, tree, path, READ))


def directory_part(
    engine: Engine, conn: Connection, tree: Tree, payload: bytes
) -> bytes:
    """DIRECTORY_PART: as many whole names from a byte offset on as fit.

    The generation comes first, so that the client sees a change between two parts; an
    empty name ends the last part.
    """
    sent, offset = strings(payload, 2, 2)
    path = node_path(conn, text(sent))
    node = _existing(conn, tree, path, READ)
    generation = b"%d\0" % node.generation
    listing = engine.listings.get(node)
    start = number(offset, 1 << 32)
    room = XENSTORE_PAYLOAD_MAX - len(generation) - 1
    if len(listing) - start <= room:
        return generation + listing[start:] + b"\0"
    end = listing.rfind(b"\0", start, start + room) + 1
    return generation + listing[start:end]


def write(engine: Engine, conn: Connection, tree: Tree, payload: bytes) -> bytes:
    """WRITE: set the value; makes the node, and what is missing above it."""
    sent, separator, value = payload.partition(b"\0")
    if not separator:
        raise StoreError("EINVAL")
    path = node_path(conn, text(sent))
    node = _permitted(conn, tree, path, WRITE)
    if node is None:
        _create(engine, conn, tree, path, value)
        return OK
    _check_size(conn, node.perms, len(value), node.children)
    tree.write(path, node, value)
    engine.changed(tree, Change(path, (node.perms,)))
    return OK


def mkdir(engine: Engine, conn: Connection, tree: Tree, payload: bytes) -> bytes:
    """MKDIR: make the node if it is missing; the value of an existing one stays."""
    path = node_path(conn, one_string(payload))
    if _permitted(conn, tree, path, WRITE) is None:
        _create(engine, conn, tree, path, b"")
    return OK


def rm(engine: Engine, conn: Connection, tree: Tree, payload: bytes) -> bytes:
    """RM: drop the node and all below it; a missing one is fine if its parent is."""
    path = node_path(conn, one_string(payload))
    if _permitted(conn, tree, path, WRITE) is None:
        if tree.get(paths.parent(path)) is None:
            raise StoreError("ENOENT")
        return OK
    if path == paths.ROOT:
        raise StoreError("EINVAL")
    engine.removed(tree, tree.remove(path))
    return OK


def get_perms(engine: Engine, conn: Connection, tree: Tree, payload: bytes) -> bytes:
    """GET_PERMS: the list's entries, the owner's first."""
    path = node_path(conn, one_string(payload), special=True)
    perms = _existing(conn, tree, path, READ).perms
    return b"".join(b"%b\0" % str(entry).encode() for entry in perms)


def set_perms(engine: Engine, conn: Connection, tree: Tree, payload: bytes) -> bytes:
    """SET_PERMS: replace the list; only the owner may, and stays the owner."""
    sent, *entries = strings(payload, 2)
    if not conn.privileged and exceeds(
        len(entries), conn.account.quotas.node_permissions
    ):
        raise StoreError("ENOSPC")
    perms = _parsed_perms(engine, entries)
    path = node_path(conn, text(sent), special=True)
    node = _existing(conn, tree, path, WRITE | OWN)
    if not conn.privileged and perms[0].domid != node.perms[0].domid:
        raise StoreError("EPERM")
    _check_size(conn, perms, len(node.value), node.children)
    tree.set_perms(path, node, perms)
    if not paths.is_special(path):
        engine.changed(tree, Change(path, (perms, node.perms)))
    return OK


def _parsed_perms(engine: Engine, entries: list[bytes]) -> Perms:
    perms = tuple(
        entry if engine.domains.exists(entry.domid) else entry._replace(ignored=True)
        for entry in (parse_perm(text(raw)) for raw in entries)
    )
    if perms[0].ignored:
        raise StoreError("ENOENT")
    return perms


def _existing(conn: Connection, tree: Tree, path: str, needed: int) -> Node:
    node = _permitted(conn, tree, path, needed)
    if node is None:
        raise StoreError("ENOENT")
    return node


def _permitted(conn: Connection, tree: Tree, path: str, needed: int) -> Node | None:
    """The node, or None where it is missing and the client may know that.

    Raises StoreError EACCES. For a missing node the nearest one above it counts.
    """
    node = tree.get(path)
    if conn.privileged:
        return node
    if node is None:
        above = _nearest(tree, path)
        if not rights(above.perms, conn.domid, conn.target) & needed:
            raise StoreError("EACCES")
    elif rights(node.perms, conn.domid, conn.target) & needed != needed:
        raise StoreError("EACCES")
    return node


def _nearest(tree: Tree, path: str) -> Node:
    for above in paths.ancestors(path):
        node = tree.get(above)
        if node is not None:
            return node
    raise StoreError("ENOENT")


def _create(
    engine: Engine, conn: Connection, tree: Tree, path: str, value: bytes
) -> None:
    """Make a node and what is missing above it; all quotas are checked before."""
    missing = [path]
    above = paths.parent(path)
    while (lowest := tree.get(above)) is None:
        missing.append(above)
        above = paths.parent(above)
    perms = inherited(lowest.perms, None if conn.privileged else conn.domid)
    if not conn.privileged:
        _check_new_nodes(conn, tree, missing, perms, len(value))
        name = missing[-1][missing[-1].rfind("/") + 1 :]
        _check_size(conn, lowest.perms, len(lowest.value), (*lowest.children, name))
    for new in reversed(missing):
        tree.create(new, value if new == path else b"", perms)
    engine.changed(tree, Change(path, (perms,)))


def _check_new_nodes(
    conn: Connection, tree: Tree, missing: list[str], perms: Perms, value_size: int
) -> None:
    total = tree.owned_by(conn.domid) + len(missing)
    if exceeds(total, conn.account.quotas.nodes):
        raise StoreError("ENOSPC")
    _check_size(conn, perms, value_size, ())
    for path in missing[:-1]:
        _check_size(conn, perms, 0, (path[path.rfind("/") + 1 :],))


def _check_size(
    conn: Connection, perms: Perms, value_size: int, children: Iterable[str]
) -> None:
    if conn.privileged:
        return
    size = _NODE_HEADER_SIZE + _NODE_PERM_SIZE * len(perms) + value_size
    size += sum(len(name) + 1 for name in children)
    if exceeds(size, conn.account.quotas.node_size):
        raise StoreError("ENOSPC")


def _listing(node: Node) -> bytes:
    if not node.children:
        return b""
    return "\0".join(node.children).encode() + b"\0"


class ListingCache:
    """The listing that was asked for last.

    The parts of a huge directory are asked for one after the other; joining the names
    again for each would take time quadratic in their number.
    """

    def __init__(self) -> None:
        self._node: Node | None = None
        self._listing = b""

    def get(self, node: Node) -> bytes:
        """The names of the node's children, each ended by a NUL."""
        if node is not self._node:
            self._node, self._listing = node, _listing(node)
        return self._listing
