"""The store's commands against what Debian's xenstore-* 4.17 printed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenvirt.cli.storetree import DEFAULT_WIDTH, line
from xenvirt.xenstore.escapes import escape, unescape
from xenvirt.xenstore.tree import Node


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"plain ~ text", "plain ~ text"),
        (b"tab\tnl\ncr\r", "tab\\tnl\\ncr\\r"),
        (b'q"b', 'q"b'),
        (b"\\", "\\\\"),
        (b"\x00\x01\x07", "\\000\\001\\007"),
        (b"\x08\x1f\x7f\xff", "\\x08\\x1f\\x7f\\xff"),
        ("é".encode(), "\\xc3\\xa9"),
    ],
)
def test_values_are_shown_as_xenstore_read_shows_them(value: bytes, shown: str) -> None:
    assert escape(value) == shown
    assert unescape(shown) == value


@given(st.binary())
def test_every_value_survives_being_shown(value: bytes) -> None:
    assert unescape(escape(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("\\z", b"z"), ("a\\", b"a"), ("\\x4", b"\x04"), ("\\101", b"A"), ("\\xg", b"xg")],
)
def test_other_escapes_are_read_as_xenstore_write_reads_them(
    text: str, value: bytes
) -> None:
    assert unescape(text) == value


LONG = b"x" * 100


@pytest.mark.parametrize(
    ("node", "options", "shown"),
    [
        (Node("/t/a", 0, b"1", ()), "", 'a = "1"'),
        (Node("/t/c/d", 1, b"q", ()), "", ' d = "q"'),
        (Node("/t/b", 0, LONG, ()), "", f'b = "{"x" * 71}\\..."'),
        (Node("/t/b", 0, LONG, ()), "f", f'/t/b = "{"x" * 100}"'),
        (Node("/t/a", 0, b"1", ("n0", "r1")), "fp", '/t/a = "1"   (n0,r1)'),
        (Node("/t/b", 0, LONG, ("n0",)), "p", f'b = "{"x" * 71}\\..."  (n0)'),
        (Node("/t/a", 0, b"1", ("n0",)), "p", 'a = "1"  ' + ". " * 26 + " (n0)"),
        (Node("/t/e", 0, b"", ("n0",)), "p", 'e = "" ' + ". " * 27 + " (n0)"),
        (Node("/t/s", 0, None, ()), "", "s:\n"),
        (Node("/t/s", 0, None, ("n0",)), "p", "s:\n  (n0)"),
        (Node("/t/s", 0, None, None), "p", "s:\n"),
        (Node("/t/a", 75, b"1", ()), "", " " * 75 + 'a = "1\\..."'),
    ],
)
def test_lines_are_those_of_xenstore_ls(node: Node, options: str, shown: str) -> None:
    width = None if "f" in options else DEFAULT_WIDTH
    assert (
        line(node, full_path="f" in options, perms="p" in options, width=width) == shown
    )
