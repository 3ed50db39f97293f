import os
import select
from collections.abc import Iterator

import pytest

from xenvirt.abi.ids import DomId, Port
from xenvirt.errors import HypercallError
from xenvirt.hypervisor.eventfds import EventfdChannel
from xenvirt.hypervisor.evtchn import NR_PORTS, PortState, PortTable
from xenvirt.hypervisor.session import Session

D0, D1, D2, NOBODY = DomId(0), DomId(1), DomId(2), DomId(77)


@pytest.fixture
def table() -> Iterator[PortTable]:
    made = PortTable()
    for domid in (D0, D1, D2):
        made.add_domain(domid)
    yield made
    for domid in (D0, D1, D2):
        made.remove_domain(domid)


def is_pending(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def states(table: PortTable, domid: DomId) -> list[tuple[int, PortState, int | None]]:
    return [(e.port, e.state, e.remote_port) for e in table.status(domid)]


def test_binding_connects_both_ends_and_makes_the_binder_pending(
    table: PortTable,
) -> None:
    front = table.alloc_unbound(D1, D0)
    assert states(table, D1) == [(1, PortState.UNBOUND, None)]
    back = table.bind_interdomain(D0, D1, front.port)
    assert states(table, D1) == [(1, PortState.INTERDOMAIN, back.port)]
    assert states(table, D0) == [(1, PortState.INTERDOMAIN, front.port)]
    assert is_pending(back.pending_fd)
    assert not is_pending(front.pending_fd)


def test_each_end_notifies_the_other_and_many_notifications_are_one(
    table: PortTable,
) -> None:
    front_entry = table.alloc_unbound(D1, D0)
    back_entry = table.bind_interdomain(D0, D1, front_entry.port)
    front = EventfdChannel(
        front_entry.port, front_entry.pending_fd, front_entry.notify_fd
    )
    back = EventfdChannel(back_entry.port, back_entry.pending_fd, back_entry.notify_fd)
    assert back.drain()
    for _ in range(3):
        front.notify()
    assert back.drain()
    assert not back.drain()
    back.notify()
    assert front.drain()


def test_notifying_a_full_counter_is_no_error(table: PortTable) -> None:
    entry = table.alloc_unbound(D1, D0)
    channel = EventfdChannel(entry.port, entry.pending_fd, entry.notify_fd)
    os.eventfd_write(entry.notify_fd, 2**64 - 2)
    channel.notify()
    assert is_pending(entry.notify_fd)


@pytest.mark.parametrize(
    ("binder", "remote_domid", "remote_port", "errno_name", "says"),
    [
        (D2, D1, 1, "EINVAL", "waits for domain 0, not for domain 2"),
        (D1, D1, 1, "EINVAL", "waits for domain 0, not for domain 1"),
        (D0, D1, 2, "EINVAL", "port 2 of domain 1 is closed"),
        (D0, D1, 0, "EINVAL", r"port 0 is not in 1\.\.131071"),
        (D0, D1, -1, "EINVAL", "port -1 is not in"),
        (D0, D1, 131072, "EINVAL", "port 131072 is not in"),
        (D0, NOBODY, 1, "ESRCH", "no domain 77"),
        (NOBODY, D1, 1, "EINVAL", "waits for domain 0"),
    ],
)
def test_xsa_221_a_refused_binding_changes_nothing(
    table: PortTable,
    binder: DomId,
    remote_domid: DomId,
    remote_port: int,
    errno_name: str,
    says: str,
) -> None:
    table.alloc_unbound(D1, D0)
    with pytest.raises(HypercallError, match=says) as caught:
        table.bind_interdomain(binder, remote_domid, Port(remote_port))
    assert caught.value.errno_name == errno_name
    assert states(table, D1) == [(1, PortState.UNBOUND, None)]
    assert states(table, D0) == []


def test_a_bound_port_is_not_bound_again(table: PortTable) -> None:
    front = table.alloc_unbound(D1, D0)
    table.bind_interdomain(D0, D1, front.port)
    with pytest.raises(HypercallError, match="bound already, to port 1 of domain 0"):
        table.bind_interdomain(D0, D1, front.port)


def test_xsa_338_when_one_side_closes_the_other_can_be_bound_again(
    table: PortTable,
) -> None:
    front = table.alloc_unbound(D1, D0)
    back = table.bind_interdomain(D0, D1, front.port)
    table.close(D0, back.port)
    assert states(table, D1) == [(1, PortState.UNBOUND, None)]
    with pytest.raises(HypercallError, match="waits for domain 0"):
        table.bind_interdomain(D2, D1, front.port)
    again = table.bind_interdomain(D0, D1, front.port)
    EventfdChannel(again.port, again.pending_fd, again.notify_fd).notify()
    assert is_pending(front.pending_fd)


def test_the_binders_side_waits_for_the_same_domain_when_the_other_closes(
    table: PortTable,
) -> None:
    front = table.alloc_unbound(D1, D0)
    back = table.bind_interdomain(D0, D1, front.port)
    table.close(D1, front.port)
    assert states(table, D0) == [(back.port, PortState.UNBOUND, None)]
    again = table.bind_interdomain(D1, D0, back.port)
    os.eventfd_write(back.notify_fd, 1)
    assert is_pending(again.pending_fd)


def test_a_domain_may_bind_its_own_port(table: PortTable) -> None:
    one = table.alloc_unbound(D1, D1)
    two = table.bind_interdomain(D1, D1, one.port)
    assert (one.remote_port, two.remote_port) == (two.port, one.port)


def test_the_remote_domain_need_not_exist_yet(table: PortTable) -> None:
    assert table.alloc_unbound(D1, NOBODY).remote_domid == NOBODY


def test_an_unknown_domain_gets_no_port(table: PortTable) -> None:
    with pytest.raises(HypercallError, match="no domain 77") as caught:
        table.alloc_unbound(NOBODY, D0)
    assert caught.value.errno_name == "ESRCH"


def test_xsa_342_ports_end_and_the_lowest_free_one_is_next(
    table: PortTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert NR_PORTS == 1 << 17
    monkeypatch.setattr("xenvirt.hypervisor.evtchn.NR_PORTS", 400)
    # Not 798 real descriptors: the limit of a test process may be 1024.
    monkeypatch.setattr("xenvirt.hypervisor.evtchn._eventfd", lambda: -1)
    monkeypatch.setattr(os, "close", lambda fd: None)
    for number in range(1, 400):
        assert table.alloc_unbound(D1, D0).port == number
    with pytest.raises(HypercallError, match="all 399 ports") as caught:
        table.alloc_unbound(D1, D0)
    assert caught.value.errno_name == "ENOSPC"
    table.close(D1, Port(17))
    assert table.alloc_unbound(D1, D0).port == 17
    table.remove_domain(D1)
    table.add_domain(D1)


def test_xsa_221_closing_twice_is_refused(table: PortTable) -> None:
    port = table.alloc_unbound(D1, D0).port
    table.close(D1, port)
    with pytest.raises(HypercallError, match="is closed"):
        table.close(D1, port)


def test_xsa_343_344_closing_a_domain_unbinds_its_peers(
    table: PortTable,
) -> None:
    before = os.listdir("/proc/self/fd")
    front = table.alloc_unbound(D1, D0)
    table.bind_interdomain(D0, D1, front.port)
    table.alloc_unbound(D1, D2)
    table.remove_domain(D1)
    assert states(table, D0) == [(1, PortState.UNBOUND, None)]
    table.close(D0, Port(1))
    assert os.listdir("/proc/self/fd") == before


def test_ports_close_with_their_owner(table: PortTable) -> None:
    owner = Session()
    table.alloc_unbound(D1, D0, owner=owner)
    kept = table.alloc_unbound(D1, D0)
    table.close_owned(owner)
    assert states(table, D1) == [(kept.port, PortState.UNBOUND, None)]
