"""docs/conformance.md says what the tables of tests/xen/abnormal.py say."""

from pathlib import Path

import pytest

from tests.xen.abnormal import (
    CASES,
    DIFFERENCES,
    HEADING,
    Difference,
    section,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"


def test_the_section_is_made_from_the_tables() -> None:
    _, heading, rest = PAGE.read_text().partition(f"## {HEADING}\n")
    written = heading + rest.partition("\n## ")[0]
    assert written.strip() == section().strip(), "python -m tests.xen.abnormal"


def test_no_two_cases_have_a_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda each: each.name)
def test_a_difference_is_one_in_each_of_its_cases(difference: Difference) -> None:
    cases = {case.name: case for case in CASES}
    for name in difference.cases:
        assert difference.ours(cases[name].linux) != cases[name].linux


def test_what_differs_is_listed_once() -> None:
    listed = [name for difference in DIFFERENCES for name in difference.cases]
    assert len(set(listed)) == len(listed)
