"""Our store, fed the requests of a real xenstored, sends what that one has sent.

The sample is of Xen 4.17.7 with a Linux 6.1 dom0 and PV guest, without cuts: boot,
`xl create` with a vif, ping, unbind and bind of netfront in the guest, `xl
network-detach`, `xl network-attach`, `xl destroy`, `xenstore-ls`. Another trace is
replayed with XENVIRT_XENSTORED_TRACE=<file>.
"""

import os
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from tests.conformance.trace import (
    Died,
    Dropped,
    Ended,
    Opened,
    Record,
    Request,
    Sent,
    parse,
    raw_payload,
    read,
)
from tests.conformance.trace_replay import Comparison, Why, replay, replay_records
from tests.conformance.trace_transactions import Transactions, transactions
from tests.conformance.wire import XS, Message, Wire

SAMPLE = Path(__file__).parent.parent / "data" / "xenstored-4.17.trace.gz"
FRESH = os.environ.get("XENVIRT_XENSTORED_TRACE")
TRACES = [SAMPLE, Path(FRESH)] if FRESH else [SAMPLE]

SHUTDOWN = """
CREATE connection 0xa
CREATE connection 0xb
IN 0xb 20261129 06:05:41 INTRODUCE (1 470529 1 )
CREATE connection 0xc
OUT 0xb 20261129 06:05:41 INTRODUCE (OK )
IN 0xb 20261129 06:05:41 WATCH (@releaseDomain 3/0 )
CREATE watch 0xd
OUT 0xb 20261129 06:05:41 WATCH (OK )
OUT 0xb 20261129 06:05:41 WATCH_EVENT (@releaseDomain 3/0 )
OUT 0xb 20261129 06:05:42 WATCH_EVENT (@releaseDomain 3/0 )
DESTROY connection 0xc
OUT 0xb 20261129 06:05:43 WATCH_EVENT (@releaseDomain 3/0 )
"""
"""Domain 1 shuts down, and then is gone; by hand."""

DROPPED = """
CREATE connection 0xa
CREATE connection 0xb
IN 0xa 20261129 06:05:41 WATCH (/a t )
OUT 0xa 20261129 06:05:41 WATCH (OK )
OUT 0xa 20261129 06:05:41 WATCH_EVENT (/a t )
IN 0xb 20261129 06:05:41 WATCH (/a t )
OUT 0xb 20261129 06:05:41 WATCH (OK )
OUT 0xb 20261129 06:05:41 WATCH_EVENT (/a t )
IN 0xa 20261129 06:05:41 WRITE (/a 1)
OUT 0xa 20261129 06:05:41 WATCH_EVENT (/a t )
OUT 0xa 20261129 06:05:41 WRITE (OK )
IN 0xa 20261129 06:05:42 WRITE (/a 2)
dropping duplicate watch /a t for domain 0
OUT 0xa 20261129 06:05:42 WATCH_EVENT (/a t )
OUT 0xa 20261129 06:05:42 WRITE (OK )
OUT 0xb 20261129 06:05:43 WATCH_EVENT (/a t )
IN 0xa 20261129 06:05:44 WRITE (/a 3)
OUT 0xa 20261129 06:05:44 WATCH_EVENT (/a t )
OUT 0xa 20261129 06:05:44 WRITE (OK )
OUT 0xb 20261129 06:05:44 WATCH_EVENT (/a t )
"""
"""The second connection takes its first event late, when a second one is due; by hand.

Both are of domain 0 and have the same watch.
"""


def _of(lines: str) -> list[Record]:
    """Records of dom0's ring page, 0xa, from lines without what all have in common."""
    trace = "CREATE connection 0xa\n"
    for line in lines.strip().splitlines():
        way, rest = line.split(maxsplit=1)
        trace += f"{way} 0xa 20261129 06:05:41 {rest}\n"
    return parse(trace.encode())


def _cut() -> list[Record]:
    """The sample up to where a reply was due and some events as well."""
    records = read(SAMPLE)
    last = next(
        index
        for index, record in enumerate(records)
        if isinstance(record, Request)
        and record.type == XS.TRANSACTION_END
        and isinstance(after := records[index + 1], Sent)
        and after.type == XS.WATCH_EVENT
    )
    return records[: last + 1]


def _whys(comparison: Comparison) -> Counter[Why | None]:
    return Counter(difference.why for difference in comparison.differences)


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.name)
def test_ours_is_like_it(path: Path) -> None:
    comparison = replay(path)
    assert comparison.unexplained() == [], str(comparison)
    assert comparison.replies > 0


def test_nothing_of_the_sample_is_left_out() -> None:
    comparison = replay(SAMPLE)
    assert _whys(comparison) == {Why.NOT_TAKEN: 1}
    assert comparison.requests == 1240
    assert (comparison.replies, comparison.events) == (1239, 219)


def test_the_sample_has_what_a_vif_needs() -> None:
    records = read(SAMPLE)
    assert {record.type for record in records if isinstance(record, Request)} == {
        *(XS.DIRECTORY, XS.READ, XS.GET_PERMS, XS.WRITE, XS.MKDIR, XS.RM, XS.SET_PERMS),
        *(XS.WATCH, XS.UNWATCH, XS.TRANSACTION_START, XS.TRANSACTION_END),
        *(XS.INTRODUCE, XS.GET_DOMAIN_PATH),
    }
    guest = next(r for r in records if isinstance(r, Opened) and r.domid)
    assert sum(isinstance(r, Request) and r.conn == guest.conn for r in records) > 100
    assert [r.domid for r in records if isinstance(r, Died)] == [guest.domid]


def test_each_explanation_is_of_use() -> None:
    used = {
        Why.NOT_TAKEN: replay(SAMPLE),
        Why.CUT: replay_records(_cut()),
        Why.SHUTDOWN: replay_records(parse(SHUTDOWN.encode())),
        Why.DROPPED: replay_records(parse(DROPPED.encode())),
    }
    assert set(used) == set(Why)
    for why, comparison in used.items():
        assert set(_whys(comparison)) == {why}


def _middle(records: list[Record], type_: XS) -> tuple[int, Sent]:
    of_type = [
        (index, record)
        for index, record in enumerate(records)
        if isinstance(record, Sent) and record.type == type_
    ]
    return of_type[len(of_type) // 2]


@pytest.mark.parametrize("type_", [XS.READ, XS.ERROR, XS.DIRECTORY, XS.WATCH_EVENT])
def test_another_payload_is_found(type_: XS) -> None:
    records = read(SAMPLE)
    index, sent = _middle(records, type_)
    records[index] = sent._replace(text=b"x" + sent.text)
    assert len(replay_records(records).unexplained()) == 1


@pytest.mark.parametrize("times", [0, 2])
def test_a_missing_event_and_one_too_many_are_found(times: int) -> None:
    records = read(SAMPLE)
    index, event = _middle(records, XS.WATCH_EVENT)
    records[index : index + 1] = [event] * times
    assert len(replay_records(records).unexplained()) == 1


def test_an_event_on_the_wrong_side_of_a_reply_is_found() -> None:
    records = read(SAMPLE)
    index = next(
        index
        for index, (one, other) in enumerate(pairwise(records))
        if isinstance(one, Sent)
        and isinstance(other, Sent)
        and one.conn == other.conn
        and one.type == XS.WATCH_EVENT != other.type
    )
    records[index], records[index + 1] = records[index + 1], records[index]
    assert replay_records(records).unexplained()


def test_a_store_that_writes_elsewhere_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask = Wire.ask

    def misdirected(self: Wire, type_: int, payload: bytes, tx_id: int = 0) -> Message:
        if type_ == XS.WRITE:
            payload = payload.replace(b"/tx-ring-ref\0", b"/rx-ring-ref\0")
        return ask(self, type_, payload, tx_id)

    monkeypatch.setattr(Wire, "ask", misdirected)
    assert any("tx-ring-ref" in found for found in replay(SAMPLE).unexplained())


def test_a_dropped_event_is_left_out_where_one_like_it_waits() -> None:
    comparison = replay_records(parse(DROPPED.encode()))
    [found] = comparison.differences
    assert found.request is not None
    assert (found.request.conn, found.theirs) == (2, ())
    assert found.ours == (b"WATCH_EVENT (/a t )",)
    assert (comparison.replies, comparison.events) == (5, 7)


DROP = "dropping duplicate watch /a t for domain 0\n"
TAKEN = "OUT 0xb 20261129 06:05:43 WATCH_EVENT (/a t )\n"
SECOND_WRITE = "IN 0xa 20261129 06:05:42 WRITE (/a 2)\n"
LAST = "OUT 0xb 20261129 06:05:44 WATCH_EVENT (/a t )\n"
END = "IN 0xb 20261129 06:05:45 READ (/a )\nOUT 0xb 20261129 06:05:45 READ (3)\n"


@pytest.mark.parametrize(
    ("trace", "differences"),
    [
        pytest.param(DROPPED.replace(DROP, ""), 1, id="was not dropped"),
        pytest.param(DROPPED.replace(LAST, ""), 1, id="another one was dropped"),
        pytest.param(DROPPED.replace(DROP, DROP * 2), 1, id="no second one waits"),
        pytest.param(
            DROPPED.replace(TAKEN, "").replace(SECOND_WRITE, TAKEN + SECOND_WRITE),
            2,
            id="the first one had been taken",
        ),
        pytest.param(
            DROPPED.replace(DROP, DROP.replace(" t ", " u ")), 2, id="another token"
        ),
        pytest.param(
            DROPPED.replace(DROP, DROP.replace("domain 0", "domain 1")),
            2,
            id="another domain's",
        ),
    ],
)
def test_an_event_is_missing_if_it(trace: str, differences: int) -> None:
    """What is amiss is an event of ours, a drop that ours has no cause for, or both."""
    comparison = replay_records(parse((trace + END).encode()))
    assert len(comparison.unexplained()) == differences


@pytest.mark.parametrize(
    ("type_", "text", "payload"),
    [
        (XS.READ, b"domid ", b"domid\0"),
        (XS.WRITE, b"a 1", b"a\0001"),
        (XS.WRITE, b"a ", b"a\0"),
        (XS.WRITE, b"cmdline console=hvc0 ro ", b"cmdline\0console=hvc0 ro "),
        (XS.WATCH, b"cpu FFFFFFFF82BB01A0 ", b"cpu\0FFFFFFFF82BB01A0\0"),
        (XS.WATCH, b"cpu my token ", b"cpu\0my token\0"),
        (XS.SET_PERMS, b"a n0 r1 ", b"a\0n0\0r1\0"),
        (XS.TRANSACTION_START, b" ", b"\0"),
        (XS.TRANSACTION_END, b"T ", b"T\0"),
        (XS.INTRODUCE, b"1 470529 1 ", b"1\000470529\0001\0"),
    ],
)
def test_a_payload_is_recovered(type_: XS, text: bytes, payload: bytes) -> None:
    assert raw_payload(type_, text) == payload


def test_a_value_with_line_feeds_and_parentheses() -> None:
    records = _of("IN WRITE (a (b))\nOUT WRITE (OK )")
    trace = (
        b"CREATE connection 0xa\nIN 0xa 20261129 06:05:41 WRITE (a 1)\n2\n)\nwrl: x\n"
    )
    assert records[1] == Request(2, 1, XS.WRITE, b"a\0(b)")
    assert parse(trace)[1] == Request(2, 1, XS.WRITE, b"a\0001)\n2\n")


@pytest.mark.parametrize("token", [b"t", b"my token", b"a\nb for domain 7", b""])
def test_an_event_that_was_dropped(token: bytes) -> None:
    trace = (
        b"CREATE connection 0xa\nIN 0xa 20261129 06:05:41 WRITE (a 1)\n"
        b"dropping duplicate watch a/b " + token + b" for domain 3\nwrl: x\n"
    )
    assert parse(trace)[1:] == [
        Request(2, 1, XS.WRITE, b"a\0001"),
        Dropped(3, 3, b"a/b " + token + b" "),
    ]


def test_an_unfinished_line_is_left_out() -> None:
    trace = b"CREATE connection 0xa\nIN 0xa 20261129 06:05:41 READ (a )\nOUT 0xa 2026"
    assert parse(trace)[1:] == [Request(2, 1, XS.READ, b"a\0")]


def test_a_line_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="line 2 of the trace"):
        parse(b"CREATE connection 0xa\nIN 0xa READ (a )\n")


def test_connections_with_one_address_are_told_apart() -> None:
    again = b"CREATE connection 0xb\nDESTROY connection 0xb\n" * 2
    assert parse(b"CREATE connection 0xa\n" + again) == [
        *(Opened(1, 1, 0, True), Opened(2, 2, 0, False), Ended(3, 2)),
        *(Opened(4, 3, 0, False), Ended(5, 3)),
    ]


def test_release_ends_a_ring_page_and_not_the_domain() -> None:
    released = SHUTDOWN.replace(
        "DESTROY", "IN 0xb 20261129 06:05:43 RELEASE (1 )\nDESTROY"
    )
    lines = [type(record) for record in parse(released.encode())]
    assert Ended in lines
    assert Died not in lines
    answered = released + "OUT 0xb 20261129 06:05:43 RELEASE (OK )\n"
    comparison = replay_records(parse(answered.encode()))
    assert _whys(comparison) == {Why.SHUTDOWN: 1}


@pytest.mark.parametrize(
    ("name", "lines", "inside", "undecided"),
    [
        (
            "all between",
            """
            IN TRANSACTION_START ( )
            OUT TRANSACTION_START (1 )
            IN READ (a )
            OUT READ ()
            IN TRANSACTION_END (T )
            """,
            {3, 5},
            set(),
        ),
        (
            "nothing that came before the tx_id was known",
            """
            IN TRANSACTION_START ( )
            IN READ (a )
            OUT TRANSACTION_START (1 )
            OUT READ ()
            IN TRANSACTION_END (T )
            """,
            {5},
            set(),
        ),
        (
            "nothing that is answered after the end",
            """
            IN TRANSACTION_START ( )
            OUT TRANSACTION_START (1 )
            IN READ (a )
            IN TRANSACTION_END (T )
            OUT READ ()
            """,
            {4},
            set(),
        ),
        (
            "nothing in a transaction that did not begin",
            """
            IN TRANSACTION_START ( )
            OUT ERROR (ENOSPC )
            IN READ (a )
            OUT READ ()
            """,
            set(),
            set(),
        ),
        (
            "what is not ended yet",
            """
            IN TRANSACTION_START ( )
            OUT TRANSACTION_START (1 )
            IN READ (a )
            OUT READ ()
            """,
            {3},
            set(),
        ),
        (
            "one of two that wait at once",
            """
            IN TRANSACTION_START ( )
            OUT TRANSACTION_START (1 )
            IN READ (a )
            IN READ (b )
            OUT READ ()
            OUT READ ()
            IN TRANSACTION_END (T )
            """,
            {3, 7},
            {4},
        ),
        (
            "no change that a kernel would give up",
            """
            IN TRANSACTION_START ( )
            OUT TRANSACTION_START (1 )
            IN WRITE (a 1)
            OUT WRITE (OK )
            IN TRANSACTION_END (F )
            """,
            {5},
            {3},
        ),
        (
            "the later of two transactions",
            """
            IN TRANSACTION_START ( )
            OUT TRANSACTION_START (1 )
            IN TRANSACTION_START ( )
            OUT TRANSACTION_START (2 )
            IN TRANSACTION_END (T )
            OUT TRANSACTION_END (OK )
            IN READ (a )
            OUT READ ()
            IN TRANSACTION_END (T )
            """,
            {5, 7, 9},
            {5},
        ),
        (
            "no read of what was there before a write in it",
            """
            IN TRANSACTION_START ( )
            OUT TRANSACTION_START (1 )
            IN WRITE (a 4)
            OUT WRITE (OK )
            IN READ (/local/domain/0/a )
            OUT READ (1)
            IN TRANSACTION_END (T )
            OUT TRANSACTION_END (OK )
            """,
            {3, 7},
            set(),
        ),
        (
            "no read of what was not there before a write in it",
            """
            IN TRANSACTION_START ( )
            OUT TRANSACTION_START (1 )
            IN WRITE (a 4)
            OUT WRITE (OK )
            IN READ (a )
            OUT ERROR (ENOENT )
            IN TRANSACTION_END (T )
            OUT TRANSACTION_END (OK )
            """,
            {3, 7},
            set(),
        ),
        (
            "either such a read or the write if it came to nothing",
            """
            IN TRANSACTION_START ( )
            OUT TRANSACTION_START (1 )
            IN WRITE (a 4)
            OUT WRITE (OK )
            IN READ (a )
            OUT READ (1)
            IN TRANSACTION_END (T )
            OUT ERROR (EAGAIN )
            """,
            {3, 7},
            {5},
        ),
        (
            "a read of what was written last or is removed",
            """
            IN TRANSACTION_START ( )
            OUT TRANSACTION_START (1 )
            IN WRITE (a 1)
            OUT WRITE (OK )
            IN WRITE (a 4 5)
            OUT WRITE (OK )
            IN READ (a )
            OUT READ (4 5)
            IN WRITE (b/c 4)
            OUT WRITE (OK )
            IN RM (b )
            OUT RM (OK )
            IN READ (b/c )
            OUT ERROR (ENOENT )
            IN TRANSACTION_END (T )
            OUT TRANSACTION_END (OK )
            """,
            {3, 5, 7, 9, 11, 13, 15},
            set(),
        ),
        (
            "a read after a write that failed",
            """
            IN TRANSACTION_START ( )
            OUT TRANSACTION_START (1 )
            IN WRITE (a 4)
            OUT ERROR (EACCES )
            IN READ (a )
            OUT READ (1)
            IN TRANSACTION_END (T )
            OUT TRANSACTION_END (OK )
            """,
            {3, 5, 7},
            set(),
        ),
        (
            "a change that is seen after the end, though a read waits",
            """
            IN TRANSACTION_START ( )
            OUT TRANSACTION_START (1 )
            IN READ (b )
            IN WRITE (a 4)
            OUT READ (1)
            OUT WRITE (OK )
            IN TRANSACTION_END (T )
            OUT WATCH_EVENT (a t )
            OUT TRANSACTION_END (OK )
            """,
            {3, 4, 7},
            {4},
        ),
        (
            "no change that is seen before the end",
            """
            IN TRANSACTION_START ( )
            OUT TRANSACTION_START (1 )
            IN WRITE (a 4)
            OUT WATCH_EVENT (a t )
            OUT WRITE (OK )
            IN TRANSACTION_END (T )
            OUT TRANSACTION_END (OK )
            """,
            {6},
            {3},
        ),
        (
            "a change like one that is seen late",
            """
            IN WRITE (a 3)
            OUT WRITE (OK )
            IN TRANSACTION_START ( )
            OUT TRANSACTION_START (1 )
            IN WRITE (a 4)
            OUT WATCH_EVENT (a t )
            OUT WRITE (OK )
            IN TRANSACTION_END (T )
            OUT WATCH_EVENT (a t )
            OUT TRANSACTION_END (OK )
            """,
            {5, 8},
            set(),
        ),
    ],
)
def test_in_a_transaction_is(
    name: str, lines: str, inside: set[int], undecided: set[int]
) -> None:
    found = transactions(_of(lines))
    assert set(found.start_of) == inside, name
    assert set(found.undecided) == undecided


BUS = """
IN 0xa WRITE (/state 1)
OUT 0xa WRITE (OK )
IN 0xa WRITE (/other 1)
OUT 0xa WRITE (OK )
IN 0xa WATCH (/state t )
OUT 0xa WATCH (OK )
OUT 0xa WATCH_EVENT (/state t )
IN 0xa TRANSACTION_START ( )
OUT 0xa TRANSACTION_START (1 )
IN 0xa READ (/other )
OUT 0xa READ (1)
IN 0xb WRITE (/other 2)
OUT 0xb WRITE (OK )
IN 0xa WRITE (/state 4)
OUT 0xa WRITE (OK )
IN 0xa READ (/state )
OUT 0xa READ (1)
IN 0xa READ (/other )
IN 0xa WRITE (/state 5)
OUT 0xa READ (2)
OUT 0xa WRITE (OK )
IN 0xa TRANSACTION_END (T )
OUT 0xa WATCH_EVENT (/state t )
OUT 0xa TRANSACTION_END (OK )
IN 0xa READ (/state )
OUT 0xa READ (5)
"""
"""One client reads what another of its connection changes in a transaction; by hand."""


def test_clients_of_one_connection_are_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = re.sub(r"(?m)(0x.)", r"\1 20261129 06:05:41", BUS.lstrip())
    opened = "CREATE connection 0xa\nCREATE connection 0xb\n"
    records = parse((opened + lines).encode())
    monkeypatch.setattr(Transactions, "moved", None)  # Nothing needs to be tried.
    assert replay_records(records).differences == []


def test_two_transactions_at_once_are_told_apart_by_what_came_of_them() -> None:
    records = _of("""
        IN WRITE (/a 0)
        OUT WRITE (OK )
        IN WRITE (/b 0)
        OUT WRITE (OK )
        IN WATCH (/ t )
        OUT WATCH (OK )
        OUT WATCH_EVENT (/ t )
        IN TRANSACTION_START ( )
        OUT TRANSACTION_START (1 )
        IN TRANSACTION_START ( )
        OUT TRANSACTION_START (2 )
        IN WRITE (/a 1)
        OUT WRITE (OK )
        IN WRITE (/b 1)
        OUT WRITE (OK )
        IN TRANSACTION_END (T )
        OUT WATCH_EVENT (/a t )
        OUT TRANSACTION_END (OK )
        IN TRANSACTION_END (T )
        OUT WATCH_EVENT (/b t )
        OUT TRANSACTION_END (OK )
    """)
    comparison = replay_records(records)
    assert comparison.differences == []
    assert comparison.events == 3
