"""Attacks on whole processes, by the advisory or row that they are about.

Slot by slot the hops are tried in tests/native; here is what the driver's process
makes of it: the error node, the state, the log, and that it lives on.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.links import Link, LinkMaker
from tests.integration.witness import answers
from tests.native.bad_requests import FATAL, REFUSED, Fatal
from tests.native.frames import plain
from xenvirt.abi.xenbus import XenbusState
from xenvirt.testing.peer import (
    Backend,
    Frontend,
    NetifRsp,
    RxResponse,
    TxRequest,
    TxResponse,
    pack,
    rewriting,
)
from xenvirt.toolstack import vifs

pytestmark = pytest.mark.root

OTHER = "10.219.2.2"


@pytest.fixture(scope="module")
def other(module_links: LinkMaker) -> Link:
    """A good link, which must not notice any of it."""
    return module_links.up("good", "--ip", f"{OTHER}/24", "--peer-ip", "10.219.2.1/24")


@pytest.fixture
def run_dir(module_links: LinkMaker, other: Link) -> Iterator[Path]:
    ends = module_links.ends()
    yield module_links.run_dir
    assert answers(other, OTHER)
    assert {end: module_links.ends()[end] for end in ends} == ends, "an end has died"


def good_frame_crosses(front: Frontend) -> bool:
    return [each.status for each in front.queues[0].send_frame(plain())] == [0]


def connects_again(front: Frontend) -> None:
    front.start_over()
    front.connect()
    assert good_frame_crosses(front)


def descriptors(links: LinkMaker, role: str, domid: int) -> int:
    return len(os.listdir(f"/proc/{links.ends()[role, domid]}/fd"))


@contextmanager
def notified_without_end(notify: Callable[[], None]) -> Iterator[None]:
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            notify()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


# ---- What the backend makes of a bad frontend ----

FATAL_CASES = {f"{row}, {name}": c for row in FATAL for name, c in FATAL[row].items()}
REFUSED_CASES = {
    f"{row}, {name}": case for row in REFUSED for name, case in REFUSED[row].items()
}


@pytest.mark.parametrize("case", FATAL_CASES.values(), ids=FATAL_CASES)
def test_xsa_374_what_stops_the_device_is_told_and_it_connects_again(
    front: Frontend, case: Fatal
) -> None:
    queue = front.connect()
    assert queue.send(*case.build(queue)) == []
    assert front.driver.closed() == f"5 {case.reason}"
    assert any(line.endswith(case.reason) for line in front.driver.log())
    connects_again(front)


def test_what_costs_a_packet_costs_no_more(front: Frontend) -> None:
    queue = front.connect()
    with front.driver.tap() as tap:
        for name, case in REFUSED_CASES.items():
            answers = queue.send(*case.build(queue))
            assert [each.status for each in answers] == case.statuses, name
        assert queue.send_frame(plain()) == [TxResponse(0, NetifRsp.OKAY)]
        assert tap.expect(1) == [plain()]
    assert front.driver.state() is XenbusState.CONNECTED


@pytest.mark.parametrize("ring", ["tx", "rx"])
@pytest.mark.parametrize("ahead", [257, 1 << 31, -1], ids=["257", "2^31", "R1"])
def test_xsa_39_r1_a_producer_index_that_cannot_be(
    front: Frontend, ring: str, ahead: int
) -> None:
    queue = front.connect()
    getattr(queue, ring).req_prod = ahead
    queue.notify()
    assert "Impossible number of" in front.driver.closed()
    connects_again(front)


def test_xsa_155_a_slot_that_is_rewritten_while_it_is_read(front: Frontend) -> None:
    queue = front.connect()
    gref = queue.page_with(plain(100))
    # Where a response is read for a request, its id is no gref.
    good, short = (TxRequest(gref, 0, 0, 0xFFFF, size) for size in (100, 60))
    slots = queue.tx.page[64 : 64 + 256 * 12]
    with (
        front.driver.tap() as tap,
        rewriting(slots, [pack(good) * 256, pack(short) * 256]),
    ):
        for _ in range(100):
            queue.tx_prod += 50
            queue.push()
            assert len(queue.answered(50)) == 50
        counted = front.driver.counters()
        frames = tap.expect(counted["tx_packets"])
    assert {*frames} == {plain(100), plain(100)[:60]}
    assert counted["tx_packets"] + counted.get("tx_dropped", 0) == 5000
    assert counted["tx_bytes"] == sum(map(len, frames))


def test_xsa_331_441_ports_close_while_events_fly(
    module_links: LinkMaker, front: Frontend
) -> None:
    front.connect()
    open_before = descriptors(module_links, "backend", 0)
    for _ in range(20):
        queue = front.queues[0]
        with notified_without_end(queue.notify):
            for channel in queue.channels:
                front.domain.close_port(channel)
        connects_again(front)
    assert descriptors(module_links, "backend", 0) == open_before


def test_xsa_350_connected_and_closing_in_quick_turns(
    module_links: LinkMaker, front: Frontend
) -> None:
    front.connect()
    open_before = descriptors(module_links, "backend", 0)
    for _ in range(30):
        for state in "514":
            front.write({"state": state})
    # The last of them, and the only one that leaves an error.
    front.write({"state": "2"})
    # Which it may come to in Closing, so that no change of its own nodes tells of it.
    store, error_path = front.host.store, front.driver.error_path
    store.wait_for(error_path, lambda text: text is not None, timeout_s=10)
    front.driver.closed()
    connects_again(front)
    assert descriptors(module_links, "backend", 0) == open_before


def test_xsa_374_a_device_that_was_stopped_is_removed_like_any_other(
    front: Frontend,
) -> None:
    queue = front.connect()
    queue.tx.req_prod = 1 << 31
    queue.notify()
    front.driver.closed()
    front.write({"state": "6"})
    assert vifs.detach(front.host, front.paths, timeout_s=5)


def test_r15_a_grant_that_is_ended_or_wiped_in_flight(front: Frontend) -> None:
    queue = front.connect()
    queue.post(40)
    with front.driver.tap() as tap:
        tap.send(plain())
        queue.receive()
        assert not front.pages.end(queue.tx_page)
        for page in (queue.tx_page, queue.rx_page, *queue.posted.values()):
            front.pages.entry(page.gref)[:] = bytes(8)
        assert good_frame_crosses(front)
        assert tap.expect(1) == [plain()]
    connects_again(front)


# ---- What the frontend makes of a bad backend ----


def fill(back: Backend) -> list[int]:
    """Have the frontend send until it must look at responses; the ids in flight."""
    queue = back.queues[0]
    with back.driver.tap() as tap:
        for seed in range(240):
            tap.send(plain(seed=seed))
        packets = queue.receive(239)
    slots = [slot for packet in packets for slot in packet]
    return [slot.id for slot in slots if isinstance(slot, TxRequest)]


BAD_ANSWERS: dict[str, tuple[Callable[[int], list[TxResponse]], str]] = {
    "id 256": (lambda good: [TxResponse(256)], "Response has incorrect id (256)"),
    "id 65535": (lambda good: [TxResponse(65535)], "Response has incorrect id (65535)"),
    "the same id twice": (
        lambda good: [TxResponse(good), TxResponse(good)],
        "Response for inactive request ({good})",
    ),
}


@pytest.mark.parametrize("case", BAD_ANSWERS)
def test_r21_a_bad_answer_is_told(back: Backend, case: str) -> None:
    answers, reason = BAD_ANSWERS[case]
    queue = back.connect()
    good = fill(back)[0]
    queue.answer(*answers(good))
    assert back.driver.closed() == f"5 {reason.format(good=good)}"


@pytest.mark.parametrize("ahead", [257, 1 << 31, -1])
def test_r20_an_impossible_rsp_prod_is_told(back: Backend, ahead: int) -> None:
    queue = back.connect()
    queue.rx.rsp_prod = ahead
    queue.notify()
    number = ahead % (1 << 32)
    assert back.driver.closed() == f"5 Illegal number of responses {number}"


def test_xsa_396_a_page_that_is_kept_is_told(back: Backend) -> None:
    queue = back.connect()
    gref = queue.request(0).gref
    queue.table.map(gref, readonly=False)
    queue.respond(RxResponse(0, status=60))
    assert (
        back.driver.closed() == f"5 Grant still in use by backend domain (gref {gref})"
    )


@pytest.mark.parametrize("moment", ["before it is offered", "before it is accepted"])
def test_xsa_465_a_frontend_goes_whose_backend_never_came(
    back: Backend, moment: str
) -> None:
    if moment == "before it is accepted":
        back.offer()
        back.driver.wait_for(XenbusState.CONNECTED)
    back.write({"state": "6", "hotplug-status": None})
    assert vifs.detach(back.host, back.paths, timeout_s=5)
    assert back.driver.error() is None


def test_a_backend_that_cannot_copy_is_told(back: Backend) -> None:
    back.offer({"feature-rx-copy": None})
    assert back.driver.closed() == "19 backend does not support copying receive path"
