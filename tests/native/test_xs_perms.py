"""native/xenstore/perms.h: permission lists, and who may do what (protocol.md 5.7)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.native.journal_shim import Perm, compiled

FFI, LIB = compiled()
ANY: Final = LIB.XS_DOMID_ANY
NOBODY: Final = LIB.XS_NO_DOMID
READ, WRITE, ALL = LIB.XS_PERM_READ, LIB.XS_PERM_WRITE, LIB.XS_PERM_ALL
EINVAL: Final = -22

domids = st.sampled_from([0, 5, 6, ANY, NOBODY])
entries = st.builds(Perm, domids, st.integers(0, 3), st.integers(0, 1))
lists = st.lists(entries, min_size=1, max_size=6).map(tuple)


def parse(text: str) -> Perm | int:
    perm = FFI.new("struct xs_perm *", {"ignored": 7})
    error = LIB.xs_perm_parse(text.encode(), perm)
    return int(error) if error else Perm(perm.domid, perm.access, perm.ignored)


def listed(text: str) -> tuple[Perm, ...]:
    found = [parse(entry) for entry in text.split()]
    return tuple(perm for perm in found if isinstance(perm, Perm))


def entries_of(perms: Any) -> tuple[Perm, ...]:
    return tuple(
        Perm(p.domid, p.access, p.ignored) for p in perms.entry[0 : perms.count]
    )


@contextmanager
def made(*entries: Perm) -> Iterator[Any]:
    perms = LIB.xs_perms_make([tuple(entry) for entry in entries], len(entries))
    yield perms
    LIB.xs_perms_unref(perms)


def rights(perms: tuple[Perm, ...], domid: int, target: int = NOBODY) -> int:
    with made(*perms) as given:
        return int(LIB.xs_perms_rights(given, domid, target))


def inherited(perms: tuple[Perm, ...], creator: int) -> tuple[Perm, ...]:
    with made(*perms) as given:
        inherited = LIB.xs_perms_inherit(given, creator)
        found = entries_of(inherited)
        LIB.xs_perms_unref(inherited)
        assert entries_of(given) == perms
        return found


def without(perms: tuple[Perm, ...], domid: int) -> tuple[Perm, ...]:
    with made(*perms) as given:
        rest = LIB.xs_perms_without(given, domid)
        found = entries_of(rest)
        LIB.xs_perms_unref(rest)
        assert entries_of(given) == perms
        return found


@given(access=st.integers(0, 3), domid=st.integers(0, 65535))
def test_an_entry_survives_a_round_trip(access: int, domid: int) -> None:
    text = FFI.new("char[]", b"????????")
    length = LIB.xs_perm_print(FFI.new("struct xs_perm *", (domid, access, 1)), text)
    assert FFI.string(text).decode() == "nrwb"[access] + str(domid)
    assert length == len(FFI.string(text)) + 1 <= 8
    assert text[length] in (b"?", b"\0")
    assert parse(FFI.string(text).decode()) == Perm(domid, access)


def test_what_is_printed_stays_within_eight_bytes_whatever_the_entry() -> None:
    text = FFI.new("char[]", b"?????????")
    assert LIB.xs_perm_print(FFI.new("struct xs_perm *", (65535, 255, 255)), text) == 7
    assert FFI.string(text) == b"b65535"


@pytest.mark.parametrize(
    ("text", "perm"),
    [
        ("n0", Perm(0, 0)),
        ("r5", Perm(5, READ)),
        ("w12", Perm(12, WRITE)),
        ("b65535", Perm(65535, READ | WRITE)),
        ("n00005", Perm(5, 0)),
    ],
)
def test_an_entry_is_a_letter_and_a_domid(text: str, perm: Perm) -> None:
    assert parse(text) == perm


@pytest.mark.parametrize(
    "text",
    [
        "", "r", "x5", "5", "N5", "r-1", "r+1", "r 5", "r5 ", "r5x", "r0x5", "r²",
        "r65536", "r99999", "r000005", "r4294967301", "r18446744073709551621",
    ],
)  # fmt: skip
def test_a_malformed_entry_is_refused(text: str) -> None:
    assert parse(text) == EINVAL


@pytest.mark.parametrize(
    ("perms", "domid", "target", "expected"),
    [
        ("n5", 5, NOBODY, ALL),
        ("n5", 6, NOBODY, 0),
        ("r5", 6, NOBODY, READ),
        ("b5 n6", 6, NOBODY, 0),
        ("n0 r5 b5", 5, NOBODY, READ),
        ("n0 r5 w6", 6, NOBODY, WRITE),
        (f"n0 r{ANY}", 9, NOBODY, READ),
        (f"n0 b9 r{ANY}", 9, NOBODY, READ | WRITE),
        (f"n0 r{ANY} b9", 9, NOBODY, READ),
        ("n5", 6, 5, ALL),
        ("n0 w5", 6, 5, WRITE),
        # A domid that stands for no target is no way in.
        ("n65535", 6, NOBODY, 0),
        ("n0 b65535", 6, NOBODY, 0),
    ],
)
def test_the_first_matching_entry_decides(
    perms: str, domid: int, target: int, expected: int
) -> None:
    assert rights(listed(perms), domid, target) == expected


def test_an_ignored_entry_grants_nothing() -> None:
    assert rights((Perm(0), Perm(5, READ, ignored=1)), 5) == 0
    assert rights((Perm(0), Perm(5, READ, ignored=1), Perm(5, WRITE)), 5) == WRITE


def test_an_unprivileged_creator_becomes_owner_of_what_it_creates() -> None:
    assert inherited(listed("n0 b5"), 5) == listed("n5 b5")
    assert inherited((Perm(0, READ, 1), Perm(5, 3, 1)), 5) == (
        Perm(5, READ),
        Perm(5, 3, 1),
    )


def test_a_privileged_creator_leaves_the_owner() -> None:
    assert inherited(listed("n3 r0"), NOBODY) == listed("n3 r0")


def test_a_list_that_stays_the_same_is_shared() -> None:
    with made(*listed("n3 r0")) as perms:
        assert perms.refs == 1
        for creator in (3, NOBODY):
            assert LIB.xs_perms_inherit(perms, creator) == perms
        assert perms.refs == 3
        LIB.xs_perms_unref(perms)
        LIB.xs_perms_unref(perms)


def test_a_dead_domain_is_taken_out_of_the_list() -> None:
    assert without(listed("n0 r5 w6 b5"), 5) == listed("n0 w6")
    assert without(listed("r5 w6"), 5) == listed("r0 w6")


@given(perms=lists, domid=domids, creator=domids)
def test_lists_are_as_the_rules_say(
    perms: tuple[Perm, ...], domid: int, creator: int
) -> None:
    with made(*perms) as given:
        assert entries_of(given) == perms
        named = any(entry.domid == domid for entry in perms)
        assert LIB.xs_perms_name(given, domid) == named
    owner = 0 if perms[0].domid == domid else perms[0].domid
    rest = [entry for entry in perms[1:] if entry.domid != domid]
    assert without(perms, domid) == (perms[0]._replace(domid=owner), *rest)
    child = inherited(perms, creator)
    assert child[1:] == perms[1:]
    assert child[0].access == perms[0].access
    assert child[0].domid == (perms[0].domid if creator == NOBODY else creator)
