"""What a frontend must not post in the RX ring, nor offer as a ring at all.

Rows by their number in protocol.md 7.2 (R…), and in real-xen.md section 6 ("real").
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

import pytest

from tests.native.frames import plain
from tests.native.helpers import (
    BACK_DOMID,
    EVERYTHING,
    NR_GRANT_FRAMES,
    BackEnd,
    Channel,
    Link,
)
from tests.native.scripted import ScriptedFront
from xenvirt.testing.pages import Page
from xenvirt.testing.ring import Ring
from xenvirt.testing.slots import RxResponse, TxRequest

NR_GREFS = 512 * NR_GRANT_FRAMES


def unheard_of(link: Link) -> Page:
    return Page(NR_GREFS - 1, 0, link.page(0))


def out_of_range(link: Link) -> Page:
    return Page(NR_GREFS, 0, link.page(0))


def read_only(link: Link) -> Page:
    return link.share(readonly=True)


def frame_out_of_range(link: Link) -> Page:
    page = link.share()
    link.memory[8 * page.gref + 4 : 8 * page.gref + 8] = b"\xff" * 4
    return page


def of_another_domain(link: Link) -> Page:
    page = link.share()
    link.memory[8 * page.gref + 2] = BACK_DOMID + 1
    return page


BAD_GRANTS: Final[dict[str, tuple[Callable[[Link], Page], int]]] = {
    "real: a gref that was never granted": (unheard_of, -1),
    "real: a gref beyond the table": (out_of_range, -3),
    "a frame beyond memory": (frame_out_of_range, -3),
    "another domain's grant": (of_another_domain, -1),
}


def is_answered_and_no_frame_is_lost(
    stack: ExitStack, bad: Callable[[Link], Page], status: int
) -> None:
    front = ScriptedFront(stack)
    front.post_page(bad(front.link))
    front.post(40)
    front.end.tap.send(plain())
    front.run_rx()
    refused, delivered = front.rx_frames()
    assert refused.slots == [RxResponse(0, 0, 0, status)]
    assert delivered.slots == [RxResponse(1, 0, 0, 60)]
    assert delivered.data == plain()
    assert front.end.counted("rx_bad_gref", "rx_dropped") == {
        "rx_bad_gref": 1,
        "rx_dropped": 0,
    }


@pytest.mark.parametrize(("bad", "status"), BAD_GRANTS.values(), ids=BAD_GRANTS)
def test_xsa_362_a_bad_grant_is_answered_with_its_status(
    stack: ExitStack, bad: Callable[[Link], Page], status: int
) -> None:
    is_answered_and_no_frame_is_lost(stack, bad, status)


def test_r14_a_read_only_grant(stack: ExitStack) -> None:
    is_answered_and_no_frame_is_lost(stack, read_only, -1)


def test_xsa_365_requests_before_a_bad_one_are_given_back_in_their_order(
    stack: ExitStack,
) -> None:
    front = ScriptedFront(stack)
    front.post(2)
    front.post_page(out_of_range(front.link))
    front.post(20)
    front.end.tap.send(plain())
    front.run_rx()
    statuses = [received.slots[0] for received in front.rx_frames()]
    assert statuses == [
        RxResponse(0, 0, 0, -1),
        RxResponse(1, 0, 0, -1),
        RxResponse(2, 0, 0, -3),
        RxResponse(3, 0, 0, 60),
    ]


def test_xsa_367_a_ring_full_of_bad_grants_is_answered_and_ends(
    stack: ExitStack,
) -> None:
    front = ScriptedFront(stack)
    for _ in range(256):
        front.post_page(out_of_range(front.link))
    front.end.tap.send(plain())
    front.run_rx()
    assert len(front.rx_frames()) == 256
    assert front.end.stats.broken() is None
    front.post(20)
    front.run_rx()
    assert [received.data for received in front.rx_frames()] == [plain()]


@pytest.mark.parametrize("start", [0, 0xFFFFFFF0])
@pytest.mark.parametrize("ahead", [257, 1 << 31, -1], ids=["257", "2^31", "R1"])
def test_xsa_39_r1_an_impossible_req_prod(
    stack: ExitStack, start: int, ahead: int
) -> None:
    front = ScriptedFront(stack, start=start)
    front.rx.req_prod = front.rx_prod + ahead
    front.end.tap.send(plain())
    front.run_rx()
    prod = (start + ahead) % (1 << 32)
    assert front.end.stats.broken() == (
        f"Impossible number of RX requests. req_prod {prod}, req_cons {start}, size 256"
    )
    assert front.rx.rsp_prod == start
    front.rx.req_prod = front.rx_prod
    front.post(20)
    front.run_rx()
    assert front.rx_frames() == []


@pytest.mark.parametrize("prod", [0, 2], ids=["used", "mapped"])
def test_r1_requests_that_were_taken_cannot_be_taken_back(
    stack: ExitStack, prod: int
) -> None:
    front = ScriptedFront(stack)
    front.post(20)
    front.end.tap.send(plain())
    front.run_rx()
    front.rx.req_prod = prod
    front.end.tap.send(plain())
    front.run_rx()
    assert front.end.stats.broken() == (
        f"Impossible number of RX requests. req_prod {prod}, req_cons 1, size 256"
    )
    assert len(front.rx_frames()) == 1


@pytest.mark.parametrize("word", ["rsp_prod", "req_event"])
def test_r3_the_backend_goes_by_its_own_indices(stack: ExitStack, word: str) -> None:
    front = ScriptedFront(stack)
    front.post(40)
    for seed in range(2):
        setattr(front.rx, word, 200)
        front.end.tap.send(plain(seed=seed))
        front.run_rx()
    assert [received.data for received in front.rx_frames()] == [
        plain(seed=seed) for seed in range(2)
    ]


def test_r15_a_posted_page_cannot_be_taken_back(stack: ExitStack) -> None:
    front = ScriptedFront(stack)
    front.post(20)
    front.end.tap.send(plain())
    front.run_rx()
    used, posted = front.posted[0].gref, front.posted[1].gref
    assert front.link.table.end(used) is True
    assert front.link.table.end(posted) is False


def test_r15_an_entry_that_is_wiped_while_mapped_breaks_nothing(
    stack: ExitStack,
) -> None:
    front = ScriptedFront(stack)
    front.post(20)
    front.end.tap.send(plain())
    front.run_rx()
    for page in front.posted.values():
        front.link.memory[8 * page.gref : 8 * page.gref + 8] = bytes(8)
    front.end.tap.send(plain(seed=1))
    front.run_rx()
    assert [received.data for received in front.rx_frames()][1] == plain(seed=1)
    front.end.queue.close()
    assert front.link.in_use() == []


def test_closing_lets_go_of_everything(stack: ExitStack) -> None:
    front = ScriptedFront(stack)
    front.post(20)
    front.end.tap.send(plain())
    front.run_rx()
    assert len(front.link.in_use()) > 2
    front.end.queue.close()
    assert front.link.in_use() == []


@pytest.mark.parametrize("grefs", [(0, 9), (9, 0), (NR_GREFS, 9), (9, 0xFFFFFFFF)])
def test_xsa_361_362_a_ring_that_cannot_be_mapped_is_refused(
    stack: ExitStack, grefs: tuple[int, int]
) -> None:
    link = Link(stack)
    assert [link.share().gref for _ in range(2)] == [8, 9]
    with pytest.raises(OSError, match="Bad address"):
        BackEnd(stack, link, Channel(stack), grefs, EVERYTHING)
    assert link.in_use() == []


def test_xsa_362_a_read_only_ring_is_refused(stack: ExitStack) -> None:
    link = Link(stack)
    refs = link.share().gref, link.share(readonly=True).gref
    with pytest.raises(OSError, match="Bad address"):
        BackEnd(stack, link, Channel(stack), refs, EVERYTHING)
    assert link.in_use() == []


@pytest.mark.parametrize("ring", [0, 1], ids=["TX", "RX"])
@pytest.mark.parametrize(("ahead", "taken"), [(256, True), (257, False), (-1, False)])
def test_xsa_39_a_ring_whose_indices_cannot_be_is_refused(
    stack: ExitStack, ring: int, ahead: int, taken: bool
) -> None:
    link = Link(stack)
    pages = [link.share(), link.share()]
    for page in pages:
        Ring(page.data, 8).init(0xFFFFFFF0)
    Ring(pages[ring].data, 8).req_prod = 0xFFFFFFF0 + ahead
    refs = pages[0].gref, pages[1].gref
    if taken:
        BackEnd(stack, link, Channel(stack), refs, EVERYTHING)
        return
    with pytest.raises(OSError, match="Input/output error"):
        BackEnd(stack, link, Channel(stack), refs, EVERYTHING)
    assert link.in_use() == []


def test_r13_the_rings_own_page_may_be_sent(stack: ExitStack) -> None:
    front = ScriptedFront(stack)
    request = TxRequest(front.rx_page.gref, size=60)
    assert [answer.status for answer in front.send(request)] == [0]
    assert front.end.tap.frames() == [bytes(front.rx_page.data[:60])]


def test_r12_one_gref_and_one_id_in_all_slots(stack: ExitStack) -> None:
    front = ScriptedFront(stack)
    gref = front.page_with(plain(100))
    slots = [TxRequest(gref, 0, 4, 7, 100) for _ in range(18)]
    slots[0] = slots[0]._replace(size=1800)
    slots[-1] = slots[-1]._replace(flags=0)
    assert {tuple(answer) for answer in front.send(*slots)} == {(7, 0)}
    assert front.end.tap.frames() == [plain(100) * 18]
    assert gref not in front.link.in_use()
