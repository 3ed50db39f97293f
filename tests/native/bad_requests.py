"""What a frontend must not put in the TX ring, by the row that says so.

R… are rows of protocol.md 7.2; "1.9" is Linux netback's own list, and "real" was seen
of it (real-xen.md section 6). The rows say what comes of it.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from tests.native.frames import arp, blank, plain, tcp, udp
from tests.native.helpers import NR_GRANT_FRAMES
from xenvirt.testing.front_rings import FrontRings
from xenvirt.testing.slots import Extra, TxRequest, gso

NR_GREFS: Final = 512 * NR_GRANT_FRAMES
MORE_DATA, EXTRA, BLANK = 4, 8, 1

Slots = list[TxRequest | Extra]
Build = Callable[[FrontRings], Slots]


class Fatal(NamedTuple):
    """It stops the device; `reason` is netback's text."""

    build: Build
    reason: str


class Refused(NamedTuple):
    """It costs that packet; the responses' statuses, and what counts it."""

    build: Build
    statuses: list[int]
    counter: str = "tx_csum_unparsable"


def one(size: int = 60, offset: int = 0, flags: int = 0, *extras: Extra) -> Build:
    """A request of one slot, then extras."""
    return lambda front: [
        TxRequest(front.page_with(plain()), offset, flags, 5, size),
        *extras,
    ]


def cut(sizes: list[int], total: int | None = None, last_flags: int = 0) -> Build:
    """A chain; `total` is what the first slot says instead of the sum."""

    def build(front: FrontRings) -> Slots:
        slots = front.chain(plain(sum(sizes)), sizes)
        if total is not None:
            slots[0] = slots[0]._replace(size=total)
        slots[-1] = slots[-1]._replace(flags=last_flags)
        return list(slots)

    return build


def second(**fields: int) -> Build:
    """A chain of two slots whose second one is changed."""

    def build(front: FrontRings) -> Slots:
        slots = front.chain(plain(160), [60, 100])
        return [slots[0], slots[1]._replace(**fields)]

    return build


def at_gref(gref: int) -> Build:
    return lambda front: [TxRequest(gref, size=60)]


def revoked(front: FrontRings) -> Slots:
    gref = front.page_with(plain())
    assert front.pages.table.end(gref)
    return [TxRequest(gref, size=60)]


def to_another_domain(front: FrontRings) -> Slots:
    gref = front.page_with(plain())
    front.pages.entry(gref)[2] += 1
    return [TxRequest(gref, size=60)]


def tcp_frame(frame: bytes, flags: int, *extras: Extra) -> Build:
    def build(front: FrontRings) -> Slots:
        first, *others = front.chain(frame, [len(frame)], flags)
        return [first, *extras, *others]

    return build


def bad_gref_among_three(number: int) -> Build:
    def build(front: FrontRings) -> Slots:
        slots = front.chain(plain(90), [30] * 3)
        slots[number] = slots[number]._replace(gref=NR_GREFS - 1)
        return list(slots)

    return build


def changed(frame: bytes, at: int, value: int) -> bytes:
    return frame[:at] + bytes([value]) + frame[at + 1 :]


BLANK4, BLANK6 = blank(tcp(4))[0], blank(tcp(6))[0]
IPV6_LOOP = changed(BLANK6, 20, 0)[:54] + bytes([0, 0, 0, 0, 0, 0, 0, 0]) * 40
MULTICAST = b"\x01\x00\x5e\x00\x00\xfb"


FATAL: Final[dict[str, dict[str, Fatal]]] = {
    "R4": {
        "1.9 real, no slot left for the extra": Fatal(
            one(60, 0, EXTRA), "Missing extra info"
        ),
        "the last extra says that another follows": Fatal(
            one(60, 0, EXTRA, gso(1448, flags=1)), "Missing extra info"
        ),
    },
    "R5": {
        f"1.9, extra type {number}": Fatal(
            one(60, 0, EXTRA, Extra(number)), f"Invalid extra type: {number}"
        )
        for number in (0, 5, 6, 77, 255)
    },
    "R7": {
        "1.9 real, GSO size 0": Fatal(
            one(60, 0, EXTRA | BLANK, gso(0)), "GSO size must not be zero."
        ),
        **{
            f"1.9 real, GSO type {number}": Fatal(
                one(60, 0, EXTRA | BLANK, gso(1448, number)), f"Bad GSO type {number}."
            )
            for number in (0, 3, 9, 255)
        },
    },
    "R8": {
        "1.9 real, the first slot crosses its page": Fatal(
            one(42, 4090), "Cross page boundary, txreq.offset: 4090, size: 42"
        ),
        "by one byte": Fatal(
            one(14, 4083), "Cross page boundary, txreq.offset: 4083, size: 14"
        ),
        "offset 65535": Fatal(
            one(60, 65535), "Cross page boundary, txreq.offset: 65535, size: 60"
        ),
        "1.9 real, a later slot crosses its page": Fatal(
            second(offset=4000), "Cross page boundary, txp->offset: 4000, size: 100"
        ),
        "a later slot at offset 4095, size 2": Fatal(
            second(offset=4095, size=2),
            "Cross page boundary, txp->offset: 4095, size: 2",
        ),
        "1.9, in a packet that is being dropped": Fatal(
            second(offset=4000, size=4096),
            "Cross page boundary, txp->offset: 4000, size: 4096",
        ),
    },
    "R11": {
        "1.9 real, on the only slot": Fatal(
            one(60, 0, MORE_DATA), "Asked for 0 slots but exceeds this limit"
        ),
        "1.9, on the third and last slot": Fatal(
            cut([60, 10, 10], last_flags=MORE_DATA),
            "Asked for 2 slots but exceeds this limit",
        ),
    },
    "XSA-432": {
        "1.9, 21 slots after the first": Fatal(
            cut([14] + [6] * 21), "Malicious frontend using 20 slots, threshold 20"
        ),
    },
}

REFUSED: Final[dict[str, dict[str, Refused]]] = {
    "R9": {
        "1.9 real, slots of more than the whole": Refused(
            cut([60, 50, 50], total=99), [-1] * 3, "tx_bad_slot_size"
        ),
        "1.9, a frame of 65,536 bytes": Refused(
            cut([4096] * 16, total=0), [-1] * 16, "tx_bad_slot_size"
        ),
    },
    "R10": {
        f"1.9 real, size {size}": Refused(one(size), [-1], "tx_bad_size")
        for size in (0, 1, 10, 13)
    },
    "R13": {
        f"1.9 real, gref {gref}": Refused(at_gref(gref), [-1], "tx_bad_gref")
        for gref in (0, 7, NR_GREFS - 1, NR_GREFS, 0xFFFFFFFF)
    },
    "XSA-362": {
        "a revoked grant": Refused(revoked, [-1], "tx_bad_gref"),
        "another domain's grant": Refused(to_another_domain, [-1], "tx_bad_gref"),
    },
    "XSA-365": {
        f"1.9, a bad gref as number {number} of three": Refused(
            bad_gref_among_three(number), [-1] * 3, "tx_bad_gref"
        )
        for number in range(3)
    },
    "XSA-432": {
        f"1.9 real, {slots} slots": Refused(
            cut([6] * slots), [-1] * slots, "tx_too_many_slots"
        )
        for slots in (20, 21)
    },
    "XSA-448": {
        "every slot empty": Refused(cut([0, 0, 0]), [-1] * 3, "tx_bad_size"),
    },
    "R18": {
        "MCAST_ADD, which was not offered": Refused(
            one(0, 0, EXTRA, Extra(2, 0, MULTICAST)), [-1, 1], "tx_bad_multicast"
        ),
        "MCAST_DEL": Refused(
            one(0, 0, EXTRA, Extra(3, 0, MULTICAST)), [-1, 1], "tx_bad_multicast"
        ),
    },
    "R16": {
        "real, csum_blank on ARP": Refused(tcp_frame(arp(), BLANK), [0]),
        "csum_blank on no IP at all": Refused(tcp_frame(plain(), BLANK), [0]),
        "csum_blank on 14 bytes": Refused(tcp_frame(BLANK4[:14], BLANK), [0]),
        "a truncated IPv4 header": Refused(tcp_frame(BLANK4[:33], BLANK), [0]),
        "a truncated TCP header": Refused(tcp_frame(BLANK4[:53], BLANK), [0]),
        "IPv4 options beyond the packet": Refused(
            tcp_frame(changed(BLANK4, 14, 0x4F), BLANK), [0]
        ),
        "an IPv4 header of 4 bytes": Refused(
            tcp_frame(changed(BLANK4, 14, 0x41), BLANK), [0]
        ),
        "TCP options beyond the packet": Refused(
            tcp_frame(changed(BLANK4, 46, 0xF0), BLANK), [0]
        ),
        "IPv6 extension headers without end": Refused(tcp_frame(IPV6_LOOP, BLANK), [0]),
        "csum_blank on a fragment": Refused(
            tcp_frame(changed(BLANK4, 20, 0x20), BLANK), [0]
        ),
    },
    "R17": {
        "GSO on UDP": Refused(
            tcp_frame(blank(udp(4))[0], BLANK | EXTRA, gso(1448)), [0, 1]
        ),
        "GSO TCPV4 on IPv6": Refused(
            tcp_frame(BLANK6, BLANK | EXTRA, gso(1448)), [0, 1]
        ),
        "GSO on a fragment": Refused(
            tcp_frame(changed(BLANK4, 20, 0x20), BLANK | EXTRA, gso(1448)), [0, 1]
        ),
        "GSO with headers beyond the packet": Refused(
            tcp_frame(BLANK4[:50], BLANK | EXTRA, gso(1448)), [0, 1]
        ),
    },
}
