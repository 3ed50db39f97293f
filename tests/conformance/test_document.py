"""docs/xenstore-conformance.md says what the table says."""

from pathlib import Path

from tests.conformance.differences import BEYOND, Reason
from tests.conformance.document import document
from tests.conformance.rows_all import TABLE

PAGE = Path(__file__).resolve().parents[2] / "docs" / "xenstore-conformance.md"


def test_the_page_is_made_from_the_table() -> None:
    made = document()
    assert PAGE.read_text() == made, (
        "python -m tests.conformance.document >docs/xenstore-conformance.md"
    )


def test_every_reason_has_a_difference() -> None:
    used = {row.c_417.reason for row in TABLE if row.c_417 is not None}
    assert used | {entry.reason for entry in BEYOND} == set(Reason)
