"""What a row of the conformance table is, and the words that rows are made of.

A row reads: whoever asks for this, after this was prepared, gets this reply, and
these events come to these connections. Rows are grouped in files by the section of
protocol.md that they hold against a server; test_table.py runs them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.conformance.wire import XS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.conformance.differences import Reason


class Who(Enum):
    """A connection of the world in which each row runs."""

    DOM0 = "dom0"
    DOM0_B = "dom0, another connection"
    GUEST = "domain 5"
    OTHER = "domain 6"


DOM0, DOM0_B, GUEST, OTHER = Who
DOMIDS: Final = {GUEST: 5, OTHER: 6}

PRESENT_DOMID: Final = 7
"""A domain that exists, and that nobody has introduced."""

ABSENT_DOMID: Final = 99

Reply = bytes | str | re.Pattern[bytes]
"""A reply's payload; text is the name of an error; a pattern has to match it all."""

ANYTHING: Final = "ANYTHING"
"""Instead of an error's name: whatever it is."""

OK: Final = b"OK\0"


class Event(NamedTuple):
    """A WATCH_EVENT that comes to somebody."""

    who: Who
    path: str
    token: str


class Step(NamedTuple):
    """One request; `tx` names a transaction that start() has begun, or is a tx_id."""

    who: Who
    type: int
    payload: bytes
    expect: Reply | None = None
    """None: anything but an error."""
    tx: str | int = 0


class Start(NamedTuple):
    """Begin a transaction, under a name for later steps."""

    tx: str
    who: Who = Who.DOM0


class Settle(NamedTuple):
    """Forget the events that came up to here."""


class Domain(NamedTuple):
    """Something that the hypervisor does to a domain."""

    verb: str
    """create or destroy."""
    domid: int


Preparation = Step | Start | Settle | Domain


@dataclass(frozen=True, slots=True)
class Differs:
    """C xenstored 4.17 answers otherwise, and why; the row's `then` is not for it."""

    expect: Reply
    reason: Reason
    events: tuple[Event, ...] | None = None
    """Those of the row if None."""
    events_after: tuple[Event, ...] | None = None


@dataclass(frozen=True, slots=True)
class NotAsked:
    """C xenstored 4.17 is not asked that, and why."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    who: Who
    type: int
    payload: bytes
    expect: Reply
    before: tuple[Preparation, ...] = ()
    events: tuple[Event, ...] = ()
    """All that the request causes, in order for each connection; those that the
    asker gets come before its reply."""
    events_after: tuple[Event, ...] = ()
    """Those that come to the asker behind its reply: of WATCH alone."""
    then: tuple[Step, ...] = ()
    """What is true afterwards."""
    tx: str | int = 0
    hypervisor: bool = False
    """Needs a domain that is not introduced, or one that comes or goes."""
    ring: bool = False
    """Needs domains that are connected by ring."""
    c_417: Differs | NotAsked | None = None


def z(*strings: str | int | bytes) -> bytes:
    """Strings as they are sent, each ended by a NUL."""
    return b"".join(raw(string) + b"\0" for string in strings)


def raw(string: str | int | bytes) -> bytes:
    """One of them without its NUL."""
    return string if isinstance(string, bytes) else str(string).encode()


def text(pattern: str) -> re.Pattern[bytes]:
    """A reply that is one string, for people: the pattern, then a NUL."""
    return re.compile(pattern.encode() + rb"\x00")


def read(
    path: str,
    expect: Reply | None = None,
    *,
    who: Who = DOM0,
    tx: str | int = 0,
) -> Step:
    return Step(who, XS.READ, z(path), expect, tx)


def write(
    path: str, value: bytes = b"v", *, who: Who = DOM0, tx: str | int = 0
) -> Step:
    return Step(who, XS.WRITE, z(path) + value, OK, tx)


def mkdir(path: str, *, who: Who = DOM0, tx: str | int = 0) -> Step:
    return Step(who, XS.MKDIR, z(path), OK, tx)


def rm(path: str, *, who: Who = DOM0, tx: str | int = 0) -> Step:
    return Step(who, XS.RM, z(path), OK, tx)


def perms(path: str, *entries: str, who: Who = DOM0, tx: str | int = 0) -> Step:
    return Step(who, XS.SET_PERMS, z(path, *entries), OK, tx)


def directory(path: str, expect: Reply, *, who: Who = DOM0, tx: str | int = 0) -> Step:
    return Step(who, XS.DIRECTORY, z(path), expect, tx)


def get_perms(path: str, *entries: str, who: Who = DOM0, tx: str | int = 0) -> Step:
    return Step(who, XS.GET_PERMS, z(path), z(*entries), tx)


def watch(path: str, token: str = "t", *more: str, who: Who = DOM0) -> Step:
    return Step(who, XS.WATCH, z(path, token, *more), OK)


def commit(tx: str, expect: Reply = OK, *, who: Who = DOM0) -> Step:
    return Step(who, XS.TRANSACTION_END, z("T"), expect, tx)


def abort(tx: str, *, who: Who = DOM0) -> Step:
    return Step(who, XS.TRANSACTION_END, z("F"), OK, tx)


def control(*arguments: str, expect: Reply | None = None) -> Step:
    return Step(DOM0, XS.CONTROL, z(*arguments), expect)


def introduce(domid: int) -> Step:
    return Step(DOM0, XS.INTRODUCE, z(domid, 1, 1), OK)


def owned(path: str, *entries: str) -> tuple[Step, Step]:
    """A node with these permissions."""
    return write(path), perms(path, *entries)


HOME: Final = owned("/local/domain/5", "n5")
"""Domain 5's own place, where its relative paths lead."""

NEW_OTHER: Final = (Domain("destroy", 6), Domain("create", 6), introduce(6))
"""Another domain 6 than the one before."""


def rows(*tables: Iterable[Row]) -> tuple[Row, ...]:
    """All of them in order; two of a name are an error."""
    found = tuple(row for table in tables for row in table)
    names = [row.name for row in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"rows of the same name: {sorted(twice)}")
    return found
