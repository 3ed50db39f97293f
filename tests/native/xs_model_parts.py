"""What the plain model consists of: nodes, views of them, clients and domains."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

ANY: Final = 0x7FF5

Answer = bytes | str
"""A reply's payload, or an error's name as text."""


class Refused(Exception):
    """The request ends with this error."""


@dataclass(frozen=True)
class Perm:
    """One entry; an ignored one named a domain that did not exist."""

    letter: str
    domid: int
    ignored: bool = False


Perms = tuple[Perm, ...]


@dataclass(frozen=True)
class Node:
    """What is at a path. A generation is never used twice."""

    value: bytes
    perms: Perms
    children: tuple[str, ...]
    generation: int

    @property
    def owner(self) -> int:
        return self.perms[0].domid

    @property
    def size(self) -> int:
        """What a node-size quota counts."""
        names = sum(len(name) + 1 for name in self.children)
        return 16 + 8 * len(self.perms) + len(self.value) + names


@dataclass(eq=False)
class Transaction:
    """A copy of every node that was touched, as it was and as it would become."""

    limit: int
    before: dict[str, Node | None] = field(default_factory=dict)
    after: dict[str, Node | None] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    events: dict[str, bool] = field(default_factory=dict)  # path: exact
    made_nodes: bool = False
    failed: bool = False
    doomed: bool = False


class View:
    """The nodes that a request works on: the store's or a transaction's."""

    def __init__(self, store: dict[str, Node], tx: Transaction | None) -> None:
        self.store = store
        self.tx = tx

    def get(self, path: str) -> Node | None:
        tx, store = self.tx, self.store
        if tx is None:
            return store.get(path)
        if path not in tx.before:
            if exceeds(len(tx.before) + 1, tx.limit):
                tx.failed = True
                raise Refused("ENOSPC")
            tx.before[path] = tx.after[path] = store.get(path)
        return tx.after[path]

    def put(self, path: str, node: Node | None) -> None:
        if self.tx is not None:
            self.get(path)
            self.tx.after[path] = node
            self.tx.changed.add(path)
        elif node is None:
            del self.store[path]
        else:
            self.store[path] = node

    def owned(self, domid: int) -> int:
        """How many nodes the domain owns here."""
        count = sum(owns(node, domid) for node in self.store.values())
        if self.tx is not None:
            for path in self.tx.changed:
                count += owns(self.tx.after[path], domid)
                count -= owns(self.tx.before[path], domid)
        return count

    def subtree(self, path: str) -> list[str]:
        """The node and all below it, each after its children."""
        node = self.get(path)
        if node is None:
            return []
        inside = [self.subtree(join(path, name)) for name in node.children]
        return [*(below for part in inside for below in part), path]


def owns(node: Node | None, domid: int) -> bool:
    return node is not None and node.owner == domid


def exceeds(value: int, quota: int) -> bool:
    """One less than a quota is reachable; 0 switches it off."""
    return 0 < quota <= value


def join(path: str, name: str) -> str:
    return f"/{name}" if path == "/" else f"{path}/{name}"


def parent(path: str) -> str:
    return path[: path.rfind("/")] or "/"


def level(path: str) -> int:
    return 0 if path == "/" else path.count("/")


def is_at_or_below(path: str, top: str) -> bool:
    return path == top or top == "/" or path.startswith(top + "/")


def generation(node: Node | None) -> int:
    """0 for a missing node."""
    return 0 if node is None else node.generation


# ---- who holds what ----


@dataclass(frozen=True)
class Event:
    """What a client has not read; `batch`: the request that caused it.

    The order within a batch is told only if the batch is not `loose`.
    """

    path: str
    token: str
    deadline_ms: int
    batch: int
    loose: bool


@dataclass(eq=False)
class Watch:
    client: Client
    path: str
    token: str
    sent: str
    depth: int | None


@dataclass(eq=False)
class Client:
    """A connection, and the events that it has not read."""

    domid: int
    privileged: bool
    unread: list[Event] = field(default_factory=list)
    transactions: dict[int, Transaction] = field(default_factory=dict)
    last_tx_id: int = 0


@dataclass(eq=False)
class Domain:
    introduced: bool = False
    target: int | None = None
    own_quotas: dict[str, int] = field(default_factory=dict)
