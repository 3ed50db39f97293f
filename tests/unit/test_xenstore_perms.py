"""Permission lists: who may do what."""

import pytest

from xenvirt.abi.ids import DOMID_ANY
from xenvirt.errors import StoreError
from xenvirt.xenstore.perms import (
    ALL,
    READ,
    WRITE,
    Perms,
    inherited,
    parse_perm,
    rights,
    without,
)


def listed(text: str) -> Perms:
    return tuple(parse_perm(entry) for entry in text.split())


@pytest.mark.parametrize("text", ["n0", "r5", "w12", "b65535"])
def test_an_entry_survives_a_round_trip(text: str) -> None:
    assert str(parse_perm(text)) == text


@pytest.mark.parametrize("text", ["", "r", "x5", "5", "r-1", "r65536", "r5 ", "r²"])
def test_a_malformed_entry_is_refused(text: str) -> None:
    with pytest.raises(StoreError, match="EINVAL"):
        parse_perm(text)


@pytest.mark.parametrize(
    ("perms", "domid", "target", "expected"),
    [
        ("n5", 5, None, ALL),
        ("n5", 6, None, 0),
        ("r5", 6, None, READ),
        ("b5 n6", 6, None, 0),
        ("n0 r5 b5", 5, None, READ),
        ("n0 r5 w6", 6, None, WRITE),
        (f"n0 r{DOMID_ANY}", 9, None, READ),
        (f"n0 b9 r{DOMID_ANY}", 9, None, READ | WRITE),
        ("n5", 6, 5, ALL),
        ("n0 w5", 6, 5, WRITE),
    ],
)
def test_the_first_matching_entry_decides(
    perms: str, domid: int, target: int | None, expected: int
) -> None:
    assert rights(listed(perms), domid, target) == expected


def test_an_ignored_entry_grants_nothing() -> None:
    owner, entry = listed("n0 r5")
    assert rights((owner, entry._replace(ignored=True)), 5) == 0


def test_an_unprivileged_creator_becomes_owner_of_what_it_creates() -> None:
    assert inherited(listed("n0 b5"), 5) == listed("n5 b5")


def test_a_privileged_creator_leaves_the_owner() -> None:
    assert inherited(listed("n3 r0"), None) == listed("n3 r0")


def test_a_dead_domain_is_taken_out_of_the_list() -> None:
    assert without(listed("n0 r5 w6 b5"), 5) == listed("n0 w6")
    assert without(listed("r5 w6"), 5) == listed("r0 w6")
