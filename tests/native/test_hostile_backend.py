"""What a backend must not answer, and what it costs.

Rows by their number in protocol.md 1.10 (Linux netfront) and 7.2 (R…).
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, NamedTuple

import pytest

from tests.native.frames import big_tcp, blank, payload, plain, tcp
from tests.native.scripted import ScriptedBack
from xenvirt.testing.slots import Extra, RxResponse, TxRequest, TxResponse, gso

MORE_DATA, EXTRA, BLANK = 4, 8, 2
IN_FLIGHT = 239


@pytest.fixture
def back(stack: ExitStack) -> ScriptedBack:
    return ScriptedBack(stack)


def fill_tx(back: ScriptedBack) -> list[int]:
    """Have so many requests in flight that the frontend must look at responses."""
    for seed in range(IN_FLIGHT + 1):
        back.end.tap.send(plain(seed=seed))
    while back.run_tx():
        pass
    ids = [
        packet[0].id for packet in back.tx_packets() if isinstance(packet[0], TxRequest)
    ]
    assert len(ids) == IN_FLIGHT
    return ids


def is_dead(back: ScriptedBack) -> bool:
    """Does neither direction move any more?"""
    back.rx.rsp_prod = back.rx_prod
    back.deliver(plain())
    back.end.tap.send(plain())
    back.run_tx()
    return back.end.tap.frames() == [] and back.tx_packets() == []


BAD_ANSWERS: Final[dict[str, tuple[Callable[[int], list[TxResponse]], str]]] = {
    "id 256": (
        lambda good: [TxResponse(256, 0)],
        "Response has incorrect id (256)",
    ),
    "id 65535": (
        lambda good: [TxResponse(good, 0), TxResponse(65535, -1)],
        "Response has incorrect id (65535)",
    ),
    "the same id twice": (
        lambda good: [TxResponse(good, 0), TxResponse(good, 0)],
        "Response for inactive request ({good})",
    ),
}


@pytest.mark.parametrize(("answers", "reason"), BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_r21_a_tx_response_that_cannot_be(
    back: ScriptedBack, answers: Callable[[int], list[TxResponse]], reason: str
) -> None:
    good = fill_tx(back)[0]
    back.answer(*answers(good))
    assert back.run_tx() == 0
    assert back.end.stats.broken() == reason.format(good=good)
    assert is_dead(back)


def test_r21_an_id_that_was_never_sent(back: ScriptedBack) -> None:
    unsent = (set(range(256)) - set(fill_tx(back))).pop()
    back.answer(TxResponse(unsent, 0))
    back.run_tx()
    assert back.end.stats.broken() == f"Response for inactive request ({unsent})"


@pytest.mark.parametrize("ahead", [IN_FLIGHT + 1, 257, 1 << 31, -1])
def test_r20_an_impossible_tx_rsp_prod(back: ScriptedBack, ahead: int) -> None:
    fill_tx(back)
    back.tx.rsp_prod = ahead
    back.run_tx()
    number = ahead % (1 << 32)
    assert back.end.stats.broken() == f"Illegal number of responses {number}"
    assert is_dead(back)


@pytest.mark.parametrize("ahead", [257, 1 << 31, -1])
def test_r20_an_impossible_rx_rsp_prod(back: ScriptedBack, ahead: int) -> None:
    back.deliver(plain())
    back.rx.rsp_prod = 1 + ahead
    back.run_rx()
    number = ahead % (1 << 32)
    assert back.end.stats.broken() == f"Illegal number of responses {number}"
    back.end.tap.received()
    assert is_dead(back)


def test_xsa_396_a_tx_page_still_mapped_at_its_response(
    back: ScriptedBack,
) -> None:
    number = fill_tx(back)[3]
    gref = back.end.buffers.tx_grefs[number]
    back.link.peer_table.map(gref, readonly=True)
    back.answer(TxResponse(number, 0))
    back.run_tx()
    expected = f"Grant still in use by backend domain (gref {gref})"
    assert back.end.stats.broken() == expected
    assert is_dead(back)


@pytest.mark.parametrize("slot", [0, 1, 2], ids=["first", "extra", "last"])
def test_xsa_396_an_rx_page_still_mapped_at_its_response(
    back: ScriptedBack, slot: int
) -> None:
    gref = back.end.buffers.rx_grefs[slot]
    back.link.peer_table.map(gref, readonly=False)
    back.respond(
        RxResponse(0, flags=EXTRA | MORE_DATA, status=60),
        gso(1448),
        RxResponse(2, status=60),
    )
    expected = f"Grant still in use by backend domain (gref {gref})"
    assert back.end.stats.broken() == expected
    assert back.end.tap.frames() == []
    assert is_dead(back)


@pytest.mark.parametrize("word", ["req_prod", "req_event", "rsp_event"])
@pytest.mark.parametrize("value", [0, 100, 1 << 31, -1])
def test_r3_the_frontend_goes_by_its_own_indices(
    back: ScriptedBack, word: str, value: int
) -> None:
    """From the other side: no word of the page but rsp_prod decides anything."""
    setattr(back.tx, word, value)
    setattr(back.rx, word, value)
    back.end.tap.send(plain(seed=1))
    back.run_tx()
    assert back.tx.req_prod == 1
    (packet,) = back.tx_packets()
    assert back.data(packet) == plain(seed=1)
    back.deliver(plain(seed=2))
    assert back.end.tap.frames() == [plain(seed=2)]
    assert back.rx.req_prod == 257


class Bad(NamedTuple):
    slots: list[RxResponse | Extra]
    counter: str


def chain(count: int, first: int = 300) -> list[RxResponse | Extra]:
    """A frame of `count` slots, `first` bytes in the first one."""
    sizes = [first] + [10] * (count - 1)
    return [
        RxResponse(n, 0, MORE_DATA if n < count - 1 else 0, size)
        for n, size in enumerate(sizes)
    ]


def first_with(
    flags: int, *extras: Extra, status: int = 60
) -> list[RxResponse | Extra]:
    return [RxResponse(0, 0, flags, status), *extras]


BAD: Final[dict[str, dict[str, Bad]]] = {
    "R22": {
        **{
            f"1.10, status {status}": Bad(
                [RxResponse(0, status=status)], "rx_bad_response"
            )
            for status in (-1, -3, -32768, 4097, 32767)
        },
        "1.10, offset 4095 + 2": Bad([RxResponse(0, 4095, 0, 2)], "rx_bad_response"),
        "offset 65535": Bad([RxResponse(0, 65535, 0, 60)], "rx_bad_response"),
        "a bad slot after a good one": Bad(
            [RxResponse(0, 0, MORE_DATA, 60), RxResponse(1, 0, 0, -1)],
            "rx_bad_response",
        ),
    },
    "R23": {
        "1.10, no response left for the extra": Bad(
            first_with(EXTRA), "rx_missing_extra"
        ),
        "the last extra says that another follows": Bad(
            first_with(EXTRA, gso(1448, flags=1)), "rx_missing_extra"
        ),
        **{
            f"1.10, extra type {number}": Bad(
                first_with(EXTRA, Extra(number)), "rx_bad_extra_type"
            )
            for number in (0, 5, 6, 255)
        },
    },
    "R24": {
        "1.10, more_data and then nothing": Bad(
            [RxResponse(0, 0, MORE_DATA, 60)], "rx_need_more_slots"
        ),
        "1.10, 19 slots, the first one large": Bad(
            chain(19, first=257), "rx_too_many_slots"
        ),
        "1.10, 20 slots": Bad(chain(20, first=256), "rx_too_many_slots"),
        "200 slots": Bad(chain(200), "rx_too_many_slots"),
    },
    "R25": {
        "1.10, GSO size 0": Bad(first_with(EXTRA | BLANK, gso(0)), "rx_bad_gso"),
        **{
            f"1.10, GSO type {number}": Bad(
                first_with(EXTRA | BLANK, gso(1448, number)), "rx_bad_gso"
            )
            for number in (0, 3, 9)
        },
        "GSO on what is not TCP": Bad(
            first_with(EXTRA | BLANK, gso(1448)), "rx_csum_unparsable"
        ),
    },
    "R26": {
        f"1.10, a packet of {size} bytes": Bad(
            [RxResponse(0, status=size)], "rx_bad_size"
        )
        for size in (0, 1, 13)
    },
    "no row": {
        "csum_blank on what is not IP": Bad(first_with(BLANK), "rx_csum_unparsable"),
    },
}


def bad(row: str) -> Callable[..., pytest.MarkDecorator]:
    return pytest.mark.parametrize("case", BAD[row].values(), ids=BAD[row])


def is_dropped_and_its_buffers_posted_again(back: ScriptedBack, case: Bad) -> None:
    for index in range(len(case.slots)):
        back.write_page(index, plain())
    back.respond(*case.slots)
    assert back.end.all_counted() == {"rx_dropped": 1, case.counter: 1}
    assert back.end.stats.broken() is None
    assert back.rx.req_prod == 256 + len(case.slots)
    back.deliver(plain(seed=1))
    assert back.end.tap.frames() == [plain(seed=1)]


@bad("R22")
def test_r22_a_size_that_cannot_be(back: ScriptedBack, case: Bad) -> None:
    is_dropped_and_its_buffers_posted_again(back, case)


@bad("R23")
def test_r23_a_bad_extra(back: ScriptedBack, case: Bad) -> None:
    is_dropped_and_its_buffers_posted_again(back, case)


@bad("R24")
def test_r24_too_many_slots_or_too_few(back: ScriptedBack, case: Bad) -> None:
    is_dropped_and_its_buffers_posted_again(back, case)


@bad("R25")
def test_r25_segments_that_cannot_be(back: ScriptedBack, case: Bad) -> None:
    is_dropped_and_its_buffers_posted_again(back, case)


@bad("R26")
def test_r26_less_than_an_ethernet_header(back: ScriptedBack, case: Bad) -> None:
    is_dropped_and_its_buffers_posted_again(back, case)


@bad("no row")
def test_a_blank_checksum_that_cannot_be_found(back: ScriptedBack, case: Bad) -> None:
    is_dropped_and_its_buffers_posted_again(back, case)


def test_r23_a_long_chain_of_extras_ends_where_it_says(back: ScriptedBack) -> None:
    frame, vnet = big_tcp(4, 3000)
    back.write_page(0, frame)
    back.respond(
        RxResponse(0, 0, EXTRA | BLANK, 3000),
        *(gso(500, flags=1) for _ in range(200)),
        gso(1448),
    )
    (received,) = back.end.tap.received()
    assert received == (vnet, frame)


def test_a_frame_of_more_than_64_kib_breaks_nothing(back: ScriptedBack) -> None:
    """19 slots may be full pages, but a receiver's IP length never covers them."""
    headers = blank(tcp(4, 10))[0]
    pages = [payload(4096, seed) for seed in range(18)]
    for index, page in enumerate([headers, *pages]):
        back.write_page(index, page)
    sizes = [len(headers)] + [4096] * 18
    back.respond(
        *(
            RxResponse(
                n, 0, (MORE_DATA if n < 18 else 0) | (BLANK if n == 0 else 0), size
            )
            for n, size in enumerate(sizes)
        )
    )
    assert back.end.stats.broken() is None
    back.end.tap.received()
    back.deliver(plain(seed=1))
    assert back.end.tap.frames() == [plain(seed=1)]
