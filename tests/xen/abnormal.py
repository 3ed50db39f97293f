"""What no good frontend does, what Linux netback makes of it, and where ours differs.

test_abnormal.py does it to both. The section of docs/conformance.md on it is made from
this, by `python -m tests.xen.abnormal`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from textwrap import TextWrapper
from typing import Final

from xenvirt.testing.slots import Extra, TxRequest, gso

PAGE: Final = 0
"""Stands for the gref of the page that has the case's frame."""

NO_GREF: Final = 0xFFFFFF
"""Behind the end of any grant table here."""

CSUM_BLANK, DATA_VALIDATED, MORE_DATA, EXTRA_INFO = 1, 2, 4, 8
GSO_FLAGS: Final = CSUM_BLANK | DATA_VALIDATED | EXTRA_INFO
EXTRA_MORE: Final = 1
MCAST_ADD: Final = 2

CONNECTED, CLOSING = "4", "5"

ETHERNET: Final = bytes.fromhex("00163e000002 00163e000031")
PLAIN: Final = (ETHERNET + bytes.fromhex("88b5")).ljust(4096, b"x")
ARP: Final = ETHERNET + bytes.fromhex(
    "0806 0001 0800 06 04 0001 00163e000031 0a000001 000000000000 0a000002"
)
TCP: Final = (
    ETHERNET
    + bytes.fromhex("0800 4500 07c6 0000 4000 4006 0000 0a000001 0a000002")
    + bytes.fromhex("0001 0002 00000000 00000000 5010 ffff 0000 0000")
).ljust(2000, b"x")
LENGTH: Final = 60
"""Bytes of a good frame."""

Slot = TxRequest | Extra


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case.

    `statuses`: the responses', in the order of the slots; None where none came.
    `alive`: good frames go both ways afterwards. `state`: the backend's, in the store.
    `reason`: what was wrong, in the words of the kernel's log, or of the error node.
    """

    statuses: tuple[int | None, ...]
    alive: bool = True
    state: str = CONNECTED
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """What is written into the rings at once, and what Linux netback makes of it.

    `tx_jump` and `rx_jump`: how far req_prod goes beyond what was written.
    `rx_gref`: posted for the second of two frames that are then sent to the frontend.
    """

    name: str
    linux: Outcome
    slots: tuple[Slot, ...] = ()
    frame: bytes = PLAIN
    tx_jump: int = 0
    rx_jump: int = 0
    rx_gref: int | None = None

    @property
    def rx_frames(self) -> int:
        """How many frames are sent to the frontend, which gives as many responses."""
        if self.rx_gref is not None:
            return 2
        return 1 if self.rx_jump else 0


@dataclass(frozen=True, slots=True)
class Difference:
    """Where ours does otherwise on purpose: in which cases, what, and why.

    `ours` makes what comes of a case with ours of what Linux makes of it.
    """

    name: str
    reason: str
    cases: tuple[str, ...]
    ours: Callable[[Outcome], Outcome]


def answered(*statuses: int | None) -> Outcome:
    return Outcome(statuses)


def dead(slots: int, reason: str) -> Outcome:
    return Outcome((None,) * slots, alive=False, reason=reason)


def one(
    offset: int = 0, size: int = LENGTH, flags: int = 0, gref: int = PAGE
) -> tuple[TxRequest]:
    return (TxRequest(gref, offset, flags, 1, size),)


def chain(total: int, *later: TxRequest) -> tuple[TxRequest, ...]:
    """A frame of `total` bytes in all, whose slots after the first are `later`."""
    slots = (TxRequest(PAGE, 0, 0, 0, total), *later)
    last = len(slots) - 1
    return tuple(
        slot._replace(id=number, flags=slot.flags | MORE_DATA * (number < last))
        for number, slot in enumerate(slots)
    )


def even_chain(count: int) -> tuple[TxRequest, ...]:
    """`count` slots of 100 bytes."""
    return chain(100 * count, *(TxRequest(PAGE, size=100) for _ in range(count - 1)))


def later(
    offset: int = 0, size: int = 100, gref: int = PAGE, flags: int = 0
) -> TxRequest:
    return TxRequest(gref, offset, flags, size=size)


def with_extras(
    *extras: Extra, flags: int = GSO_FLAGS, size: int = len(TCP)
) -> tuple[Slot, ...]:
    return (TxRequest(PAGE, 0, flags, 1, size), *extras)


CASES: Final = (
    Case("good frame", answered(0), one()),
    Case("good frame of 3 slots", answered(0, 0, 0), even_chain(3)),
    Case("good GSO frame", answered(0, 1), with_extras(gso(500)), TCP),
    Case("size 10", answered(-1), one(size=10)),
    Case("size 13", answered(-1), one(size=13)),
    Case("size 14", answered(0), one(size=14)),
    Case("unknown gref", answered(-1), one(gref=NO_GREF)),
    Case(
        "unknown gref in a later slot",
        answered(0, -1, 0),
        chain(300, later(gref=NO_GREF), later()),
    ),
    Case("offset 4036, size 60", answered(0), one(4036)),
    Case(
        "offset 4090, size 42",
        dead(1, "Cross page boundary, txreq.offset: 4090, size: 42"),
        one(4090, 42),
    ),
    Case(
        "offset 4000, size 100 in a later slot",
        dead(2, "Cross page boundary, txp->offset: 4000, size: 100"),
        chain(200, later(4000)),
    ),
    Case(
        "size 0 in a later slot", answered(0, 0, 0), chain(200, later(size=0), later())
    ),
    Case("chain of 18 slots", answered(*[0] * 18), even_chain(18)),
    Case("chain of 19 slots", answered(*[0] * 19), even_chain(19)),
    Case("chain of 20 slots", answered(*[-1] * 20), even_chain(20)),
    Case("chain of 21 slots", answered(*[-1] * 21), even_chain(21)),
    Case(
        "chain of 22 slots",
        dead(22, "Malicious frontend using 20 slots, threshold 20"),
        even_chain(22),
    ),
    Case(
        "later slots' sum > total", answered(-1, -1, -1), chain(150, later(), later())
    ),
    Case(
        "later slots' sum = total - 13",
        answered(-1, -1, -1),
        chain(213, later(), later()),
    ),
    Case(
        "later slots' sum = total - 14",
        answered(0, 0, 0),
        chain(214, later(), later()),
    ),
    Case(
        "later slots' sum > total, then offset 4000, size 100",
        dead(3, "Cross page boundary, txp->offset: 4000, size: 100"),
        chain(50, later(), later(4000)),
    ),
    Case(
        "more_data, but the chain ends at req_prod",
        dead(1, "Asked for 0 slots but exceeds this limit"),
        one(flags=MORE_DATA),
    ),
    Case(
        "extra type 77", dead(2, "Invalid extra type: 77"), with_extras(Extra(77)), TCP
    ),
    Case("extra type 0", dead(2, "Invalid extra type: 0"), with_extras(Extra(0)), TCP),
    Case("GSO type 9", dead(2, "Bad GSO type 9."), with_extras(gso(500, 9)), TCP),
    Case("GSO size 0", dead(2, "GSO size must not be zero."), with_extras(gso(0)), TCP),
    Case(
        "GSO without csum_blank",
        answered(0, 1),
        with_extras(gso(500), flags=EXTRA_INFO),
        TCP,
    ),
    Case(
        "extra_info, but no extra slot",
        dead(1, "Missing extra info"),
        one(flags=EXTRA_INFO),
    ),
    Case(
        "an extra slot says more, but there is none",
        dead(2, "Missing extra info"),
        with_extras(gso(500, flags=EXTRA_MORE)),
        TCP,
    ),
    Case(
        "multicast address added",
        answered(0, 1),
        with_extras(
            Extra(MCAST_ADD, payload=bytes.fromhex("01005e000001")), flags=EXTRA_INFO
        ),
    ),
    Case(
        "req_prod jumps by 301",
        dead(1, "Impossible number of requests. req_prod 301, req_cons 0, size 256"),
        one(),
        tx_jump=300,
    ),
    Case("csum_blank on an ARP frame", answered(0), one(flags=CSUM_BLANK), ARP),
    Case("flags 0xfff0", answered(0), one(flags=0xFFF0)),
    Case("RX: unknown gref", answered(LENGTH, -3), rx_gref=NO_GREF),
    Case("RX: req_prod jumps by 301", answered(LENGTH), rx_jump=301),
)

DIFFERENCES: Final = (
    Difference(
        "Giving up is told",
        "Linux only writes into its log that it serves this frontend no more: its "
        "state stays 4, and the frontend hears nothing. Ours writes the same words "
        "into its error node and goes to Closing (5), as backends do on other errors. "
        "The frontend may then close and connect again, and an operator sees why.",
        tuple(case.name for case in CASES if not case.linux.alive),
        lambda linux: replace(linux, state=CLOSING),
    ),
    Difference(
        "A page that cannot be had",
        "The frame is lost, with ours and with Linux. Linux answers each slot with "
        "what came of its own page; ours says of every slot that it was not sent. "
        "Linux netfront looks at no status but NULL (1).",
        ("unknown gref in a later slot",),
        lambda linux: replace(linux, statuses=(-1,) * len(linux.statuses)),
    ),
    Difference(
        "A short first slot",
        "Linux wants the 14 bytes of an Ethernet header in the first slot, ours in "
        "the frame, wherever they are. Linux netfront has all headers in the first "
        "slot.",
        ("later slots' sum = total - 13",),
        lambda linux: replace(linux, statuses=(0,) * len(linux.statuses)),
    ),
    Difference(
        "Multicast addresses",
        "Ours does not offer feature-multicast-control, and forwards all multicast "
        "frames; it answers such a request as one that it cannot carry out.",
        ("multicast address added",),
        lambda linux: replace(linux, statuses=(-1, 1)),
    ),
    Difference(
        "Impossible indices of the RX ring",
        "Linux looks whether req_prod is possible in the TX ring only, and takes "
        "requests from the RX ring round and round. Ours looks in both.",
        ("RX: req_prod jumps by 301",),
        lambda linux: Outcome(
            (None,) * len(linux.statuses),
            alive=False,
            state=CLOSING,
            reason="Impossible number of RX requests. "
            "req_prod 302, req_cons 0, size 256",
        ),
    ),
)


def ours(case: Case) -> Outcome:
    """What comes of a case with our backend, by the tables."""
    outcome = case.linux
    for difference in DIFFERENCES:
        if case.name in difference.cases:
            outcome = difference.ours(outcome)
    return outcome


def differing(one: Outcome, other: Outcome) -> set[str]:
    """The names of the fields in which two outcomes differ."""
    names = [field.name for field in fields(Outcome)]
    return {name for name in names if getattr(one, name) != getattr(other, name)}


# ---- The tables as text ----

HEADING: Final = "Abnormal requests"
INTRODUCTION: Final = (
    "`tests/xen/test_abnormal.py` is a frontend that writes its rings slot by slot. "
    "In dom0 of one Xen, in the lab (`scripts/xen-lab test "
    "tests/xen/test_abnormal.py`), it does the same to Linux netback and then to "
    "`xenvirt backend`, each case on a vif of its own: pages by gntalloc that domain "
    "0 grants to itself, an event channel, and the keys that xl and netfront write. "
    "Then it sends a good frame each way.",
    "Compared are the status of every response, in the order of the slots, with the "
    "ids; whether the good frames come through; the backend's state; and the words "
    "with which it gives up, from the kernel's log and from our error node. A backend "
    "has given up when its interface has lost the carrier, which both then take away; "
    "that it answers no more is seen from there on, for a second. Whether a frame "
    "that was taken arrives is not compared here.",
    "The table has what Linux makes of {total} cases: netback of Debian's 6.1.192, on "
    "Xen 4.17.7. Ours gives the same responses and lives or dies alike in {alike} of "
    "them. Every difference is listed below, and a test fails when one of them does "
    "not occur. -1 is ERROR, 1 NULL (an "
    "extra's slot), -3 the hypervisor's GNTST_bad_gntref, and an RX response's status "
    "its length.",
)
WRAPPER: Final = TextWrapper(width=100, break_on_hyphens=False)


def section() -> str:
    """The section of docs/conformance.md."""
    alike = [case for case in CASES if differing(case.linux, ours(case)) <= {"state"}]
    numbers = {"alike": len(alike), "total": len(CASES)}
    lines = [f"## {HEADING}"]
    for text in INTRODUCTION:
        lines += ["", WRAPPER.fill(text.format(**numbers))]
    lines += ["", "| case | responses | then | in the log |", "|---|---|---|---|"]
    for case in CASES:
        reason = case.linux.reason or ""
        lines.append(
            f"| {case.name} | {responses(case.linux)} | {life(case.linux)} | {reason} |"
        )
    for difference in DIFFERENCES:
        lines += _difference(difference)
    return "\n".join(lines) + "\n"


def _difference(difference: Difference) -> Iterator[str]:
    yield from ("", f"### {difference.name}", "", WRAPPER.fill(difference.reason), "")
    yield from ("| cases | Linux | ours |", "|---|---|---|")
    rows: dict[tuple[str, str], list[str]] = {}
    for case in CASES:
        if case.name in difference.cases:
            made = difference.ours(case.linux)
            names = differing(case.linux, made)
            row = _told(case.linux, names), _told(made, names)
            rows.setdefault(row, []).append(case.name)
    for row, names_of_cases in rows.items():
        yield f"| {'<br>'.join(names_of_cases)} | {row[0]} | {row[1]} |"


def _told(outcome: Outcome, names: set[str]) -> str:
    told = {
        "statuses": f"responses {responses(outcome)}",
        "alive": life(outcome),
        "state": f"state {outcome.state}",
        "reason": outcome.reason or "",
    }
    return ", ".join(text for name, text in told.items() if name in names and text)


def responses(outcome: Outcome) -> str:
    """The statuses, in short."""
    statuses = outcome.statuses
    if set(statuses) == {None}:
        return "none"
    if len(statuses) > 2 and len(set(statuses)) == 1:
        return f"{len(statuses)} times {statuses[0]}"
    return ", ".join("none" if each is None else str(each) for each in statuses)


def life(outcome: Outcome) -> str:
    return "alive" if outcome.alive else "dead"


def side_by_side(linux: Sequence[Outcome], ours: Sequence[Outcome]) -> Iterator[str]:
    """A table of what came of all cases in a run, line by line."""
    rows = [("case", "Linux netback", "", "", "ours", "", "", "in the words of")]
    for case, one, other in zip(CASES, linux, ours, strict=True):
        rows.append(
            (
                case.name,
                *(responses(one), life(one), one.state),
                *(responses(other), life(other), other.state),
                words(one, other),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join(cells).rstrip()


def words(one: Outcome, other: Outcome) -> str:
    """Who gave which reason."""
    if one.reason == other.reason:
        return f"both: {one.reason}" if one.reason else ""
    return f"Linux: {one.reason}; ours: {other.reason}"


if __name__ == "__main__":
    print(section(), end="")
