"""Prints docs/xenstore-conformance.md, as which test_document.py wants it kept."""

from __future__ import annotations

import re
from textwrap import fill
from typing import TYPE_CHECKING, Final

from tests.conformance.differences import BEYOND, NEWER, Reason
from tests.conformance.rows_all import SECTIONS, TABLE
from tests.conformance.table import Differs, Event, NotAsked, Reply, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

INTRODUCTION: Final = (
    "The table in `tests/conformance` holds the messages, errors, limits, "
    "transactions, watches and permissions of the XenStore protocol against this "
    "store and against Debian's C xenstored 4.17, which `tests/peers` runs on plain "
    "Linux, with domains on ring pages. Of {total} rows {asked} are asked of 4.17, "
    "and {same} are answered by both alike, to the byte, with the same events in the "
    "same order.",
    "This page lists all others. Most of them are there because 4.17 is older than "
    "what this store follows, Xen's development branch of 2026. It is made from the "
    "table, by `python -m tests.conformance.document`, and a test fails when the two "
    "differ.",
)
DEVELOPMENT: Final = (
    "No xenstored newer than 4.17 is run beside the table; this is from reading it. "
    "What the paragraphs above say of old and new ones is true of it as well."
)
WIDTH: Final = 100


def document() -> str:
    """The whole page."""
    asked = [row for row in TABLE if not isinstance(row.c_417, NotAsked)]
    same = [row for row in asked if row.c_417 is None]
    numbers = {"total": len(TABLE), "asked": len(asked), "same": len(same)}
    lines = ["# XenStore beside C xenstored"]
    for text in INTRODUCTION:
        lines += ["", fill(text.format(**numbers), WIDTH)]
    lines += [
        "",
        "| section | rows | alike | otherwise | not asked of 4.17 |",
        "|---|---|---|---|---|",
    ]
    for name, rows in SECTIONS.items():
        counts = [
            sum(1 for row in rows if isinstance(row.c_417, kind))
            for kind in (type(None), Differs, NotAsked)
        ]
        lines.append("| " + " | ".join(map(str, (name, len(rows), *counts))) + " |")
    for reason in Reason:
        lines += _paragraph(reason)
    lines += [
        "",
        "## Where the development branch differs, too",
        "",
        fill(DEVELOPMENT, WIDTH),
        "",
        "| what | here | there |",
        "|---|---|---|",
        *(f"| {entry.name} | {entry.ours} | {entry.newer} |" for entry in NEWER),
    ]
    return "\n".join(lines) + "\n"


def _paragraph(reason: Reason) -> Iterator[str]:
    heading, text = reason.value
    yield from ("", f"## {heading}", "", fill(text, WIDTH))
    differing = [
        row
        for row in TABLE
        if isinstance(row.c_417, Differs) and row.c_417.reason is reason
    ]
    beyond = [entry for entry in BEYOND if entry.reason is reason]
    if differing or beyond:
        yield from ("", "| what | here | 4.17 |", "|---|---|---|")
    for row in differing:
        yield f"| {_cell(row.name)} | {_here(row)} | {_there(row)} |"
    for entry in beyond:
        yield f"| {_cell(entry.name)} | {entry.ours} | {entry.c_417} |"
    silent = [
        row
        for row in TABLE
        if isinstance(row.c_417, NotAsked) and row.c_417.reason is reason
    ]
    if silent:
        yield from ("", "| not asked of 4.17 | here |", "|---|---|")
    for row in silent:
        yield f"| {_cell(row.name)} | {_here(row)} |"


def _here(row: Row) -> str:
    return _answer(row.expect, row.events, row.events_after)


def _there(row: Row) -> str:
    assert isinstance(row.c_417, Differs)
    differs = row.c_417
    events = row.events if differs.events is None else differs.events
    after = row.events_after if differs.events_after is None else differs.events_after
    return _answer(differs.expect, events, after)


def _answer(expect: Reply, *events: tuple[Event, ...]) -> str:
    count = sum(map(len, events))
    told = {0: "", 1: ", an event"}.get(count, f", {count} events")
    return _reply(expect) + told


def _reply(expect: Reply) -> str:
    if isinstance(expect, re.Pattern):
        return "a number" if expect.fullmatch(b"15\0") else "a text"
    if isinstance(expect, str):
        return expect
    strings = " ".join(expect.rstrip(b"\0").decode().split("\0"))
    return f"`{strings}`" if strings else "nothing"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(document(), end="")
