"""docs/xenstore-security.md has a row for each advisory, and names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "xenstore-security.md").read_text()
ATTACKS = ROOT / "tests" / "unit" / "xenstore_attacks"

ADVISORIES = (
    72, 86, 115, 206, 233, 272, 322, 323, 324, 325, 326, 330, 352, 353,
    414, 415, 416, 417, 418, 419, 420, 421, 425, 481, 483, 484,
)  # fmt: skip
"""Those about XenStore up to XSA-484."""


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    section = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[1:]]


def named_tests(cell: str) -> list[str]:
    return re.findall(r"`(test_\w+)`", cell)


def written_tests() -> set[str]:
    return {
        node.name
        for path in ATTACKS.glob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_each_advisory_has_its_row() -> None:
    assert sorted(int(row[0]) for row in rows("Xen's advisories")) == [*ADVISORIES]


def test_each_advisory_has_tests_of_its_name_or_a_reason() -> None:
    for number, _, here, tests in rows("Xen's advisories"):
        names = named_tests(tests)
        assert names or here.startswith("not here: "), number
        for name in names:
            assert name.startswith(f"test_xsa_{number}_")


def test_each_named_test_is_written() -> None:
    named = {name for row in rows("Xen's advisories") for name in named_tests(row[3])}
    named |= {
        name
        for row in rows("Inputs without an advisory")
        for name in named_tests(row[2])
    }
    assert named <= written_tests(), named - written_tests()


def test_each_written_test_with_an_advisory_is_named() -> None:
    written = {name for name in written_tests() if name.startswith("test_xsa_")}
    named = {name for row in rows("Xen's advisories") for name in named_tests(row[3])}
    assert written == named, written ^ named


@pytest.mark.parametrize(
    "place", [row[1].strip("`") for row in rows("What else is tried")]
)
def test_the_other_places_are_there(place: str) -> None:
    path = ROOT / place if "/" in place else ATTACKS / place
    assert path.exists()
