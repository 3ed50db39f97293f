"""A hypervisor that begins anew with what its keeper had when it was killed."""

import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

from xenvirt.abi.ids import DOM0, DevId, DomId, Port
from xenvirt.errors import HypercallError
from xenvirt.hypervisor.evtchn import PortEntry
from xenvirt.hypervisor.keeper import Kept, OwnKeeper, Records, Value
from xenvirt.hypervisor.memory import NR_GRANT_ENTRIES
from xenvirt.hypervisor.published import Key
from xenvirt.hypervisor.session import Session, start_time
from xenvirt.hypervisor.system import System
from xenvirt.hypervisor.wire import close_fds
from xenvirt.native.gnttab import GrantTable, PeerGrantTable

D1, D2 = DomId(1), DomId(2)
UID = 7


class Launcher(OwnKeeper):
    """Keeps descriptors of its own, and can say what it had after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Records] = []

    def put(self, key: str, value: Value, fds: Sequence[int] = ()) -> None:
        super().put(key, value, fds)
        self._note()

    def drop(self, key: str) -> None:
        super().drop(key)
        self._note()

    def handed_over(self) -> Records:
        return copied(self.records)

    def _note(self) -> None:
        self.steps.append(copied(self.records))

    def close(self) -> None:
        for records in self.steps:
            for kept in records.values():
                close_fds(kept.fds)


def copied(records: Records) -> Records:
    return {
        key: Kept(dict(kept.value), [os.dup(fd) for fd in kept.fds])
        for key, kept in records.items()
    }


@pytest.fixture
def launcher() -> Iterator[Launcher]:
    before = os.listdir("/proc/self/fd")
    made = Launcher()
    yield made
    made.close()
    assert os.listdir("/proc/self/fd") == before


@pytest.fixture
def system(launcher: Launcher) -> Iterator[System]:
    made = System(now=5.0, keeper=launcher)
    made.keep_domain(DOM0)
    yield made
    made.close()


def begin_anew(records: Records) -> tuple[System, OwnKeeper]:
    keeper = OwnKeeper(records)
    return System.restore(records, keeper), keeper


def make_domain(system: System, name: str, domain_uuid: str | None = None) -> DomId:
    domid = system.create_domain(name, now=9.0, domain_uuid=domain_uuid).domid
    system.keep_domain(domid)
    return domid


def session_of(system: System, pid: int = 0) -> Session:
    session = Session(pid or os.getpid(), UID)
    system.name_session(session)
    return session


def ports(system: System, domid: DomId) -> list[tuple[int, int, int | None]]:
    return [
        (entry.port, entry.remote_domid, entry.remote_port)
        for entry in system.ports.status(domid)
    ]


def is_pending(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def connected(one: PortEntry, other: PortEntry) -> bool:
    os.eventfd_write(one.notify_fd, 1)
    arrived = is_pending(other.pending_fd)
    os.eventfd_read(other.pending_fd)
    return arrived


def test_everything_is_as_it_was(system: System, launcher: Launcher) -> None:
    make_domain(system, "one")
    make_domain(system, "two")
    system.destroy_domain(D1)
    system.memory(D2).map[4096:4101] = b"alive"
    front, back = session_of(system), session_of(system)
    near = system.ports.alloc_unbound(D2, DOM0, owner=front)
    far = system.ports.bind_interdomain(DOM0, D2, near.port, owner=back)
    os.eventfd_read(far.pending_fd)
    page = os.memfd_create("page")
    system.published.add(Key(D2, DevId(0), "back", 3), page, pid=back.pid, owner=back)
    before = [ports(system, DOM0), ports(system, D2)]

    after, keeper = begin_anew(launcher.handed_over())
    assert [d.name for d in after.domains] == ["Domain-0", "two"]
    assert after.domains.get(D2) == system.domains.get(D2)
    assert after.domains.get(DOM0).created == 5.0
    assert bytes(after.memory(D2).map[4096:4101]) == b"alive"
    assert [ports(after, DOM0), ports(after, D2)] == before
    assert after.store_port(D2).port == system.store_port(D2).port
    again = after.ports.get(D2, near.port)
    assert connected(again, far)
    assert connected(far, again)
    (shown,) = after.published.of_vif(D2, DevId(0))
    assert (shown.key.queue, shown.pid) == (3, back.pid)
    assert os.path.samestat(os.fstat(shown.fd), os.fstat(page))
    assert keeper.records.keys() == launcher.records.keys()
    # A number that was given out does not come back soon.
    assert after.create_domain("three", now=0.0).domid == 3
    # And once more, with what the new one has kept.
    third, _ = begin_anew(copied(keeper.records))
    assert ports(third, D2) == before[1]
    for each in (after, third):
        each.published.drop_owner(each.orphans[str(back.name)])
        each.close()


def test_a_bare_domain_stays_bare(system: System, launcher: Launcher) -> None:
    domid = system.create_domain("one", now=1.0, bare=True).domid
    system.keep_domain(domid)
    make_domain(system, "two")
    after, _ = begin_anew(launcher.handed_over())
    assert [domain.bare for domain in after.domains] == [False, True, False]
    after.close()


def test_what_goes_with_a_session_is_resumed_with_it(
    system: System, launcher: Launcher
) -> None:
    make_domain(system, "one")
    mine, anonymous = session_of(system), Session(1, UID)
    kept_port = system.ports.alloc_unbound(D1, DOM0, owner=mine, serial=4).port
    system.ports.alloc_unbound(D1, DOM0, owner=anonymous)

    after, _ = begin_anew(launcher.handed_over())
    assert [row[0] for row in ports(after, D1)] == [1, kept_port]
    with pytest.raises(HypercallError, match="another user's"):
        after.resume_session(str(mine.name), UID + 1)
    session = after.resume_session(str(mine.name), UID)
    assert session.process_lives
    with pytest.raises(HypercallError, match="no such session"):
        after.resume_session(str(mine.name), UID)
    entry = after.ports.opened(D1, session, 4)
    assert entry is not None
    assert entry.port == kept_port
    assert after.ports.opened(D1, session, 5) is None
    assert after.ports.opened(D1, Session(1, UID), 4) is None
    after.drop_owner(session)
    assert [row[0] for row in ports(after, D1)] == [1]
    after.close()


def test_a_session_that_is_named_late_has_what_it_had(
    system: System, launcher: Launcher
) -> None:
    make_domain(system, "one")
    session = Session(os.getpid(), UID)
    system.ports.alloc_unbound(D1, DOM0, owner=session)
    system.note_mapping(session, DOM0, D1)
    system.name_session(session)
    after, _ = begin_anew(launcher.handed_over())
    (orphan,) = after.orphans.values()
    assert orphan.mappings == {(DOM0, D1)}
    assert len(ports(after, D1)) == 2
    after.drop_owner(orphan)
    after.close()


def test_two_sessions_do_not_share_a_name(system: System) -> None:
    name = str(session_of(system).name)
    with pytest.raises(HypercallError, match="such a session already"):
        system.name_session(Session(1, UID), name)


def test_a_process_that_has_ended_does_not_live(system: System) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    session, later = session_of(system, process.pid), session_of(system, process.pid)
    assert session.process_lives
    other = Session(process.pid, UID, "other", (start_time(process.pid) or 0) + 1)
    assert not other.process_lives
    process.communicate(b"\n")
    assert not later.process_lives
    assert Session(process.pid, UID, "untold").process_lives


def test_grants_of_a_backend_that_never_comes_back_are_released(
    system: System, launcher: Launcher
) -> None:
    make_domain(system, "one")
    session = session_of(system)
    system.note_mapping(session, DOM0, D1)
    memory = system.memory(D1)
    GrantTable(memory.map, 65, 64).grant(9, DOM0, 64, readonly=False)
    PeerGrantTable(memory.map, 65, 64, DOM0).map(9, readonly=False)
    after, keeper = begin_anew(launcher.handed_over())
    assert after.memory(D1).map[72:74] != b"\x01\x00"
    after.drop_owner(after.orphans[str(session.name)])
    assert bytes(after.memory(D1).map[72:74]) == b"\x01\x00"
    assert NR_GRANT_ENTRIES > 9
    assert not [key for key in keeper.records if key.startswith(("session", "mapping"))]
    after.close()


def test_a_domain_that_was_being_made_never_was(
    system: System, launcher: Launcher
) -> None:
    domid = system.create_domain("half", now=0.0).domid
    # Its frontend is there already.
    system.ports.alloc_unbound(domid, DOM0, owner=session_of(system))
    after, keeper = begin_anew(launcher.handed_over())
    assert [d.domid for d in after.domains] == [DOM0]
    assert not [key for key in keeper.records if key.startswith("channel")]
    assert after.ports.nr_channels == 0
    after.close()


def test_a_domain_that_was_being_destroyed_is_still_to_be(
    system: System, launcher: Launcher
) -> None:
    make_domain(system, "one")
    system.mark_dying(D1)
    after, _ = begin_anew(launcher.handed_over())
    assert after.is_dying(D1)
    assert not after.is_dying(DOM0)
    after.close()


def everything(system: System) -> list[object]:
    """What a caller could see, but for the numbers of descriptors."""
    return [
        [(d.domid, d.name, d.uuid, system.is_dying(d.domid)) for d in system.domains],
        [(d.domid, ports(system, d.domid)) for d in system.domains],
        sorted(system.orphans),
    ]


def test_at_whichever_step_it_is_killed_the_tables_agree(
    system: System, launcher: Launcher
) -> None:
    """No record is without what it refers to, and no descriptor is left over."""
    make_domain(system, "one")
    make_domain(system, "two")
    front, back = session_of(system), session_of(system)
    near = system.ports.alloc_unbound(D1, DOM0, owner=front)
    far = system.ports.bind_interdomain(DOM0, D1, near.port, owner=back)
    system.note_mapping(back, DOM0, D1)
    page = os.memfd_create("page")
    system.published.add(Key(D1, DevId(0), "back", 0), page, pid=1, owner=back)
    system.ports.close(DOM0, far.port)
    system.drop_owner(front)
    system.mark_dying(D1)
    system.destroy_domain(D1)
    system.drop_owner(back)

    assert len(launcher.steps) > 20
    for records in launcher.steps:
        before = os.listdir("/proc/self/fd")
        here = copied(records)
        after, keeper = begin_anew(here)
        assert not here, "nobody takes this record"
        for domain in after.domains:
            for entry in after.ports.status(domain.domid):
                if entry.remote_port is not None:
                    peer = after.ports.get(entry.remote_domid, entry.remote_port)
                    assert peer.channel is entry.channel
            if domain.domid != DOM0 and not after.is_dying(domain.domid):
                assert after.store_port(domain.domid).domid == domain.domid
        # What it keeps is what it has: another one begins in the same way.
        second, second_keeper = begin_anew(copied(keeper.records))
        assert everything(second) == everything(after)
        assert second_keeper.records.keys() == keeper.records.keys()
        for each in (after, second):
            for orphan in list(each.orphans.values()):
                each.drop_owner(orphan)
            each.close()
        assert os.listdir("/proc/self/fd") == before


def test_a_record_that_has_lost_its_descriptors_is_dropped(
    system: System, launcher: Launcher
) -> None:
    make_domain(system, "one")
    make_domain(system, "two")
    records = launcher.handed_over()
    close_fds(records["domain/1"].fds)
    records["domain/1"].fds.clear()
    after, _ = begin_anew(records)
    assert [d.domid for d in after.domains] == [DOM0, D2]
    assert Port(1) in [row[0] for row in ports(after, D2)]
    after.close()
