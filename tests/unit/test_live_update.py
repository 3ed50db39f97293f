"""What CONTROL live-update understands."""

import pytest

from xenvirt.errors import UsageError
from xenvirt.toolstack.live_update import DEFAULT_TIMEOUT_S, Request, parse


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        ("-a", Request(start=False)),
        ("-s", Request(start=True, timeout_s=DEFAULT_TIMEOUT_S)),
        ("-s -t 0", Request(start=True, timeout_s=0)),
        ("-s -F", Request(start=True, force=True)),
        ("-s -F -t 3600", Request(start=True, timeout_s=3600, force=True)),
        ("-s -t 5 -F -t 6", Request(start=True, timeout_s=6, force=True)),
    ],
)
def test_start_and_abort(words: str, request_: Request) -> None:
    assert parse(words.split()) == request_


@pytest.mark.parametrize(
    "words",
    ["", "-F", "-t 5", "-a -F", "-s -a", "-s -t", "-s -t -F", "-s -t 3601", "-s -t 1.5",
     "-s -t \N{ARABIC-INDIC DIGIT FIVE}", "-s -v 2", "-c x", "-f x", "-S"],
)  # fmt: skip
def test_anything_else_is_refused(words: str) -> None:
    with pytest.raises(UsageError):
        parse(words.split())
