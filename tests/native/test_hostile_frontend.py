"""What a frontend must not send, and what it costs it (TX ring).

Rows by their number in protocol.md 1.9 and 7.2 (R…), and in real-xen.md section 6
("real"), where Linux netback was seen to do the same.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, NamedTuple

import pytest

from tests.native.frames import arp, blank, plain, tcp, udp
from tests.native.helpers import NR_GRANT_FRAMES
from tests.native.scripted import ScriptedFront
from tests.native.wire import Extra, TxRequest, TxResponse, gso

pytestmark = pytest.mark.usefixtures("payload")

NR_GREFS = 512 * NR_GRANT_FRAMES
MORE_DATA, EXTRA, BLANK = 4, 8, 1

Slots = list[TxRequest | Extra]
Build = Callable[[ScriptedFront], Slots]


def one(size: int = 60, offset: int = 0, flags: int = 0, *extras: Extra) -> Build:
    """A request of one slot, then extras."""
    return lambda front: [
        TxRequest(front.page_with(plain()), offset, flags, 5, size),
        *extras,
    ]


def cut(sizes: list[int], total: int | None = None, last_flags: int = 0) -> Build:
    """A chain; `total` is what the first slot says instead of the sum."""

    def build(front: ScriptedFront) -> Slots:
        slots = front.chain(plain(sum(sizes)), sizes)
        if total is not None:
            slots[0] = slots[0]._replace(size=total)
        slots[-1] = slots[-1]._replace(flags=last_flags)
        return list(slots)

    return build


def second(**fields: int) -> Build:
    """A chain of two slots whose second one is changed."""

    def build(front: ScriptedFront) -> Slots:
        slots = front.chain(plain(160), [60, 100])
        return [slots[0], slots[1]._replace(**fields)]

    return build


FATAL: Final[dict[str, tuple[Build, str]]] = {
    "1.9 R4 real: no slot left for the extra": (
        one(60, 0, EXTRA),
        "Missing extra info",
    ),
    "R4: the last extra says that another follows": (
        one(60, 0, EXTRA, gso(1448, flags=1)),
        "Missing extra info",
    ),
    **{
        f"1.9 R5: extra type {number}": (
            one(60, 0, EXTRA, Extra(number)),
            f"Invalid extra type: {number}",
        )
        for number in (0, 5, 6, 77, 255)
    },
    "1.9 R11 real: more_data but no request follows": (
        one(60, 0, MORE_DATA),
        "Asked for 0 slots but exceeds this limit",
    ),
    "1.9 R11: more_data on the third and last slot": (
        cut([60, 10, 10], last_flags=MORE_DATA),
        "Asked for 2 slots but exceeds this limit",
    ),
    "1.9: 21 slots after the first": (
        cut([14] + [6] * 21),
        "Malicious frontend using 20 slots, threshold 20",
    ),
    "1.9 R8 real: the first slot crosses its page": (
        one(42, 4090),
        "Cross page boundary, txreq.offset: 4090, size: 42",
    ),
    "R8: by one byte": (
        one(14, 4083),
        "Cross page boundary, txreq.offset: 4083, size: 14",
    ),
    "R8: offset 65535": (
        one(60, 65535),
        "Cross page boundary, txreq.offset: 65535, size: 60",
    ),
    "1.9 R8 real: a later slot crosses its page": (
        second(offset=4000),
        "Cross page boundary, txp->offset: 4000, size: 100",
    ),
    "R8: a later slot at offset 4095, size 2": (
        second(offset=4095, size=2),
        "Cross page boundary, txp->offset: 4095, size: 2",
    ),
    "1.9: crossing in a packet that is being dropped": (
        second(offset=4000, size=4096),
        "Cross page boundary, txp->offset: 4000, size: 4096",
    ),
    "1.9 R7 real: GSO size 0": (
        one(60, 0, EXTRA | BLANK, gso(0)),
        "GSO size must not be zero.",
    ),
    **{
        f"1.9 R7 real: GSO type {number}": (
            one(60, 0, EXTRA | BLANK, gso(1448, number)),
            f"Bad GSO type {number}.",
        )
        for number in (0, 3, 9, 255)
    },
}


@pytest.mark.parametrize(("build", "reason"), FATAL.values(), ids=FATAL)
def test_what_no_frontend_sends_stops_the_device(
    stack: ExitStack, build: Build, reason: str
) -> None:
    front = ScriptedFront(stack)
    assert front.send_frame(plain(seed=1)) == [TxResponse(0, 0)]
    assert front.send(*build(front)) == []
    assert front.end.stats.broken() == reason
    assert front.send_frame(plain(seed=2)) == []
    assert front.end.stats.broken() == reason
    assert front.end.tap.frames() == [plain(seed=1)]
    assert front.end.queue.arm() is False


@pytest.mark.parametrize("start", [0, 0xFFFFFFF0])
@pytest.mark.parametrize(
    "ahead", [257, 301, 1 << 31, -1], ids=["257", "301", "2^31", "R1"]
)
def test_an_impossible_req_prod_stops_the_device(
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


class Refused(NamedTuple):
    build: Build
    statuses: list[int]
    counter: str = ""


def at_gref(gref: int) -> Build:
    return lambda front: [TxRequest(gref, size=60)]


def revoked(front: ScriptedFront) -> Slots:
    gref = front.page_with(plain())
    assert front.link.table.end(gref)
    return [TxRequest(gref, size=60)]


def to_another_domain(front: ScriptedFront) -> Slots:
    gref = front.page_with(plain())
    front.link.memory[8 * gref + 2] = 4
    return [TxRequest(gref, size=60)]


def tcp_frame(frame: bytes, flags: int, *extras: Extra) -> Build:
    def build(front: ScriptedFront) -> Slots:
        first, *others = front.chain(frame, [len(frame)], flags)
        return [first, *extras, *others]

    return build


def changed(frame: bytes, at: int, value: int) -> bytes:
    return frame[:at] + bytes([value]) + frame[at + 1 :]


BLANK4, BLANK6 = blank(tcp(4))[0], blank(tcp(6))[0]
IPV6_LOOP = changed(BLANK6, 20, 0)[:54] + bytes([0, 0, 0, 0, 0, 0, 0, 0]) * 40
MULTICAST = b"\x01\x00\x5e\x00\x00\xfb"

REFUSED: Final[dict[str, Refused]] = {
    **{
        f"1.9 R10 real: size {size}": Refused(one(size), [-1], "tx_bad_size")
        for size in (0, 1, 10, 13)
    },
    "XSA-448: every slot empty": Refused(cut([0, 0, 0]), [-1] * 3, "tx_bad_size"),
    **{
        f"1.9 R13 real: gref {gref}": Refused(
            at_gref(gref),
            [-1],
            "tx_bad_gref",
        )
        for gref in (0, 7, NR_GREFS - 1, NR_GREFS, 0xFFFFFFFF)
    },
    "R13: a revoked grant": Refused(revoked, [-1], "tx_bad_gref"),
    "R13: another domain's grant": Refused(to_another_domain, [-1], "tx_bad_gref"),
    "1.9 XSA-365: a bad gref in the middle": Refused(
        lambda front: [
            slot if number != 1 else slot._replace(gref=NR_GREFS)
            for number, slot in enumerate(front.chain(plain(90), [30] * 3))
        ],
        [-1] * 3,
        "tx_bad_gref",
    ),
    "1.9 real: 20 slots": Refused(cut([6] * 20), [-1] * 20, "tx_too_many_slots"),
    "1.9 real: 21 slots": Refused(cut([6] * 21), [-1] * 21, "tx_too_many_slots"),
    "1.9 R9 real: slots of more than the whole": Refused(
        cut([60, 50, 50], total=99), [-1] * 3, "tx_bad_slot_size"
    ),
    "1.9: a frame of 65,536 bytes": Refused(
        cut([4096] * 16, total=0), [-1] * 16, "tx_bad_slot_size"
    ),
    "1.9 R18: MCAST_ADD, which was not offered": Refused(
        one(0, 0, EXTRA, Extra(2, 0, MULTICAST)), [-1, 1], "tx_bad_multicast"
    ),
    "R18: MCAST_DEL": Refused(
        one(0, 0, EXTRA, Extra(3, 0, MULTICAST)), [-1, 1], "tx_bad_multicast"
    ),
    "R16 real: csum_blank on ARP": Refused(tcp_frame(arp(), BLANK), [0]),
    "R16: csum_blank on no IP at all": Refused(tcp_frame(plain(), BLANK), [0]),
    "R16: csum_blank on 14 bytes": Refused(tcp_frame(BLANK4[:14], BLANK), [0]),
    "R16: a truncated IPv4 header": Refused(tcp_frame(BLANK4[:33], BLANK), [0]),
    "R16: a truncated TCP header": Refused(tcp_frame(BLANK4[:53], BLANK), [0]),
    "R16: IPv4 options beyond the packet": Refused(
        tcp_frame(changed(BLANK4, 14, 0x4F), BLANK), [0]
    ),
    "R16: an IPv4 header of 4 bytes": Refused(
        tcp_frame(changed(BLANK4, 14, 0x41), BLANK), [0]
    ),
    "R16: TCP options beyond the packet": Refused(
        tcp_frame(changed(BLANK4, 46, 0xF0), BLANK), [0]
    ),
    "R16: IPv6 extension headers without end": Refused(
        tcp_frame(IPV6_LOOP, BLANK), [0]
    ),
    "R16: csum_blank on a fragment": Refused(
        tcp_frame(changed(BLANK4, 20, 0x20), BLANK), [0]
    ),
    "R17: GSO on UDP": Refused(
        tcp_frame(blank(udp(4))[0], BLANK | EXTRA, gso(1448)), [0, 1]
    ),
    "R17: GSO TCPV4 on IPv6": Refused(
        tcp_frame(BLANK6, BLANK | EXTRA, gso(1448)), [0, 1]
    ),
    "R17: GSO on a fragment": Refused(
        tcp_frame(changed(BLANK4, 20, 0x20), BLANK | EXTRA, gso(1448)), [0, 1]
    ),
    "R17: GSO with headers beyond the packet": Refused(
        tcp_frame(BLANK4[:50], BLANK | EXTRA, gso(1448)), [0, 1]
    ),
}


@pytest.mark.parametrize("row", REFUSED.values(), ids=REFUSED)
def test_what_a_careless_frontend_sends_costs_that_packet(
    stack: ExitStack, row: Refused
) -> None:
    front = ScriptedFront(stack)
    answers = front.send(*row.build(front))
    assert [answer.status for answer in answers] == row.statuses
    assert front.end.stats.broken() is None
    expected = {"tx_slots": row.statuses.count(-1) or 1, "tx_dropped": 1}
    expected[row.counter or "tx_csum_unparsable"] = 1
    assert front.end.all_counted() == expected
    assert front.link.in_use() == [front.tx_page.gref, front.rx_page.gref]
    assert front.send_frame(plain(seed=2)) == [TxResponse(0, 0)]
    assert front.end.tap.frames() == [plain(seed=2)]
