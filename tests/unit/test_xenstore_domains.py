"""Quotas of a domain, the end of a domain, and the rights of a device model."""

import pytest

from tests.helpers_xenstore import FakeDomains, ask, events, result
from xenvirt.abi.ids import DomId
from xenvirt.abi.xs_wire import XsWire as X
from xenvirt.xenstore.connection import Connection
from xenvirt.xenstore.engine import Engine
from xenvirt.xenstore.quota import Quotas

OK = b"OK\0"
HOME = b"/local/domain/1"


class World:
    """dom0, and domain 1 with a directory of its own."""

    def __init__(self, **quotas: int) -> None:
        self.hypervisor = FakeDomains()
        self.engine = Engine(self.hypervisor, Quotas(**quotas))
        self.dom0, self.guest = self.engine.connect(0), self.engine.connect(1)
        for domid in (1, 2):
            self.do(self.dom0, X.INTRODUCE, b"%d\x005\x003\0" % domid)
        self.do(self.dom0, X.MKDIR, HOME + b"\0")
        self.do(self.dom0, X.SET_PERMS, HOME + b"\0n1\0")

    def do(
        self, conn: Connection, type_: int, payload: bytes, tx_id: int = 0
    ) -> bytes | str:
        return result(ask(self.engine, conn, type_, payload, tx_id))

    def guest_do(self, type_: int, payload: bytes, tx_id: int = 0) -> bytes | str:
        return self.do(self.guest, type_, payload, tx_id)


def test_a_domain_reaches_one_node_less_than_its_quota() -> None:
    world = World(nodes=10)
    results = [world.guest_do(X.MKDIR, b"n%d\0" % i) for i in range(9)]
    assert results == [OK] * 8 + ["ENOSPC"]
    assert world.engine.store.owned_by(1) == 9


def test_a_path_that_would_exceed_the_quota_half_way_makes_nothing() -> None:
    world = World(nodes=5)
    assert world.guest_do(X.WRITE, b"a/b/c/d\0v") == "ENOSPC"
    assert world.guest_do(X.DIRECTORY, HOME + b"\0") == b""
    assert world.guest_do(X.WRITE, b"a/b/c\0v") == OK
    assert world.engine.store.is_consistent()


def test_removed_nodes_can_be_made_again() -> None:
    world = World(nodes=4)
    assert world.guest_do(X.WRITE, b"a/b\0v") == OK
    assert world.guest_do(X.MKDIR, b"c\0") == "ENOSPC"
    assert world.guest_do(X.RM, b"a\0") == OK
    assert world.guest_do(X.MKDIR, b"c\0") == OK


def test_dom0_is_not_limited() -> None:
    world = World(nodes=2, watches=1, transactions=1, node_size=20, path_max=5)
    assert world.do(world.dom0, X.WRITE, HOME + b"/a/b/c\0" + bytes(100)) == OK
    assert world.do(world.dom0, X.WATCH, b"/\0t\0") == OK
    assert world.do(world.dom0, X.TRANSACTION_START, b"\0") == b"1\0"


def test_a_quota_of_zero_is_none() -> None:
    world = World(nodes=0)
    assert {world.guest_do(X.MKDIR, b"n%d\0" % i) for i in range(50)} == {OK}


def test_watches_are_counted_over_all_connections_of_a_domain() -> None:
    world = World(watches=4)
    other = world.engine.connect(1)
    assert world.guest_do(X.WATCH, b"a\0t\0") == OK
    assert world.do(other, X.WATCH, b"a\0t\0") == OK
    assert world.guest_do(X.WATCH, b"b\0t\0") == OK
    assert world.do(other, X.WATCH, b"b\0t\0") == "ENOSPC"
    world.engine.disconnect(other)
    assert world.guest_do(X.WATCH, b"c\0t\0") == OK


def test_the_128th_watch_is_refused() -> None:
    world = World()
    results = [world.guest_do(X.WATCH, b"a\0%d\0" % i) for i in range(128)]
    assert results == [OK] * 127 + ["ENOSPC"]


def test_the_tenth_transaction_is_refused() -> None:
    world = World()
    results = [world.guest_do(X.TRANSACTION_START, b"\0") for _ in range(10)]
    assert results[8:] == [b"9\0", "ENOSPC"]
    assert world.guest_do(X.TRANSACTION_END, b"F\0", 4) == OK
    assert world.guest_do(X.TRANSACTION_START, b"\0") == b"10\0"


def test_a_transaction_touches_one_node_less_than_its_quota() -> None:
    world = World(transaction_nodes=4)
    world.guest_do(X.WRITE, b"a\0v")
    assert world.guest_do(X.TRANSACTION_START, b"\0") == b"1\0"
    assert world.guest_do(X.READ, b"a\0", 1) == b"v"
    assert world.guest_do(X.READ, b"b\0", 1) == "ENOENT"
    assert world.guest_do(X.READ, b"c\0", 1) == "ENOSPC"
    assert world.guest_do(X.READ, b"a\0", 1) == b"v"


def test_a_removal_that_exceeds_the_transactions_quota_removes_nothing() -> None:
    world = World(transaction_nodes=4)
    for name in (b"a/b", b"a/c", b"a/d"):
        world.guest_do(X.MKDIR, name + b"\0")
    world.guest_do(X.TRANSACTION_START, b"\0")
    assert world.guest_do(X.RM, b"a\0", 1) == "ENOSPC"
    assert world.guest_do(X.TRANSACTION_END, b"T\0", 1) == OK
    assert world.guest_do(X.DIRECTORY, b"a\0") == b"b\0c\0d\0"
    assert world.engine.store.is_consistent()


def test_the_quota_of_nodes_holds_again_at_commit() -> None:
    world = World(nodes=4)
    for tx_id in (1, 2):
        assert world.guest_do(X.TRANSACTION_START, b"\0") == b"%d\0" % tx_id
    world.guest_do(X.MKDIR, b"x\0")
    world.guest_do(X.MKDIR, b"x/a\0", 1)
    assert world.do(world.dom0, X.SET_PERMS, b"/tool\0n1\0") == OK
    assert world.guest_do(X.TRANSACTION_END, b"T\0", 1) == "ENOSPC"
    assert world.engine.store.owned_by(1) == 3


@pytest.mark.parametrize(
    ("value_size", "expected"), [(2048 - 16 - 8 - 1, OK), (2048 - 16 - 8, "ENOSPC")]
)
def test_the_size_of_a_node_is_limited(value_size: int, expected: bytes | str) -> None:
    world = World()
    assert world.guest_do(X.WRITE, b"new\0" + bytes(value_size)) == expected
    world.guest_do(X.WRITE, b"old\0v")
    assert world.guest_do(X.WRITE, b"old\0" + bytes(value_size)) == expected


def test_the_names_of_children_count_for_the_size_of_a_directory() -> None:
    world = World(node_size=24 + 10)
    assert world.guest_do(X.MKDIR, b"aaaa\0") == OK
    assert world.guest_do(X.MKDIR, b"bbbb\0") == "ENOSPC"
    assert world.guest_do(X.MKDIR, b"bbb\0") == OK
    assert world.guest_do(X.MKDIR, b"aaaa/%b/c\0" % (b"n" * 9)) == "ENOSPC"


def test_a_list_of_permissions_has_at_most_four_entries() -> None:
    world = World()
    entries = b"n1\0r2\0r3\0r0\0"
    assert world.guest_do(X.SET_PERMS, HOME + b"\0" + entries) == OK
    assert world.guest_do(X.SET_PERMS, HOME + b"\0" + entries + b"r0\0") == "ENOSPC"


def test_the_length_of_a_path_is_limited_after_the_domains_prefix() -> None:
    world = World()
    assert world.guest_do(X.READ, b"n" * 2047 + b"\0") == "ENOENT"
    assert world.guest_do(X.READ, b"n" * 2048 + b"\0") == "EINVAL"
    assert world.guest_do(X.READ, HOME + b"/" + b"n" * 2047 + b"\0") == "ENOENT"
    assert world.do(world.dom0, X.READ, b"/" + b"n" * 3071 + b"\0") == "ENOENT"


def test_a_dead_domain_leaves_no_nodes_and_no_rights() -> None:
    world = World()
    world.guest_do(X.WRITE, b"data/x\0v")
    world.do(world.dom0, X.WRITE, b"/shared\0v")
    world.do(world.dom0, X.SET_PERMS, b"/shared\0n0\0b1\0r2\0")
    world.do(world.dom0, X.WATCH, b"/local\0t\0")
    events(world.dom0)
    world.engine.domain_dead(DomId(1))
    assert not world.guest.alive
    assert events(world.dom0) == [("/local/domain/1", "t")]
    assert world.do(world.dom0, X.READ, HOME + b"\0") == "ENOENT"
    assert world.do(world.dom0, X.GET_PERMS, b"/shared\0") == b"n0\0r2\0"
    assert world.engine.store.is_consistent()
    reborn = world.engine.connect(1)
    assert world.do(reborn, X.READ, b"/shared\0") == "EACCES"


def test_a_reborn_domain_starts_with_an_empty_account() -> None:
    world = World(nodes=4, watches=2)
    world.guest_do(X.MKDIR, b"a/b\0")
    world.guest_do(X.WATCH, b"a\0t\0")
    world.engine.domain_dead(DomId(1))
    world.do(world.dom0, X.MKDIR, HOME + b"\0")
    world.do(world.dom0, X.SET_PERMS, HOME + b"\0n1\0")
    world.guest = world.engine.connect(1)
    assert world.guest_do(X.MKDIR, b"a/b\0") == OK
    assert world.guest_do(X.WATCH, b"a\0t\0") == OK


def test_the_store_survives_the_death_of_an_owner_of_the_root() -> None:
    world = World()
    for path in (b"/", b"@releaseDomain"):
        world.do(world.dom0, X.SET_PERMS, path + b"\0r1\0")
    world.engine.domain_dead(DomId(1))
    assert world.do(world.dom0, X.GET_PERMS, b"/\0") == b"r0\0"
    assert world.do(world.dom0, X.GET_PERMS, b"@releaseDomain\0") == b"r0\0"
    assert world.engine.store.is_consistent()


def test_a_grant_to_a_domain_that_does_not_exist_stays_without_effect() -> None:
    world = World()
    world.do(world.dom0, X.WRITE, b"/a\0v")
    world.do(world.dom0, X.SET_PERMS, b"/a\0n0\0r4\0")
    world.hypervisor.existing.add(4)
    late = world.engine.connect(4)
    assert world.do(late, X.READ, b"/a\0") == "EACCES"
    world.do(world.dom0, X.SET_PERMS, b"/a\0n0\0r4\0")
    assert world.do(late, X.READ, b"/a\0") == b"v"


def test_a_device_model_has_its_targets_rights_until_that_dies() -> None:
    world = World()
    stub = world.engine.connect(2)
    world.guest_do(X.WRITE, b"data\0v")
    assert world.do(stub, X.READ, HOME + b"/data\0") == "EACCES"
    assert world.do(world.dom0, X.SET_TARGET, b"2\x001\0") == OK
    assert world.do(stub, X.READ, HOME + b"/data\0") == b"v"
    assert world.do(world.engine.connect(2), X.READ, HOME + b"/data\0") == b"v"
    world.engine.domain_dead(DomId(1))
    world.do(world.dom0, X.MKDIR, HOME + b"\0")
    world.do(world.dom0, X.SET_PERMS, HOME + b"\0n1\0")
    assert world.do(stub, X.READ, HOME + b"\0") == "EACCES"
    assert world.do(world.engine.connect(2), X.READ, HOME + b"\0") == "EACCES"


def test_release_tells_the_hypervisor() -> None:
    world = World()
    assert world.hypervisor.served == {1: (5, 3), 2: (5, 3)}
    world.do(world.dom0, X.RELEASE, b"1\0")
    assert world.hypervisor.served == {2: (5, 3)}
