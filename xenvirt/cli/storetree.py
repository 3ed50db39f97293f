"""A node of a tree as xenstore-ls prints it."""

from typing import Final

from xenvirt.xenstore.escapes import escape
from xenvirt.xenstore.tree import Node

DEFAULT_WIDTH: Final = 80
_NO_WIDTH: Final = 1 << 30
_PERMS_COLUMN: Final = 60
_TAG_LEN: Final = len(' = "..."')


def line(node: Node, *, full_path: bool, perms: bool, width: int | None) -> str:
    """Return a node's line; a value that does not fit `width`, if any, is cut.

    A whole path is not counted into the width. A node that may not be read has two
    lines: xenstore-ls ends the first one too early.
    """
    if width is None:
        width = _NO_WIDTH
    if full_path:
        text = node.path
        room = width - _TAG_LEN
    else:
        name_len = width - _TAG_LEN - node.depth
        text = " " * node.depth + _cut(node.name, name_len)
        room = width - _TAG_LEN - len(text)
    suffix = f"  ({','.join(node.perms)})" if perms and node.perms is not None else ""
    if node.value is None:
        return f"{text}:\n{suffix}"
    value = escape(node.value)
    if len(node.value) > room:
        return f'{text} = "{_cut(value, room)}\\..."{suffix}'
    text = f'{text} = "{value}"'
    if perms:
        text += " "
        if not full_path:
            columns = range(len(text), min(_PERMS_COLUMN, width))
            text += "".join(" ."[column & 1] for column in columns)
    return text + suffix


def _cut(text: str, length: int) -> str:
    """As printf's `%.*s`: a negative length is none."""
    return text if length < 0 else text[:length]
