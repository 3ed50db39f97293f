"""docs/conformance-keys.md says what the tables of tests/xen say."""

from pathlib import Path

from tests.xen.ground_truth import CHANGES, KEYS, STATES, Phase
from tests.xen.key_differences import DIFFERENCES, Reason
from tests.xen.key_document import document

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conformance-keys.md"


def test_the_page_is_made_from_the_tables() -> None:
    made = document()
    assert PAGE.read_text() == made, (
        "python -m tests.xen.key_document >docs/conformance-keys.md"
    )


def test_every_reason_has_a_difference() -> None:
    assert {reason for each in DIFFERENCES for reason in each.reasons} == set(Reason)


def test_no_difference_is_listed_twice() -> None:
    listed = [(each.end, each.who, each.linux) for each in DIFFERENCES]
    assert len(set(listed)) == len(listed)


def test_the_ground_truth_has_every_phase() -> None:
    assert set(CHANGES) == set(STATES) == set(Phase)


def test_every_key_of_the_ground_truth_is_written_in_it() -> None:
    written = {
        line.strip().partition(" = ")[0]
        for changes in CHANGES.values()
        for lines in changes.values()
        for line in lines
        if " =" in line
    }
    assert {key for key in KEYS if "/" in key} <= written
