"""The lines of `xenstore ls`, as xenstore-ls prints them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from xenvirt.cli.escapes import escape
from xenvirt.xenstore.errors import RequestError, StoreNotFoundError
from xenvirt.xenstore.sync_client import SyncNodes

DEFAULT_WIDTH: Final = 80
_PERMS_COLUMN: Final = 60
_TAG_LEN: Final = len(' = "..."')


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a tree; `value` None is one that may not be read."""

    path: str
    depth: int
    value: bytes | None
    perms: tuple[str, ...]

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]


def walk(nodes: SyncNodes, path: str, *, perms: bool, depth: int = 0) -> Iterator[Node]:
    """Yield every node below `path`, parents first; one that vanishes is left out.

    RequestError if `path` itself cannot be listed.
    """
    try:
        names = nodes.ls(path)
    except StoreNotFoundError:
        if depth == 0:
            raise
        return
    for name in names:
        child = f"{path.rstrip('/')}/{name}"
        yield Node(child, depth, _value(nodes, child), _perms(nodes, child, perms))
        yield from walk(nodes, child, perms=perms, depth=depth + 1)


def line(node: Node, *, full_path: bool, perms: bool, width: int) -> str:
    """Return a node's line; a value that does not fit `width` is cut."""
    if full_path:
        text = node.path
        room = None
    else:
        text = " " * node.depth + node.name[: max(0, width - _TAG_LEN - node.depth)]
        room = width - _TAG_LEN - len(text)
    suffix = f"  ({','.join(node.perms)})" if perms else ""
    if node.value is None:
        return f"{text}:{suffix}"
    value = escape(node.value)
    if room is not None and len(node.value) > room:
        return f'{text} = "{value[: max(0, room)]}\\..."{suffix}'
    text = f'{text} = "{value}"'
    if perms:
        text += " "
        if not full_path:
            columns = range(len(text), min(_PERMS_COLUMN, width))
            text += "".join(" ."[column & 1] for column in columns)
    return text + suffix


def _value(nodes: SyncNodes, path: str) -> bytes | None:
    try:
        return nodes.read_bytes(path)
    except RequestError:
        return None


def _perms(nodes: SyncNodes, path: str, wanted: bool) -> tuple[str, ...]:
    if not wanted:
        return ()
    try:
        return tuple(map(str, nodes.get_perms(path)))
    except RequestError:
        return ()
