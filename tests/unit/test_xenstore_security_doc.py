"""docs/xenstore-security.md has a row for each advisory, and names tests that exist."""

from pathlib import Path

import pytest

from tests.security_page import cannot_apply, named_tests, rows, written_tests

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "xenstore-security.md").read_text()
ATTACKS = ROOT / "tests" / "unit" / "xenstore_attacks"

ADVISORIES = (
    72, 86, 115, 206, 233, 272, 322, 323, 324, 325, 326, 330, 352, 353,
    414, 415, 416, 417, 418, 419, 420, 421, 425, 481, 483, 484,
)  # fmt: skip
"""Those about XenStore up to XSA-484."""


def attacks() -> set[str]:
    return written_tests(ATTACKS.glob("test_*.py"))


def test_each_advisory_has_its_row() -> None:
    assert sorted(int(row[0]) for row in rows(PAGE, "Xen's advisories")) == [
        *ADVISORIES
    ]


def test_each_advisory_has_tests_of_its_name_or_a_reason() -> None:
    for number, _, here, tests in rows(PAGE, "Xen's advisories"):
        names = named_tests(tests)
        assert names or cannot_apply(here), number
        for name in names:
            assert name.startswith(f"test_xsa_{number}_")


def test_each_named_test_is_written() -> None:
    named = {
        name for row in rows(PAGE, "Xen's advisories") for name in named_tests(row[3])
    }
    named |= {
        name
        for row in rows(PAGE, "Inputs without an advisory")
        for name in named_tests(row[2])
    }
    assert named <= attacks(), named - attacks()


def test_each_written_test_with_an_advisory_is_named() -> None:
    written = {name for name in attacks() if name.startswith("test_xsa_")}
    named = {
        name for row in rows(PAGE, "Xen's advisories") for name in named_tests(row[3])
    }
    assert written == named, written ^ named


@pytest.mark.parametrize(
    "place", [row[1].strip("`") for row in rows(PAGE, "What else is tried")]
)
def test_the_other_places_are_there(place: str) -> None:
    path = ROOT / place if "/" in place else ATTACKS / place
    assert path.exists()
