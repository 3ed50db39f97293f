"""The tree of nodes, without policy: no permissions, quotas or watches are applied.

Nodes are in one dictionary keyed by canonical path, so a request costs one lookup
however deep it reaches. A change replaces the node by a new one with the next
generation; generations are never used twice, which is what transactions rely on.
"""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Final

from xenvirt.xenstore import path as paths
from xenvirt.xenstore.perms import (
    DOM0_ONLY,
    READABLE_BY_ANY,
    Perms,
    names,
    without,
)

INTRODUCE_DOMAIN: Final = "@introduceDomain"
RELEASE_DOMAIN: Final = "@releaseDomain"

_PERMANENT: Final = {
    paths.ROOT: DOM0_ONLY,
    INTRODUCE_DOMAIN: DOM0_ONLY,
    RELEASE_DOMAIN: READABLE_BY_ANY,
}


class Node:
    """A value, a permission list and the names of the children, oldest first.

    The children of a replaced node may go on changing with those of its successor.
    """

    __slots__ = ("children", "generation", "perms", "value")

    def __init__(
        self, value: bytes, perms: Perms, children: dict[str, None], generation: int
    ) -> None:
        self.value = value
        self.perms = perms
        self.children = children
        self.generation = generation


class Tree:
    """The changes to nodes, for the store itself and for a view of it.

    A subclass says how a node is looked up, put, dropped, and how many nodes a domain
    owns. Every method takes canonical paths.
    """

    get: Callable[[str], Node | None]
    """The node at a path, or None."""

    generations: Iterator[int]
    """The next generation; one counter for the store and all of its views."""

    def __init__(self, generations: Iterator[int]) -> None:
        self.generations = generations
        self._owned: dict[int, int] = {}

    def _put(self, path: str, node: Node) -> None:
        raise NotImplementedError

    def _drop(self, path: str) -> None:
        raise NotImplementedError

    def _children_to_change(self, path: str, node: Node) -> dict[str, None]:
        raise NotImplementedError

    def owned_by(self, domid: int) -> int:
        """How many nodes the domain owns."""
        return self._owned.get(domid, 0)

    def node(self, path: str) -> Node:
        """The node at a path that is known to exist."""
        node = self.get(path)
        if node is None:
            raise KeyError(path)
        return node

    def write(self, path: str, node: Node, value: bytes) -> None:
        """Give the node at `path`, which the caller has looked up, another value."""
        generation = next(self.generations)
        self._put(path, Node(value, node.perms, node.children, generation))

    def set_perms(self, path: str, node: Node, perms: Perms) -> None:
        """Give the node at `path`, which the caller has looked up, another list."""
        self._charge(node.perms[0].domid, -1)
        self._charge(perms[0].domid, 1)
        generation = next(self.generations)
        self._put(path, Node(node.value, perms, node.children, generation))

    def create(self, path: str, value: bytes, perms: Perms) -> None:
        """Add a node below one that exists."""
        above = paths.parent(path)
        directory = self.node(above)
        children = self._children_to_change(above, directory)
        children[path[path.rfind("/") + 1 :]] = None
        self._replace_children(above, directory, children)
        self._put(path, Node(value, perms, {}, next(self.generations)))
        self._charge(perms[0].domid, 1)

    def remove(self, path: str) -> list[tuple[str, Node]]:
        """Drop a node and all below it; returns them, each before its children."""
        removed = list(self.walk(path))
        above = paths.parent(path)
        directory = self.node(above)
        children = self._children_to_change(above, directory)
        del children[path[path.rfind("/") + 1 :]]
        self._replace_children(above, directory, children)
        for dropped, node in removed:
            self._drop(dropped)
            self._charge(node.perms[0].domid, -1)
        return removed

    def walk(self, top: str) -> Iterator[tuple[str, Node]]:
        """A node and all below it, each before its children.

        A stack and no recursion: depth is the client's choice (XSA-418).
        """
        waiting = [top]
        while waiting:
            path = waiting.pop()
            node = self.node(path)
            yield path, node
            waiting.extend(paths.join(path, name) for name in reversed(node.children))

    def _replace_children(
        self, path: str, node: Node, children: dict[str, None]
    ) -> None:
        generation = next(self.generations)
        self._put(path, Node(node.value, node.perms, children, generation))

    def _charge(self, domid: int, nodes: int) -> None:
        self._owned[domid] = self._owned.get(domid, 0) + nodes


class Store(Tree):
    """The nodes that everybody sees.

    The permissions of the special watch names are kept as nodes without a parent.
    """

    def __init__(self) -> None:
        super().__init__(count(1))
        self._nodes: dict[str, Node] = {}
        self.get = self._nodes.get
        for path, perms in _PERMANENT.items():
            self._put(path, Node(b"", perms, {}, next(self.generations)))
            self._charge(0, 1)
        self.create("/tool", b"", DOM0_ONLY)
        self.create("/tool/xenstored", b"", DOM0_ONLY)

    def __len__(self) -> int:
        return len(self._nodes)

    def _put(self, path: str, node: Node) -> None:
        self._nodes[path] = node

    def _drop(self, path: str) -> None:
        del self._nodes[path]

    def _children_to_change(self, path: str, node: Node) -> dict[str, None]:
        return node.children

    def is_consistent(self) -> bool:
        """Whether every node can be reached, and every child that is named exists."""
        try:
            reached = {path for path, _ in self.walk(paths.ROOT)}
        except KeyError:
            return False
        return reached | _PERMANENT.keys() == self._nodes.keys()

    def apply(self, changes: dict[str, Node | None], owned: dict[int, int]) -> None:
        """Take over a transaction's nodes (None: dropped) and its count of owners."""
        for path, node in changes.items():
            if node is None:
                self._nodes.pop(path, None)
            else:
                self._nodes[path] = node
        for domid, nodes in owned.items():
            self._charge(domid, nodes)

    def owned_tops(self, domid: int) -> list[str]:
        """The domain's nodes, without those below another node of the domain.

        The nodes that the store cannot be without are left out.
        """
        owned = {p for p, n in self._nodes.items() if n.perms[0].domid == domid}
        owned -= _PERMANENT.keys()
        return [p for p in owned if owned.isdisjoint(paths.ancestors(p))]

    def forget_domain(self, domid: int) -> None:
        """Take the domain out of every list: its domid may be used again (XSA-322)."""
        for path, node in self._nodes.items():
            if names(node.perms, domid):
                self.set_perms(path, node, without(node.perms, domid))
        self._owned.pop(domid, None)
