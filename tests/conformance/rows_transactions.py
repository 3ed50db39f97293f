"""protocol.md 5.5: what a transaction sees, and when it fails."""

from typing import Final

from tests.conformance.table import (
    DOM0,
    DOM0_B,
    GUEST,
    HOME,
    OK,
    Event,
    Row,
    Settle,
    Start,
    Step,
    abort,
    commit,
    directory,
    get_perms,
    mkdir,
    owned,
    perms,
    read,
    rm,
    rows,
    watch,
    write,
    z,
)
from tests.conformance.wire import XS

T: Final = (XS.TRANSACTION_END, z("T"))
TWO: Final = (write("/d/a", b"old"), write("/d/b", b"old"))

VIEW: Final = (
    Row(
        "a transaction reads what it wrote",
        DOM0, XS.READ, z("/d/a"), b"new", tx="t",
        before=(*TWO, Start("t"), write("/d/a", b"new", tx="t")),
    ),
    Row(
        "others do not read what a transaction wrote",
        DOM0_B, XS.READ, z("/d/a"), b"old",
        before=(*TWO, Start("t"), write("/d/a", b"new", tx="t")),
    ),
    Row(
        "nor does its own connection, outside",
        DOM0, XS.READ, z("/d/a"), b"old",
        before=(*TWO, Start("t"), write("/d/a", b"new", tx="t")),
    ),
    Row(
        "nor another transaction of it",
        DOM0, XS.READ, z("/d/a"), b"old", tx="u",
        before=(*TWO, Start("t"), Start("u"), write("/d/a", b"new", tx="t")),
    ),
    Row(
        "a transaction lists what it made",
        DOM0, XS.DIRECTORY, z("/d"), z("a", "b", "c"), tx="t",
        before=(*TWO, Start("t"), write("/d/c", tx="t")),
        then=(directory("/d", z("a", "b")), commit("t"),
              directory("/d", z("a", "b", "c"))),
    ),
    Row(
        "a transaction misses what it removed",
        DOM0, XS.READ, z("/d/a"), "ENOENT", tx="t",
        before=(*TWO, Start("t"), rm("/d/a", tx="t")),
        then=(directory("/d", z("b"), tx="t"), read("/d/a", b"old"), commit("t"),
              read("/d/a", "ENOENT")),
    ),
    Row(
        "a transaction removes what it made (XSA-421)",
        DOM0, *T, OK, tx="t",
        before=(*TWO, Start("t"), write("/d/c/e", tx="t"), rm("/d/c", tx="t")),
        then=(directory("/d", z("a", "b")), read("/d/c", "ENOENT")),
    ),
    Row(
        "a transaction makes anew what it removed",
        DOM0, *T, OK, tx="t",
        before=(*TWO, Start("t"), rm("/d/a", tx="t"), write("/d/a", b"new", tx="t")),
        then=(directory("/d", z("b", "a")), read("/d/a", b"new")),
    ),
    Row(
        "a transaction sees permissions that it set",
        DOM0, XS.GET_PERMS, z("/d/a"), z("n5"), tx="t",
        before=(*TWO, Start("t"), perms("/d/a", "n5", tx="t")),
        then=(get_perms("/d/a", "n0"), commit("t"), get_perms("/d/a", "n5")),
    ),
    Row(
        "a transaction is not over by an error within it",
        GUEST, *T, OK, tx="t",
        before=(*HOME, Start("t", GUEST), write("a", b"new", who=GUEST, tx="t"),
                read("/tool", "EACCES", who=GUEST, tx="t"),
                Step(GUEST, XS.WRITE, z("/tool", "v"), "EACCES", "t")),
        then=(read("a", b"new", who=GUEST),),
    ),
    Row(
        "a transaction of a domain gives it what it made",
        GUEST, *T, OK, tx="t",
        before=(*HOME, Start("t", GUEST), write("a/b", who=GUEST, tx="t")),
        then=(get_perms("/local/domain/5/a/b", "n5"),),
    ),
    Row(
        "WATCH in a transaction is none of it",
        DOM0, *T, OK, tx="t",
        before=(Start("t"), Step(DOM0, XS.WATCH, z("/a", "t"), OK, "t"),
                write("/a", tx="t")),
        events=(Event(DOM0, "/a", "t"),),
    ),
    Row(
        "an aborted transaction leaves everything",
        DOM0, XS.TRANSACTION_END, z("F"), OK, tx="t",
        before=(*TWO, watch("/d"), Start("t"), write("/d/a", b"new", tx="t"),
                rm("/d/b", tx="t"), write("/d/c", tx="t"), perms("/d", "n5", tx="t")),
        then=(directory("/d", z("a", "b")), read("/d/a", b"old"), get_perms("/d", "n0"),
              read("/", "ENOENT", tx="t")),
    ),
    Row(
        "a transaction is gone when it is committed",
        DOM0, XS.READ, z("/"), "ENOENT", tx="t", before=(Start("t"), commit("t")),
    ),
    Row(
        "RESET_WATCHES within a transaction (XSA-484)",
        DOM0, XS.RESET_WATCHES, z(""), OK, tx="t",
        before=(*TWO, Start("t"), write("/d/a", b"new", tx="t")),
        then=(read("/", "ENOENT", tx="t"), read("/d/a", b"old")),
    ),
    Row(
        "a write that a quota refused dooms its transaction",
        GUEST, *T, "ENOMEM", tx="t",
        before=(*HOME, Start("t", GUEST), write("a", who=GUEST, tx="t"),
                Step(GUEST, XS.WRITE, z("b") + bytes(3000), "ENOSPC", "t")),
        then=(read("a", "ENOENT", who=GUEST), read("/", "ENOENT", who=GUEST, tx="t")),
    ),
    Row(
        "a doomed transaction can be dropped",
        GUEST, XS.TRANSACTION_END, z("F"), OK, tx="t",
        before=(*HOME, Start("t", GUEST),
                Step(GUEST, XS.WRITE, z("b") + bytes(3000), "ENOSPC", "t")),
    ),
    Row(
        "too many nodes doom a transaction",
        GUEST, *T, "ENOMEM", tx="t",
        before=(*HOME, Start("t", GUEST),
                *(read(f"x{i}", "ENOENT", who=GUEST, tx="t") for i in range(1022)),
                Step(GUEST, XS.READ, z("y"), "ANYTHING", "t"),
                Step(GUEST, XS.READ, z("z"), "ENOSPC", "t")),
    ),
)  # fmt: skip


def conflict(
    name: str, inside: Step | tuple[Step, ...], outside: Step | tuple[Step, ...]
) -> Row:
    """Steps in transaction t, then others outside: the commit fails."""
    return _after(name, inside, outside, "EAGAIN")


def peace(
    name: str, inside: Step | tuple[Step, ...], outside: Step | tuple[Step, ...]
) -> Row:
    """The same, and the commit succeeds."""
    return _after(name, inside, outside, OK)


def _after(
    name: str,
    inside: Step | tuple[Step, ...],
    outside: Step | tuple[Step, ...],
    expect: bytes | str,
) -> Row:
    within = (inside,) if isinstance(inside, Step) else inside
    beside = (outside,) if isinstance(outside, Step) else outside
    return Row(
        name, DOM0, *T, expect, tx="t",
        before=(*TWO, write("/e"), Start("t"),
                *(step._replace(tx="t") for step in within),
                *(step._replace(who=DOM0_B) for step in beside)),
        then=(read("/", "ENOENT", tx="t"),),
    )  # fmt: skip


CONFLICTS: Final = (
    peace("nothing happened outside", read("/d/a"), ()),
    conflict("read, then written outside", read("/d/a"), write("/d/a")),
    conflict("read, then written outside with the same value",
             read("/d/a"), write("/d/a", b"old")),
    conflict("read, then removed outside", read("/d/a"), rm("/d/a")),
    conflict("read, then permissions set outside", read("/d/a"), perms("/d/a", "n5")),
    conflict("permissions read, then written outside",
             get_perms("/d/a", "n0"), write("/d/a")),
    conflict("read, then removed and made again outside",
             read("/d/a"), (rm("/d/a"), write("/d/a", b"old"))),
    peace("read, then another node written outside", read("/d/a"), write("/d/b")),
    peace("read, then a sibling made outside", read("/d/a"), write("/d/c")),
    peace("read, then a child made outside of a sibling",
          read("/d/a"), write("/d/b/c")),
    conflict("read, then a child made outside", read("/d/a"), write("/d/a/c")),
    conflict("missed, then made outside", read("/d/c", "ENOENT"), write("/d/c")),
    conflict("missed, then a sibling made outside: its directory was asked, too",
             read("/d/c", "ENOENT"), write("/d/x")),
    conflict("missed, then made and removed outside",
             read("/d/c", "ENOENT"), (write("/d/c"), rm("/d/c"))),
    peace("missed, then a node elsewhere made outside",
          read("/d/c", "ENOENT"), write("/e/x")),
    conflict("listed, then a child made outside",
             directory("/d", z("a", "b")), write("/d/c")),
    conflict("listed, then a child removed outside",
             directory("/d", z("a", "b")), rm("/d/a")),
    peace("listed, then a child written outside",
          directory("/d", z("a", "b")), write("/d/a")),
    conflict("listed, then written outside",
             directory("/d", z("a", "b")), write("/d")),
    conflict("written, then written outside", write("/d/a", b"in"), write("/d/a")),
    conflict("written, then removed outside", write("/d/a", b"in"), rm("/d/a")),
    peace("written, then a sibling written outside",
          write("/d/a", b"in"), write("/d/b")),
    peace("written, then a sibling made outside",
          write("/d/a", b"in"), write("/d/c")),
    peace("written, then read outside", write("/d/a", b"in"), read("/d/a", b"old")),
    conflict("made, then made outside", write("/d/c"), write("/d/c")),
    conflict("made, then a sibling made outside", write("/d/c"), write("/d/x")),
    conflict("made, then a sibling removed outside", write("/d/c"), rm("/d/a")),
    peace("made, then a sibling written outside", write("/d/c"), write("/d/a")),
    peace("made, then a node elsewhere made outside", write("/d/c"), write("/e/x")),
    conflict("made, then its directory written outside", write("/d/c"), write("/d")),
    conflict("made deep, then a child of the node above made outside",
             write("/d/c/e/f"), write("/d/x")),
    conflict("made, then its directory removed outside", write("/d/c"), rm("/d")),
    conflict("removed, then written outside", rm("/d/a"), write("/d/a")),
    conflict("removed, then removed outside", rm("/d/a"), rm("/d/a")),
    conflict("removed, then a sibling made outside", rm("/d/a"), write("/d/c")),
    peace("removed, then a sibling written outside", rm("/d/a"), write("/d/b")),
    conflict("a tree removed, then written within outside", rm("/d"), write("/d/a")),
    conflict("a tree removed, then a node made within outside",
             rm("/d"), write("/d/a/c")),
    peace("a missing node removed, nothing outside", rm("/d/none"), ()),
    conflict("a missing node removed, then made outside",
             rm("/d/none"), write("/d/none")),
    conflict("MKDIR of an existing node, then written outside",
             mkdir("/d/a"), write("/d/a")),
    conflict("permissions set, then written outside",
             perms("/d/a", "n5"), write("/d/a")),
    conflict("permissions set, then permissions set outside",
             perms("/d/a", "n5"), perms("/d/a", "n6")),
    conflict("made and removed, then made outside",
             (write("/d/c"), rm("/d/c")), write("/d/c")),
    peace("GET_DOMAIN_PATH, then anything outside",
          Step(DOM0, XS.GET_DOMAIN_PATH, z(5)), (write("/d/a"), rm("/d"))),
    conflict("one's own write outside conflicts as another's does",
             read("/d/a"), write("/d/a")),
)  # fmt: skip

TWO_TRANSACTIONS: Final = (
    Row(
        "two transactions that each make a child: the second one fails",
        DOM0_B, *T, "EAGAIN", tx="u",
        before=(write("/d"), Start("t"), Start("u", DOM0_B),
                write("/d/a", tx="t"), write("/d/b", who=DOM0_B, tx="u"), commit("t")),
        then=(directory("/d", z("a")),),
    ),
    Row(
        "two transactions that make children elsewhere",
        DOM0_B, *T, OK, tx="u",
        before=(write("/d"), write("/e"), Start("t"), Start("u", DOM0_B),
                write("/d/a", tx="t"), write("/e/b", who=DOM0_B, tx="u"), commit("t")),
        then=(directory("/d", z("a")), directory("/e", z("b"))),
    ),
    Row(
        "two that read what the other writes: the first one wins",
        DOM0_B, *T, "EAGAIN", tx="u",
        before=(*TWO, Start("t"), Start("u", DOM0_B), read("/d/a", tx="t"),
                read("/d/b", who=DOM0_B, tx="u"), write("/d/b", b"t", tx="t"),
                write("/d/a", b"u", who=DOM0_B, tx="u"), commit("t")),
        then=(read("/d/a", b"old"), read("/d/b", b"t")),
    ),
    Row(
        "two that only read",
        DOM0_B, *T, OK, tx="u",
        before=(*TWO, Start("t"), Start("u", DOM0_B), read("/d/a", tx="t"),
                read("/d/a", who=DOM0_B, tx="u"), commit("t")),
    ),
    Row(
        "two that write the same node",
        DOM0_B, *T, "EAGAIN", tx="u",
        before=(*TWO, Start("t"), Start("u", DOM0_B), write("/d/a", b"t", tx="t"),
                write("/d/a", b"u", who=DOM0_B, tx="u"), commit("t")),
        then=(read("/d/a", b"t"),),
    ),
    Row(
        "two of one connection conflict as two of two do",
        DOM0, *T, "EAGAIN", tx="u",
        before=(*TWO, Start("t"), Start("u"), write("/d/a", b"t", tx="t"),
                write("/d/a", b"u", tx="u"), commit("t")),
    ),
    Row(
        "an aborted transaction conflicts with none",
        DOM0_B, *T, OK, tx="u",
        before=(*TWO, Start("t"), Start("u", DOM0_B), write("/d/a", b"t", tx="t"),
                write("/d/a", b"u", who=DOM0_B, tx="u"), abort("t")),
        then=(read("/d/a", b"u"),),
    ),
    Row(
        "a failed transaction changes nothing",
        DOM0, *T, "EAGAIN", tx="t",
        before=(*TWO, watch("/"), Start("t"), read("/d/a", tx="t"),
                write("/e", tx="t"), rm("/d/b", tx="t"), write("/d/a", b"other"),
                Settle()),
        then=(read("/e", "ENOENT"), read("/d/b", b"old")),
    ),
)  # fmt: skip

EVENTS: Final = (
    Row(
        "no event before the end",
        DOM0, XS.WRITE, z("/d/a") + b"new", OK, tx="t",
        before=(*TWO, watch("/d"), Start("t")),
    ),
    Row(
        "one event for each node that was changed",
        DOM0, *T, OK, tx="t",
        before=(*TWO, watch("/d"), Start("t"), write("/d/a", b"1", tx="t"),
                write("/d/a", b"2", tx="t"), perms("/d/a", "n5", tx="t"),
                write("/d/b", b"1", tx="t")),
        events=(Event(DOM0, "/d/a", "t"), Event(DOM0, "/d/b", "t")),
    ),
    Row(
        "events come in the order in which nodes were first touched",
        DOM0, *T, OK, tx="t",
        before=(*TWO, write("/d/c"), watch("/d"), Start("t"), read("/d/c", tx="t"),
                write("/d/b", tx="t"), write("/d/a", tx="t"), write("/d/c", tx="t")),
        events=(Event(DOM0, "/d/c", "t"), Event(DOM0, "/d/b", "t"),
                Event(DOM0, "/d/a", "t")),
    ),
    Row(
        "no event for what was only read",
        DOM0, *T, OK, tx="t",
        before=(*TWO, watch("/d"), Start("t"), read("/d/a", tx="t"),
                directory("/d", z("a", "b"), tx="t")),
    ),
    Row(
        "one event for a node that was made, none for those made above it",
        DOM0, *T, OK, tx="t",
        before=(watch("/d"), Start("t"), write("/d/x/y", tx="t")),
        events=(Event(DOM0, "/d/x/y", "t"),),
    ),
    Row(
        "an event for a node that was removed",
        DOM0, *T, OK, tx="t",
        before=(*TWO, watch("/d"), Start("t"), rm("/d/a", tx="t")),
        events=(Event(DOM0, "/d/a", "t"),),
    ),
    Row(
        "no event for a node that was made and removed",
        DOM0, *T, OK, tx="t",
        before=(*TWO, watch("/d"), Start("t"), write("/d/c", tx="t"),
                rm("/d/c", tx="t")),
    ),
    Row(
        "watches within a removed tree, and above",
        DOM0, *T, OK, tx="t",
        before=(*TWO, watch("/d/a", "in"), watch("/d", "top"), watch("/", "root"),
                Start("t"), rm("/d", tx="t")),
        events=(Event(DOM0, "/d", "top"), Event(DOM0, "/d", "root"),
                Event(DOM0, "/d/a", "in")),
    ),
    Row(
        "a domain gets events of what it may read, from others' transactions",
        DOM0, *T, OK, tx="t",
        before=(*owned("/d", "r0"), *owned("/d/a", "n0"), *owned("/d/b", "r0"),
                *owned("/e", "n0"), watch("/", who=GUEST), Start("t"),
                write("/d/b", tx="t"), write("/e", tx="t")),
        events=(Event(GUEST, "/d/b", "t"),),
    ),
)  # fmt: skip

TRANSACTION_ROWS: Final = rows(VIEW, CONFLICTS, TWO_TRANSACTIONS, EVENTS)
