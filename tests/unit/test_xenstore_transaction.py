"""The traces of transaction.py, between two clients and a bystander."""

import pytest

from tests.helpers_xenstore import FakeDomains, ask, events, result
from xenvirt.abi.ids import DomId
from xenvirt.abi.xs_wire import XsWire
from xenvirt.xenstore.connection import Connection
from xenvirt.xenstore.engine import Engine

OK = b"OK\0"


class World:
    """Two clients with a transaction each, and somebody outside of them."""

    def __init__(self) -> None:
        self.engine = Engine(FakeDomains())
        self.a, self.b, self.s = (self.engine.connect(0) for _ in range(3))
        for path in ("/x/a", "/y/b", "/d"):
            self.do(self.s, XsWire.WRITE, path.encode() + b"\0old")
        self.tx_a, self.tx_b = self.start(self.a), self.start(self.b)

    def start(self, conn: Connection) -> int:
        return int(ask(self.engine, conn, 6, b"\0").payload.rstrip(b"\0"))

    def do(
        self, conn: Connection, type_: int, payload: bytes, tx_id: int = 0
    ) -> bytes | str:
        return result(ask(self.engine, conn, type_, payload, tx_id))

    def do_a(self, type_: int, payload: bytes) -> bytes | str:
        return self.do(self.a, type_, payload, self.tx_a)

    def do_b(self, type_: int, payload: bytes) -> bytes | str:
        return self.do(self.b, type_, payload, self.tx_b)

    def commit(self) -> tuple[bytes | str, bytes | str]:
        return (
            self.do_a(XsWire.TRANSACTION_END, b"T\0"),
            self.do_b(XsWire.TRANSACTION_END, b"T\0"),
        )


@pytest.fixture
def world() -> World:
    return World()


def test_parallel_transactions_on_other_nodes_both_commit(world: World) -> None:
    world.do_a(XsWire.WRITE, b"/x/a\0new")
    world.do_b(XsWire.WRITE, b"/y/b\0new")
    assert world.commit() == (OK, OK)
    assert world.do(world.s, XsWire.READ, b"/x/a\0") == b"new"
    assert world.do(world.s, XsWire.READ, b"/y/b\0") == b"new"


def test_values_of_two_children_of_one_directory_do_not_conflict(world: World) -> None:
    world.do(world.s, XsWire.WRITE, b"/x/b\0old")
    world.do_a(XsWire.WRITE, b"/x/a\0new")
    world.do_b(XsWire.WRITE, b"/x/b\0new")
    assert world.commit() == (OK, OK)


def test_creating_two_children_of_one_directory_conflicts(world: World) -> None:
    world.do_a(XsWire.MKDIR, b"/d/a\0")
    world.do_b(XsWire.MKDIR, b"/d/b\0")
    assert world.commit() == (OK, "EAGAIN")
    assert world.do(world.s, XsWire.DIRECTORY, b"/d\0") == b"a\0"


def test_a_read_only_transaction_conflicts_with_a_foreign_write(world: World) -> None:
    world.do_a(XsWire.READ, b"/x/a\0")
    world.do(world.s, XsWire.WRITE, b"/x/a\0new")
    assert world.commit() == ("EAGAIN", OK)


def test_a_node_that_was_missing_must_still_be_missing(world: World) -> None:
    assert world.do_a(XsWire.READ, b"/d/new\0") == "ENOENT"
    world.do(world.s, XsWire.MKDIR, b"/d/new\0")
    assert world.commit() == ("EAGAIN", OK)


def test_a_node_that_came_and_went_meanwhile_is_still_missing(world: World) -> None:
    world.do_a(XsWire.READ, b"/d/new\0")
    world.do(world.s, XsWire.MKDIR, b"/d/new\0")
    world.do(world.s, XsWire.RM, b"/d/new\0")
    assert world.commit() == (OK, OK)


def test_a_node_that_went_and_came_back_is_another_one(world: World) -> None:
    world.do_a(XsWire.READ, b"/x/a\0")
    world.do(world.s, XsWire.RM, b"/x/a\0")
    world.do(world.s, XsWire.WRITE, b"/x/a\0old")
    assert world.commit() == ("EAGAIN", OK)


def test_a_foreign_change_of_permissions_conflicts(world: World) -> None:
    world.do_a(XsWire.READ, b"/x/a\0")
    world.do(world.s, XsWire.SET_PERMS, b"/x/a\0n1\0")
    assert world.commit() == ("EAGAIN", OK)


def test_a_child_created_below_a_removed_directory_conflicts(world: World) -> None:
    world.do_a(XsWire.RM, b"/x\0")
    world.do(world.s, XsWire.MKDIR, b"/x/late\0")
    assert world.commit() == ("EAGAIN", OK)
    assert world.do(world.s, XsWire.READ, b"/x/a\0") == b"old"


def test_a_refused_commit_changes_nothing(world: World) -> None:
    world.do_a(XsWire.WRITE, b"/new/node\0value")
    world.do_a(XsWire.READ, b"/x/a\0")
    world.do(world.s, XsWire.WRITE, b"/x/a\0new")
    world.commit()
    assert world.do(world.s, XsWire.READ, b"/new\0") == "ENOENT"
    assert world.engine.store.is_consistent()


def test_own_writes_are_seen_within_and_by_nobody_else(world: World) -> None:
    world.do_a(XsWire.WRITE, b"/x/a\0mine")
    world.do_a(XsWire.MKDIR, b"/x/c\0")
    assert world.do_a(XsWire.READ, b"/x/a\0") == b"mine"
    assert world.do_a(XsWire.DIRECTORY, b"/x\0") == b"a\0c\0"
    assert world.do(world.s, XsWire.READ, b"/x/a\0") == b"old"
    assert world.do_b(XsWire.DIRECTORY, b"/x\0") == b"a\0"


def test_a_read_is_repeatable(world: World) -> None:
    world.do_a(XsWire.READ, b"/x/a\0")
    world.do(world.s, XsWire.WRITE, b"/x/a\0new")
    assert world.do_a(XsWire.READ, b"/x/a\0") == b"old"


def test_an_aborted_transaction_leaves_nothing(world: World) -> None:
    world.do_a(XsWire.RM, b"/x\0")
    assert world.do_a(XsWire.TRANSACTION_END, b"F\0") == OK
    assert world.do(world.s, XsWire.READ, b"/x/a\0") == b"old"
    assert world.do_a(XsWire.READ, b"/x/a\0") == "ENOENT"


def test_a_disconnected_client_leaves_nothing(world: World) -> None:
    world.do_a(XsWire.RM, b"/x\0")
    world.engine.disconnect(world.a)
    assert world.do(world.s, XsWire.READ, b"/x/a\0") == b"old"
    assert world.engine.domains.account(0).transactions == 1


def test_created_and_removed_within_leaves_nothing(world: World) -> None:
    nodes = len(world.engine.store)
    world.do_a(XsWire.MKDIR, b"/d/a/b\0")
    world.do_a(XsWire.RM, b"/d/a\0")
    assert world.commit() == (OK, OK)
    assert len(world.engine.store) == nodes
    assert world.engine.store.is_consistent()


def test_watches_hear_of_each_node_once_and_at_commit(world: World) -> None:
    world.do(world.s, XsWire.WATCH, b"/\0t\0")
    events(world.s)
    world.do_a(XsWire.WRITE, b"/x/a\0one")
    world.do_a(XsWire.WRITE, b"/d/n\0one")
    world.do_a(XsWire.WRITE, b"/x/a\0two")
    assert events(world.s) == []
    world.commit()
    assert events(world.s) == [("/x/a", "t"), ("/d/n", "t")]


def test_an_aborted_transaction_is_not_heard_of(world: World) -> None:
    world.do(world.s, XsWire.WATCH, b"/\0t\0")
    events(world.s)
    world.do_a(XsWire.WRITE, b"/x/a\0one")
    world.do_a(XsWire.TRANSACTION_END, b"F\0")
    assert events(world.s) == []


def test_a_transaction_cannot_hand_nodes_to_a_domain_that_died(world: World) -> None:
    world.do_a(XsWire.WRITE, b"/x/a\0new")
    world.do_a(XsWire.SET_PERMS, b"/x/a\0n1\0")
    world.engine.domain_dead(DomId(1))
    assert world.commit() == ("EAGAIN", OK)
    assert world.do(world.s, XsWire.GET_PERMS, b"/x/a\0") == b"n0\0"


def test_many_children_can_be_made_in_one(world: World) -> None:
    for i in range(100):
        world.do_a(XsWire.MKDIR, b"/d/%d\0" % i)
    assert world.commit() == (OK, OK)
    assert len(world.engine.store.node("/d").children) == 100
