"""What is different where a backend copies payload, as on Xen: refused grants.

A frame whose page is refused is lost, as it is with Linux netback, and its slot gets
the grant's status. Nothing is held between two batches.
"""

from contextlib import ExitStack

import pytest

from tests.native.frames import big_tcp, plain
from tests.native.helpers import Link
from tests.native.processes import forked, until
from tests.native.scripted import ScriptedFront
from xenvirt.testing.slots import RxResponse, TxRequest, TxResponse

OKAY, ERROR = 0, -1
READING = 8
GENERAL_ERROR, BAD_GNTREF = -1, -3
NEVER_GRANTED, BEYOND_THE_TABLE = 2000, 5 * 512


@pytest.fixture
def front(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> ScriptedFront:
    monkeypatch.setattr(Link, "copying", True)
    return ScriptedFront(stack)


@pytest.mark.parametrize(
    ("gref", "status"),
    [(NEVER_GRANTED, GENERAL_ERROR), (BEYOND_THE_TABLE, BAD_GNTREF)],
)
def test_a_refused_rx_page_costs_its_frame_alone(
    front: ScriptedFront, gref: int, status: int
) -> None:
    front.post_page(front.link.share()._replace(gref=gref))
    front.post(40)
    for seed in range(3):
        front.end.tap.send(plain(seed=seed))
    assert front.run_rx() == 3
    first, *others = front.rx_frames()
    assert first.slots == [RxResponse(0, 0, 0, status)]
    assert [frame.data for frame in others] == [plain(seed=1), plain(seed=2)]
    assert front.end.all_counted()["rx_bad_gref"] == 1
    assert front.end.all_counted()["rx_packets"] == 2
    assert front.end.stats.broken() is None


def test_a_refused_page_within_a_chain_is_said_in_its_own_slot(
    front: ScriptedFront,
) -> None:
    front.post(2)
    front.post_page(front.link.share()._replace(gref=NEVER_GRANTED))
    front.post(40)
    front.end.tap.send(plain(3 * 4096))
    front.end.tap.send(plain(seed=1))
    front.run_rx()
    chain, good = front.rx_frames()
    assert [slot.status for slot in chain.slots if isinstance(slot, RxResponse)] == [
        4096,
        4096,
        GENERAL_ERROR,
    ]
    assert good.data == plain(seed=1)


def test_gso_frames_take_the_slots_that_they_need_and_no_more(
    front: ScriptedFront,
) -> None:
    front.post(40)
    for _ in range(2):
        front.end.tap.send(*big_tcp(4, 9000))
    front.run_rx()
    assert [len(frame.slots) for frame in front.rx_frames()] == [4, 4]
    assert front.rx.rsp_prod == 8


def test_a_refused_tx_page_costs_its_packet_alone(front: ScriptedFront) -> None:
    good = [TxRequest(front.page_with(plain(seed=n)), id=n, size=60) for n in range(3)]
    good[1] = good[1]._replace(gref=NEVER_GRANTED)
    assert front.send(*good) == [
        TxResponse(0, OKAY),
        TxResponse(1, ERROR),
        TxResponse(2, OKAY),
    ]
    assert front.end.tap.frames() == [plain(seed=0), plain(seed=2)]


def test_packets_before_a_malformed_one_are_answered(front: ScriptedFront) -> None:
    good = [TxRequest(front.page_with(plain(seed=n)), id=n, size=60) for n in range(3)]
    good[2] = good[2]._replace(offset=4090)
    assert front.send(*good) == [TxResponse(0, OKAY), TxResponse(1, OKAY)]
    assert front.end.stats.broken() == (
        "Cross page boundary, txreq.offset: 4090, size: 60"
    )


def test_what_a_full_tap_left_is_not_taken_from_the_frontend_again(
    front: ScriptedFront,
) -> None:
    requests = [
        TxRequest(front.page_with(plain(seed=n)), id=n, size=60) for n in range(3)
    ]
    front.end.tap.fill()
    assert front.send(*requests) == []
    for request in requests:
        front.link.memory[8 * request.gref : 8 * request.gref + 8] = bytes(8)
    front.end.tap.received()
    front.run_tx()
    assert front.responses() == [TxResponse(n, OKAY) for n in range(3)]
    assert front.end.tap.frames() == [plain(seed=n) for n in range(3)]


def test_no_grant_but_the_rings_is_in_use_between_two_batches(
    front: ScriptedFront,
) -> None:
    front.post(20)
    front.end.tap.send(plain())
    front.run_rx()
    front.send_frame(plain())
    assert front.link.in_use() == [front.tx_page.gref, front.rx_page.gref]


def test_xsa_230_a_page_is_in_use_while_it_is_copied(front: ScriptedFront) -> None:
    page = front.link.share(readonly=True)
    page.data[:] = plain(4096)
    entry, seen = front.link.entry(page.gref), front.link.share().data

    def watch() -> None:
        while not entry[0] & READING:
            pass
        seen[0] = 1
        while True:
            pass

    with forked(watch):
        for number in until(lambda: seen[0] == 1, at_least=1):
            front.send(TxRequest(page.gref, id=number % 256, size=4096))
            front.end.tap.received()
            assert not entry[0] & READING
    assert seen[0] == 1
