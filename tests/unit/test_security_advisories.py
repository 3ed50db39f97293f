"""docs/security.md has each advisory and input, and names tests that exist."""

import re
from pathlib import Path

import pytest

from tests.security_page import cannot_apply, named_tests, rows, written_tests

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()

DRIVERS = (
    39, 43, 155, 157, 216, 229, 331, 332, 349, 350, 361, 362, 365, 367, 371, 374, 391,
    392, 396, 403, 405, 423, 424, 432, 441, 448, 465,
)  # fmt: skip
HYPERVISOR = (
    18, 26, 73, 107, 134, 218, 221, 222, 224, 226, 228, 230, 232, 236, 255, 284, 287,
    295, 316, 318, 338, 340, 342, 343, 344, 358, 359, 379, 380, 382, 384, 394, 411,
    486, 496, 500, 501, 505,
)  # fmt: skip
INPUTS = tuple(f"R{number}" for number in range(1, 30))

HEADINGS = {
    "Network, rings, frontends and backends": tuple(map(str, DRIVERS)),
    "Inputs without an advisory": INPUTS,
    "Grant tables and event channels": tuple(map(str, HYPERVISOR)),
    "Toolstack and hotplug": (),
}
"""Each table, and the rows that must be there."""


def attacks() -> set[str]:
    """Those of XenStore have a page of their own."""
    paths = (ROOT / "tests").rglob("test_*.py")
    return written_tests(path for path in paths if "xenstore_attacks" not in path.parts)


def numbers(name: str) -> set[str]:
    """The rows that a test's name begins with: test_xsa_39_r1_… is about 39 and R1."""
    match = re.match(r"test_((?:xsa(?:_\d+)+_)?(?:r\d+_)*)", name)
    assert match is not None
    return {word.upper() for word in match[1].split("_")} - {"", "XSA"}


@pytest.mark.parametrize("heading", HEADINGS)
def test_each_advisory_and_input_has_its_row(heading: str) -> None:
    known = [row[0] for row in rows(PAGE, heading)]
    numbered = [key for key in known if re.fullmatch(r"R?\d+", key)]
    assert tuple(numbered) == HEADINGS[heading]


@pytest.mark.parametrize("heading", HEADINGS)
def test_each_row_has_tests_of_its_name_or_a_reason(heading: str) -> None:
    for key, _, here, tests in rows(PAGE, heading):
        names = named_tests(tests)
        assert bool(names) != cannot_apply(here), key
        if key in HEADINGS[heading]:
            assert all(key in numbers(name) for name in names), key


def test_each_named_test_is_written_and_each_numbered_one_is_named() -> None:
    named = {
        name
        for heading in HEADINGS
        for row in rows(PAGE, heading)
        for name in named_tests(row[3])
    }
    written = attacks()
    assert named <= written, named - written
    numbered = {name for name in written if numbers(name)}
    assert numbered <= named, numbered - named
