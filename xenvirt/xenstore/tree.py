"""A walk through a tree of nodes, a directory's children asked for all at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xenvirt.xenstore import requests
from xenvirt.xenstore.errors import (
    RequestError,
    StoreNotFoundError,
    StoreTooBigError,
)
from xenvirt.xenstore.sync_nodes import SyncNodes

if TYPE_CHECKING:
    from xenvirt.xenstore.perms import Perms

Listing = list[str] | RequestError


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a tree; what may not be read is None."""

    path: str
    depth: int
    value: bytes | None
    perms: tuple[str, ...] | None

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]


def walk(nodes: SyncNodes, path: str, *, perms: bool) -> Iterator[Node]:
    """Yield every node below `path`, parents first; one that vanishes is left out.

    RequestError if `path` itself, or a node below it that is there, cannot be listed,
    after what comes before that. Without `perms` a node's are ().
    """
    levels = [iter(_children(nodes, path, nodes.ls(path), 0, perms))]
    while levels:
        for node, listing in levels[-1]:
            yield node
            if isinstance(listing, StoreTooBigError):
                listing = nodes.ls(node.path)
            if isinstance(listing, StoreNotFoundError):
                continue
            if isinstance(listing, RequestError):
                raise listing
            if listing:
                below = _children(nodes, node.path, listing, node.depth + 1, perms)
                levels.append(iter(below))
                break
        else:
            levels.pop()


def _children(
    nodes: SyncNodes, path: str, names: list[str], depth: int, perms: bool
) -> list[tuple[Node, Listing]]:
    """The children of a node with the names of theirs, asked for all at once."""
    paths = [f"{path.rstrip('/')}/{name}" for name in names]
    values = nodes.gather(requests.read_bytes(path) for path in paths)
    listings = nodes.gather(requests.directory(path) for path in paths)
    rights: list[Perms | RequestError] = [()] * len(paths)
    if perms:
        rights = nodes.gather(requests.get_perms(path) for path in paths)
    return [
        (
            Node(
                path,
                depth,
                None if isinstance(value, RequestError) else value,
                None if isinstance(right, RequestError) else tuple(map(str, right)),
            ),
            listing,
        )
        for path, value, listing, right in zip(
            paths, values, listings, rights, strict=True
        )
    ]
