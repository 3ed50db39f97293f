"""What a frontend must not send, and what it costs it (TX ring)."""

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.native.bad_requests import FATAL, REFUSED, Fatal, Refused
from tests.native.frames import plain
from tests.native.scripted import ScriptedFront
from xenvirt.testing.slots import TxResponse

pytestmark = pytest.mark.usefixtures("payload")


def fatal(row: str) -> Callable[..., pytest.MarkDecorator]:
    return pytest.mark.parametrize("case", FATAL[row].values(), ids=FATAL[row])


def refused(row: str) -> Callable[..., pytest.MarkDecorator]:
    return pytest.mark.parametrize("case", REFUSED[row].values(), ids=REFUSED[row])


def stops_the_device(stack: ExitStack, case: Fatal) -> None:
    front = ScriptedFront(stack)
    assert front.send_frame(plain(seed=1)) == [TxResponse(0, 0)]
    assert front.send(*case.build(front)) == []
    assert front.end.stats.broken() == case.reason
    assert front.send_frame(plain(seed=2)) == []
    assert front.end.stats.broken() == case.reason
    assert front.end.tap.frames() == [plain(seed=1)]
    assert front.end.queue.arm() is False


def costs_that_packet(stack: ExitStack, case: Refused) -> None:
    front = ScriptedFront(stack)
    answers = front.send(*case.build(front))
    assert [answer.status for answer in answers] == case.statuses
    assert front.end.stats.broken() is None
    slots = case.statuses.count(-1) or 1
    assert front.end.all_counted() == {
        "tx_slots": slots,
        "tx_dropped": 1,
        case.counter: 1,
    }
    assert front.link.in_use() == [front.tx_page.gref, front.rx_page.gref]
    assert front.send_frame(plain(seed=2)) == [TxResponse(0, 0)]
    assert front.end.tap.frames() == [plain(seed=2)]


@fatal("R4")
def test_r4_an_extra_that_does_not_follow(stack: ExitStack, case: Fatal) -> None:
    stops_the_device(stack, case)


@fatal("R5")
def test_r5_an_extra_of_no_known_type(stack: ExitStack, case: Fatal) -> None:
    stops_the_device(stack, case)


@fatal("R7")
def test_r7_a_gso_size_or_type_that_cannot_be(stack: ExitStack, case: Fatal) -> None:
    stops_the_device(stack, case)


@fatal("R8")
def test_r8_a_slot_that_crosses_its_page(stack: ExitStack, case: Fatal) -> None:
    stops_the_device(stack, case)


@fatal("R11")
def test_r11_more_data_without_a_request(stack: ExitStack, case: Fatal) -> None:
    stops_the_device(stack, case)


@fatal("XSA-432")
def test_xsa_432_more_slots_than_any_frontend_sends(
    stack: ExitStack, case: Fatal
) -> None:
    stops_the_device(stack, case)


@pytest.mark.parametrize("start", [0, 0xFFFFFFF0])
@pytest.mark.parametrize(
    "ahead", [257, 301, 1 << 31, -1], ids=["257", "301", "2^31", "R1"]
)
def test_xsa_39_r1_an_impossible_req_prod(
    stack: ExitStack, start: int, ahead: int
) -> None:
    front = ScriptedFront(stack, start=start)
    front.tx.req_prod = front.tx_prod + ahead
    front.run_tx()
    prod = (start + ahead) % (1 << 32)
    assert front.end.stats.broken() == (
        f"Impossible number of requests. req_prod {prod}, req_cons {start}, size 256"
    )
    assert front.responses() == []
    front.tx.req_prod = front.tx_prod
    assert front.send_frame(plain()) == []


@refused("R9")
def test_r9_slots_of_more_than_the_whole(stack: ExitStack, case: Refused) -> None:
    costs_that_packet(stack, case)


@refused("R10")
def test_r10_less_than_an_ethernet_header(stack: ExitStack, case: Refused) -> None:
    costs_that_packet(stack, case)


@refused("R13")
def test_r13_a_gref_that_cannot_be(stack: ExitStack, case: Refused) -> None:
    costs_that_packet(stack, case)


@refused("XSA-362")
def test_xsa_362_a_grant_that_is_not_ours(stack: ExitStack, case: Refused) -> None:
    costs_that_packet(stack, case)


@refused("XSA-365")
def test_xsa_365_367_one_bad_gref_among_good_ones(
    stack: ExitStack, case: Refused
) -> None:
    costs_that_packet(stack, case)


@refused("XSA-432")
def test_xsa_432_more_slots_than_are_taken(stack: ExitStack, case: Refused) -> None:
    costs_that_packet(stack, case)


@refused("XSA-448")
def test_xsa_448_a_packet_of_empty_slots(stack: ExitStack, case: Refused) -> None:
    costs_that_packet(stack, case)


@refused("R18")
def test_r18_multicast_control_that_was_not_offered(
    stack: ExitStack, case: Refused
) -> None:
    costs_that_packet(stack, case)


@refused("R16")
def test_r16_a_blank_checksum_that_cannot_be_found(
    stack: ExitStack, case: Refused
) -> None:
    costs_that_packet(stack, case)


@refused("R17")
def test_r17_segments_that_cannot_be_cut(stack: ExitStack, case: Refused) -> None:
    costs_that_packet(stack, case)
