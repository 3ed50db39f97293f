"""Whatever a frontend writes, it is a checked number or netback's error."""

from errno import EINVAL, ENOENT

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenvirt.vif import front_keys
from xenvirt.xenbus.device import DeviceFatalError

GOOD: dict[str, str | None] = {
    **dict.fromkeys(front_keys.NAMES),
    "tx-ring-ref": "8",
    "rx-ring-ref": "9",
    "event-channel": "2",
}


def test_the_least_that_a_frontend_must_write() -> None:
    keys = front_keys.parse(GOOD, "/fe")
    assert (keys.tx_ring_ref, keys.rx_ring_ref) == (8, 9)
    assert (keys.event_channel_tx, keys.event_channel_rx) == (2, 2)


def test_split_event_channels_count_only_when_both_are_there() -> None:
    both = {**GOOD, "event-channel-tx": "5", "event-channel-rx": "6"}
    keys = front_keys.parse(both, "/fe")
    assert (keys.event_channel_tx, keys.event_channel_rx) == (5, 6)
    keys = front_keys.parse({**both, "event-channel-rx": None}, "/fe")
    assert (keys.event_channel_tx, keys.event_channel_rx) == (2, 2)


@pytest.mark.parametrize("key", ["tx-ring-ref", "rx-ring-ref", "event-channel"])
@pytest.mark.parametrize(
    ("value", "number"),
    [
        (None, ENOENT),
        ("", EINVAL),
        ("-1", EINVAL),
        ("0x8", EINVAL),
        ("4294967296", EINVAL),
        ("9" * 4000, EINVAL),
        ("٣", EINVAL),
    ],
)
def test_a_number_that_cannot_be(key: str, value: str | None, number: int) -> None:
    with pytest.raises(DeviceFatalError, match=r"^reading /fe/") as caught:
        front_keys.parse({**GOOD, key: value}, "/fe")
    assert caught.value.number == number


@pytest.mark.parametrize("queues", ["0", "2", "4294967295", "-1", "abc", ""])
def test_queues_out_of_range(queues: str) -> None:
    with pytest.raises(DeviceFatalError, match="valid range is 1 - 1"):
        front_keys.parse({**GOOD, "multi-queue-num-queues": queues}, "/fe")


@given(st.dictionaries(st.sampled_from(front_keys.NAMES), st.text()))
def test_any_text_is_either_taken_or_refused(
    written: dict[str, str],
) -> None:
    try:
        keys = front_keys.parse({**GOOD, **written}, "/fe")
    except DeviceFatalError:
        return
    assert 0 <= keys.tx_ring_ref < 1 << 32
    assert 0 <= keys.event_channel_tx < 1 << 32
    assert 0 <= keys.event_channel_rx < 1 << 32
