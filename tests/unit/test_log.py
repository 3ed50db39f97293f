"""What a line of the log may look like, whoever's words are in it."""

import logging
import sys

import pytest

from xenvirt.log import _PrintableFormatter


def formatted(message: str, *args: object, journal: bool = False) -> str:
    record = logging.LogRecord("x", logging.ERROR, "", 0, message, args, None)
    return _PrintableFormatter("backend-0", journal=journal).format(record)


@pytest.mark.parametrize("journal", [True, False])
def test_a_peers_words_make_no_further_line(journal: bool) -> None:
    text = formatted("reading %s", "a\nb\rc\x1b[0m\x00", journal=journal)
    assert text.endswith(r"reading a\nb\rc\x1b[0m\x00")


def test_a_traceback_has_its_lines_indented() -> None:
    try:
        raise ValueError("x\ny")
    except ValueError:
        error = sys.exc_info()
    record = logging.LogRecord("x", logging.ERROR, "", 0, "failed", (), error)
    first, *others = (
        _PrintableFormatter("backend-0", journal=False).format(record).split("\n")
    )
    assert first.endswith("failed")
    assert others[-1] == "  y"
    assert all(line.startswith("  ") for line in others)
