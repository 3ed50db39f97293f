"""How tests/xen cuts the changes of one vif out of a trace."""

from tests.conformance.trace import parse
from tests.xen.trace_writes import TracedVif, Who, phases
from xenvirt.abi.ids import DOM0, DevId, DomId
from xenvirt.toolstack.vif_nodes import VifPaths

VIF = TracedVif(VifPaths(DomId(1), DOM0, DevId(0)))
DOM0_KERNEL, SOCKET, GUEST = "0xd0", "0x50", "0xd1"
BEGIN = (
    f"CREATE connection {DOM0_KERNEL}",
    f"CREATE connection {SOCKET}",
    f"IN {SOCKET} 20261129 06:00:00 INTRODUCE (1 2 3 )",
    f"CREATE connection {GUEST}",
    f"OUT {SOCKET} 20261129 06:00:00 INTRODUCE (OK )",
)


def asked(conn: str, request: str, payload: str, reply: str = "OK ") -> tuple[str, ...]:
    """A request and its reply."""
    kind = "ERROR" if reply.startswith("E") else request
    return (
        f"IN {conn} 20261129 06:00:00 {request} ({payload})",
        f"OUT {conn} 20261129 06:00:00 {kind} ({reply})",
    )


def cut(*lines: str) -> list[tuple[str, ...]]:
    """Who made each step, and its lines."""
    trace = "".join(f"{line}\n" for line in (*BEGIN, *lines)).encode()
    return [(step.who, *step.lines()) for step in phases(parse(trace), VIF)[""]]


def test_a_change_has_a_relative_path_and_the_form_of_its_value() -> None:
    path = "/local/domain/1/device/vif/0"
    assert cut(
        *asked(GUEST, "WRITE", "device/vif/0/tx-ring-ref 520"),
        *asked(GUEST, "WRITE", "device/vif/0/event-channel 08"),
        *asked(GUEST, "WRITE", "device/vif/1/state 4"),
        *asked(SOCKET, "SET_PERMS", f"{path}/mtu n0 r1 "),
    ) == [
        (Who.FRONTEND, "frontend/tx-ring-ref = <gref>"),
        (Who.FRONTEND, "frontend/event-channel = 08"),
        (Who.SCRIPT, "perms frontend/mtu n0,r<domid>"),
    ]


def test_a_transaction_is_one_step_where_it_ends() -> None:
    assert cut(
        *asked(DOM0_KERNEL, "TRANSACTION_START", " ", "7 "),
        *asked(DOM0_KERNEL, "WRITE", "backend/vif/1/0/feature-sg 1"),
        *asked(GUEST, "WRITE", "device/vif/0/xdp-headroom 0"),
        *asked(DOM0_KERNEL, "WRITE", "backend/vif/1/0/feature-rx-copy 1"),
        *asked(DOM0_KERNEL, "TRANSACTION_END", "T "),
    ) == [
        (Who.FRONTEND, "frontend/xdp-headroom = 0"),
        (
            Who.BACKEND,
            "start",
            "  backend/feature-sg = 1",
            "  backend/feature-rx-copy = 1",
            "commit",
        ),
    ]


def test_events_tell_whether_a_change_was_in_the_transaction() -> None:
    """Two requests wait for their replies: one is in the transaction, but which?"""
    state, sg = "backend/vif/1/0/state", "backend/vif/1/0/feature-sg"
    read = asked(SOCKET, "READ", f"{state} ", "1")
    write = asked(SOCKET, "WRITE", f"{sg} 1")
    own, another_s = (
        f"OUT {conn} 20261129 06:00:00 WATCH_EVENT ({sg} token )"
        for conn in (SOCKET, DOM0_KERNEL)
    )
    start = asked(SOCKET, "TRANSACTION_START", " ", "7 ")
    end = asked(SOCKET, "TRANSACTION_END", "T ")
    both = (read[0], write[0], read[1], write[1])
    inside = [(Who.SCRIPT, "start", "  backend/feature-sg = 1", "commit")]
    assert cut(*start, *both, *end, own) == inside
    assert cut(*start, *both, own, *end) == [(Who.SCRIPT, "backend/feature-sg = 1")]
    # Late, of what was written before: only its own connection is in order.
    assert cut(*start, *write, another_s, *end) == inside


def test_a_transaction_that_fails_changes_nothing() -> None:
    assert not cut(
        *asked(GUEST, "TRANSACTION_START", " ", "7 "),
        *asked(GUEST, "WRITE", "device/vif/0/state 4"),
        *asked(GUEST, "TRANSACTION_END", "T ", "EAGAIN "),
    )


def test_a_backend_of_ours_and_libxl_are_told_by_what_they_do() -> None:
    ours, xl = "0x51", "0x52"
    assert cut(
        f"CREATE connection {ours}",
        f"CREATE connection {xl}",
        *asked(ours, "WATCH", "backend 1 "),
        *asked(xl, "RM", "/libxl/1/device/vif/0 ", "ENOENT "),
        *asked(ours, "WRITE", "backend/vif/1/0/state 2"),
        *asked(xl, "RM", "/local/domain/1/device/vif "),
    ) == [
        (Who.TOOLSTACK, "rm libxl -> ENOENT"),
        (Who.BACKEND, "backend/state = 2"),
        (Who.TOOLSTACK, "rm frontend/.."),
    ]


def test_a_mark_begins_a_phase() -> None:
    lines = (
        *asked(SOCKET, "WRITE", "/trace-mark reload"),
        *asked(GUEST, "WRITE", "device/vif/0/state 5"),
    )
    trace = "".join(f"{line}\n" for line in (*BEGIN, *lines)).encode()
    found = phases(parse(trace), VIF)
    assert [step.changes for step in found["reload"]] == [("frontend/state = 5",)]
