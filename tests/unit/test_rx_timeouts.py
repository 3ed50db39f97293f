"""How long frames wait for a guest without RX buffers: keys of the backend."""

import pytest

from xenvirt.vif.rx_timeouts import parse
from xenvirt.xenbus.device import DeviceFatalError


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("4294967295", 2**32 - 1)])
def test_milliseconds(text: str, value: int) -> None:
    assert parse("key", text) == value


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "key  is not a number"),
        ("-1", "key -1 is not a number"),
        ("10s", "key 10s is not a number"),
        ("\u0661", "is not a number"),
        ("4294967296", "key 4294967296 is more than 4294967295"),
        ("9" * 5000, "is not a number"),
    ],
)
def test_anything_else_is_fatal_to_the_vif(text: str, error: str) -> None:
    with pytest.raises(DeviceFatalError, match=error) as caught:
        parse("key", text)
    assert caught.value.number == 22
