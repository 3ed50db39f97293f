"""Permission lists: their entries as text."""

import pytest

from xenvirt.errors import StoreError
from xenvirt.xenstore.perms import parse_perm


@pytest.mark.parametrize("text", ["n0", "r5", "w12", "b65535"])
def test_an_entry_survives_a_round_trip(text: str) -> None:
    assert str(parse_perm(text)) == text


@pytest.mark.parametrize("text", ["", "r", "x5", "5", "r-1", "r65536", "r5 ", "r²"])
def test_a_malformed_entry_is_refused(text: str) -> None:
    with pytest.raises(StoreError, match="EINVAL"):
        parse_perm(text)
