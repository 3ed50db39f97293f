"""Whatever a frontend writes, it is a checked number or netback's error."""

from errno import EINVAL, ENOENT

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenvirt.abi.ids import Port
from xenvirt.vif import front_keys, queues
from xenvirt.vif.front_keys import QueueKeys
from xenvirt.xenbus.device import DeviceFatalError

Keys = dict[str, str | None]

MAX = 8

GOOD: Keys = {
    **dict.fromkeys(front_keys.names(1)),
    "tx-ring-ref": "8",
    "rx-ring-ref": "9",
    "event-channel": "2",
}


def queue(number: int) -> QueueKeys:
    first = 8 + 514 * number
    return QueueKeys(first, first + 1, Port(2 + 2 * number), Port(3 + 2 * number))


def several(count: int) -> Keys:
    """What a frontend with as many queues has written."""
    return {
        **dict.fromkeys(front_keys.names(count)),
        **front_keys.write([queue(number) for number in range(count)]),
    }


def test_the_least_that_a_frontend_must_write() -> None:
    (keys,) = front_keys.parse(GOOD, "/fe", 1).queues
    assert (keys.tx_ring_ref, keys.rx_ring_ref) == (8, 9)
    assert (keys.event_channel_tx, keys.event_channel_rx) == (2, 2)


def test_split_event_channels_count_only_when_both_are_there() -> None:
    both = {**GOOD, "event-channel-tx": "5", "event-channel-rx": "6"}
    (keys,) = front_keys.parse(both, "/fe", 1).queues
    assert (keys.event_channel_tx, keys.event_channel_rx) == (5, 6)
    one = {**both, "event-channel-rx": None}
    (keys,) = front_keys.parse(one, "/fe", 1).queues
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
        front_keys.parse({**GOOD, key: value}, "/fe", 1)
    assert caught.value.number == number


@pytest.mark.parametrize("text", ["0", "9", "4294967295", "-1", "abc", "", "1 ", "٣"])
def test_queues_out_of_range(text: str) -> None:
    with pytest.raises(DeviceFatalError) as caught:
        front_keys.parse_count(text, MAX)
    assert caught.value.number == EINVAL
    assert caught.value.what == (
        f"guest requested {text} queues, but valid range is 1 - 8."
    )


@pytest.mark.parametrize(("text", "count"), [(None, 1), ("1", 1), ("02", 2), ("8", 8)])
def test_queues_within_what_was_offered(text: str | None, count: int) -> None:
    assert front_keys.parse_count(text, MAX) == count


def test_keys_have_netfront_s_order_and_form() -> None:
    assert front_keys.write([queue(0), queue(1)]) == {
        "queue-0/tx-ring-ref": "8",
        "queue-0/rx-ring-ref": "9",
        "queue-0/event-channel-tx": "2",
        "queue-0/event-channel-rx": "3",
        "queue-1/tx-ring-ref": "522",
        "queue-1/rx-ring-ref": "523",
        "queue-1/event-channel-tx": "4",
        "queue-1/event-channel-rx": "5",
    }
    assert list(front_keys.write([queue(0)])) == [*front_keys.RING_NAMES[:4]]
    one_channel = QueueKeys(8, 9, Port(2), Port(2))
    assert list(front_keys.write([one_channel]))[2:] == ["event-channel"]


@pytest.mark.parametrize("count", range(1, MAX + 1))
def test_what_is_written_is_what_is_read(count: int) -> None:
    found = front_keys.parse(several(count), "/fe", count).queues
    assert list(found) == [queue(number) for number in range(count)]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("had", [1, 2, 8])
def test_what_an_earlier_connect_left_goes(count: int, had: int) -> None:
    keys = {"multi-queue-num-queues": str(count), **several(count)}
    written = {key for key, value in keys.items() if value is not None}
    there = {key.partition("/")[0] for key in front_keys.write([queue(0)] * had)}
    left = there - front_keys.others(written) - written
    assert left == set()
    assert not front_keys.others(written) & written


def test_flat_keys_do_not_stand_in_for_a_queue_s() -> None:
    keys = several(2) | GOOD | {"queue-1/rx-ring-ref": None}
    with pytest.raises(DeviceFatalError) as caught:
        front_keys.parse(keys, "/fe", 2)
    assert (caught.value.number, caught.value.what) == (
        ENOENT, "reading /fe/queue-1/ring-ref",
    )  # fmt: skip


def test_a_queue_that_is_left_out() -> None:
    keys = several(3) | {f"queue-1/{name}": None for name in front_keys.RING_NAMES}
    with pytest.raises(DeviceFatalError) as caught:
        front_keys.parse(keys, "/fe", 3)
    assert (caught.value.number, caught.value.what) == (
        ENOENT, "reading /fe/queue-1/event-channel(-tx/rx)",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"queue-1/tx-ring-ref": "523"}, "523/523 port tx 4 rx 5"),
        ({"queue-1/tx-ring-ref": "8"}, "8/523 port tx 4 rx 5"),
        ({"queue-1/rx-ring-ref": "8"}, "522/8 port tx 4 rx 5"),
        ({"queue-1/event-channel-tx": "2"}, "522/523 port tx 2 rx 5"),
        ({"queue-1/event-channel-rx": "2"}, "522/523 port tx 4 rx 2"),
    ],
)
def test_a_ring_or_a_port_that_is_used_twice(keys: Keys, says: str) -> None:
    with pytest.raises(DeviceFatalError) as caught:
        front_keys.parse(several(2) | keys, "/fe", 2)
    assert caught.value.number == EINVAL
    assert caught.value.what == f"mapping shared-frames {says}"


def test_both_rings_of_the_only_queue_in_one_page() -> None:
    with pytest.raises(DeviceFatalError, match="mapping shared-frames 9/9 port tx 2"):
        front_keys.parse({**GOOD, "tx-ring-ref": "9"}, "/fe", 1)


_NUMBERS = st.integers(0, 20).map(str) | st.text(max_size=12)


@given(
    st.integers(1, MAX).flatmap(
        lambda count: st.tuples(
            st.just(count),
            st.dictionaries(
                st.sampled_from(front_keys.names(count)), _NUMBERS, max_size=4
            ),
        )
    )
)
def test_any_text_is_either_taken_or_refused(
    case: tuple[int, dict[str, str]],
) -> None:
    count, written = case
    try:
        found = front_keys.parse(several(count) | written, "/fe", count).queues
    except DeviceFatalError:
        return
    refs = [ref for its in found for ref in (its.tx_ring_ref, its.rx_ring_ref)]
    assert len(set(refs)) == 2 * count
    ports = {p for its in found for p in (its.event_channel_tx, its.event_channel_rx)}
    assert len(ports) >= count
    assert all(0 <= number < 1 << 32 for number in (*refs, *ports))


@given(st.none() | st.text() | st.integers().map(str))
def test_any_number_of_queues_is_either_taken_or_refused(text: str | None) -> None:
    try:
        count = front_keys.parse_count(text, MAX)
    except DeviceFatalError:
        return
    assert 1 <= count <= MAX


@pytest.mark.parametrize(
    ("value", "count"),
    [(None, None), ("4", 4), ("1", 1), ("0", 1), ("-2", 1), ("x", 1), ("", 1)],
)
def test_what_a_backend_offers(value: str | None, count: int | None) -> None:
    assert queues.offered({"multi-queue-max-queues": value}) == count


@pytest.mark.parametrize("text", ["0", "9", "-1", "two", "", "1" * 40])
def test_a_limit_of_ours_that_cannot_be(text: str) -> None:
    with pytest.raises(DeviceFatalError, match=r"^x-queues .* is not within 1\.\.8$"):
        queues.limit(text)


def test_without_a_limit_there_is_a_queue_for_each_cpu_that_it_may_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert queues.limit("3") == 3
    for cpus, count in ((1, 1), (2, 2), (8, 8), (64, 8)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cpus=cpus: range(cpus))
        assert queues.limit(None) == count
