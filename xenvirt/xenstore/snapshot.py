"""A subtree as text that a test can keep, and the way back.

    # xenvirt snapshot 1 of /local/domain/5
    . (n0,r5) = ""
    data (n5) = ""
    data/greeting (n5,r0) = "hello\\n\\xff"

The first line says what it is and which node `.` was. Then there is one line for each
node: its path below that one, its permissions as in xenstore.txt (the owner first), its
value. Parents come before children, and children are sorted by name, so that the same
tree gives the same text. In a value `\\t`, `\\n`, `\\r` and `\\\\` are themselves, and
all bytes but printable ASCII are `\\001` (below 8) or `\\xff`; a quote stands for
itself. Empty lines, and further ones that begin with `#`, are passed over.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from xenvirt.errors import StoreError, UsageError
from xenvirt.xenstore import requests
from xenvirt.xenstore.errors import (
    RequestError,
    StoreAccessError,
    StoreNotFoundError,
)
from xenvirt.xenstore.escapes import escape, unescape
from xenvirt.xenstore.perms import parse_perm
from xenvirt.xenstore.requests import Request
from xenvirt.xenstore.sync_nodes import SyncNodes
from xenvirt.xenstore.tree import walk

_ROOT: Final = "."
_HEADER: Final = re.compile(r"# xenvirt snapshot 1 of (\S+)")
_LINE: Final = re.compile(r'(\S+) \(([^)]*)\) = "(.*)"')
_PATH: Final = re.compile(r"[A-Za-z0-9@_-]+(?:/[A-Za-z0-9@_-]+)*")


class SavedNode(NamedTuple):
    """One node; `path` is below the snapshot's root, which is `.` itself."""

    path: str
    perms: tuple[str, ...]
    value: bytes


class Snapshot(NamedTuple):
    """The node `path` and all below it, as they were."""

    path: str
    nodes: list[SavedNode]


def take(nodes: SyncNodes, path: str) -> Snapshot:
    """Read a subtree; in a transaction it is as it was at one moment.

    RequestError if any of it cannot be read.
    """
    root = SavedNode(
        _ROOT, tuple(map(str, nodes.get_perms(path))), nodes.read_bytes(path)
    )
    start = len(path.rstrip("/")) + 1
    saved = []
    for node in walk(nodes, path, perms=True):
        if node.value is None or node.perms is None:
            raise StoreAccessError("EACCES", node.path)
        saved.append(SavedNode(node.path[start:], node.perms, node.value))
    saved.sort(key=lambda node: node.path.split("/"))
    return Snapshot(path, [root, *saved])


def dump(snapshot: Snapshot) -> str:
    """The text."""
    lines = [f"# xenvirt snapshot 1 of {snapshot.path}"]
    lines += (
        f'{node.path} ({",".join(node.perms)}) = "{escape(node.value)}"'
        for node in snapshot.nodes
    )
    return "\n".join(lines) + "\n"


def load(text: str, name: str = "snapshot") -> Snapshot:
    """The snapshot that a text is; UsageError with `name` and the line's number."""
    lines = text.split("\n")
    header = _HEADER.fullmatch(lines[0].rstrip("\r"))
    if header is None:
        raise UsageError(f"{name} is no snapshot", cause=f"it begins {lines[0][:60]!r}")
    found: dict[str, SavedNode] = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            node = _parse(line.rstrip("\r"))
            _check_place(node.path, found)
        except ValueError as error:
            raise UsageError(f"{name}:{number}: {error}") from error
        found[node.path] = node
    if not found:
        raise UsageError(f"{name} is no snapshot", cause="it has no node")
    return Snapshot(header[1], list(found.values()))


def restore(nodes: SyncNodes, snapshot: Snapshot, path: str) -> None:
    """Make `path` what the snapshot says, whatever it was; use it in a transaction.

    RequestError about the node that the store refused.
    """
    old = [f"/{name}" for name in nodes.ls("/")] if path == "/" else [path]
    for each in old:
        try:
            nodes.rm(each)
        except StoreNotFoundError:
            continue
    for outcome in nodes.gather(_requests(snapshot.nodes, path)):
        if isinstance(outcome, RequestError):
            raise outcome


def _requests(saved: Iterable[SavedNode], path: str) -> Iterator[Request[None]]:
    base = path.rstrip("/")
    for node in saved:
        target = path if node.path == _ROOT else f"{base}/{node.path}"
        yield requests.write(target, node.value)
        yield requests.set_perms(target, node.perms)


def _parse(line: str) -> SavedNode:
    """One node; ValueError says what is wrong with it."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f'not PATH (PERMISSIONS) = "VALUE": {line[:60]!r}')
    path, perms, value = match[1], tuple(match[2].split(",")), match[3]
    if path != _ROOT and not _PATH.fullmatch(path):
        raise ValueError(f"{path} is no path")
    for perm in perms:
        try:
            parse_perm(perm)
        except StoreError as error:
            raise ValueError(f"{perm!r} is no permission") from error
    return SavedNode(path, perms, unescape(value))


def _check_place(path: str, before: dict[str, SavedNode]) -> None:
    """Say that a node is there twice, or before its parent."""
    if path in before:
        raise ValueError(f"{path} is there twice")
    parent = path.rpartition("/")[0] or _ROOT
    if path == _ROOT:
        if before:
            raise ValueError(f"{_ROOT} must come first")
    elif parent not in before:
        raise ValueError(f"{path} comes without {parent} before it")
