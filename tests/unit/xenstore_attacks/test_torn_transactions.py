"""A transaction whose view has been overtaken by others is odd inside, and harmless.

What it saw first it goes on seeing, what it had not seen is as it is now: a directory
may list a child that is gone, or a node may have no directory. It cannot be committed.
"""

from collections.abc import Iterator

import pytest

from tests.xs_engine import Conn, Engine, result
from xenvirt.abi.xs_wire import XsWire as X

OK = b"OK\0"


class World:
    """Two connections of one domain, which share a directory."""

    def __init__(self) -> None:
        self.engine = Engine()
        dom0 = self.engine.connect(0)
        for payload in (b"/d/a/x\0v", b"/e\0v"):
            assert result(dom0.ask(X.WRITE, payload)) == OK
        for path in (b"/d", b"/d/a", b"/d/a/x", b"/e", b"/"):
            assert result(dom0.ask(X.SET_PERMS, path + b"\0b0\0")) == OK
        self.inside, self.outside = self.engine.connect(1), self.engine.connect(1)
        started = result(self.inside.ask(X.TRANSACTION_START, b"\0"))
        assert isinstance(started, bytes)
        self._tx_id = int(started[:-1])

    def do_inside(self, type_: X, payload: bytes) -> bytes | str:
        return result(self.inside.ask(type_, payload + b"\0", self._tx_id))

    def do_outside(self, type_: X, payload: bytes) -> None:
        assert result(self.outside.ask(type_, payload + b"\0")) == OK

    def ends_with_eagain(self) -> bool:
        return (
            self.do_inside(X.TRANSACTION_END, b"T") == "EAGAIN"
            and self.engine.is_consistent()
            and _is_served(self.inside)
        )


def _is_served(conn: Conn) -> bool:
    return isinstance(result(conn.ask(X.DIRECTORY, b"/\0")), bytes)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.engine.close()


def test_a_listed_child_that_is_gone_is_made_again_and_removed(world: World) -> None:
    assert world.do_inside(X.DIRECTORY, b"/d") == b"a\0"
    world.do_outside(X.RM, b"/d/a")
    assert world.do_inside(X.MKDIR, b"/d/a") == OK
    assert world.do_inside(X.DIRECTORY, b"/d") == b"a\0"
    assert world.do_inside(X.RM, b"/d") == OK
    assert world.ends_with_eagain()


def test_a_node_without_a_directory_is_removed(world: World) -> None:
    assert world.do_inside(X.READ, b"/new") == "ENOENT"
    world.do_outside(X.WRITE, b"/new/node\0v")
    assert world.do_inside(X.RM, b"/new/node") == "EINVAL"
    assert world.do_inside(X.RM, b"/new") == OK
    assert world.ends_with_eagain()


def test_a_node_is_made_below_a_directory_that_is_gone(world: World) -> None:
    assert world.do_inside(X.DIRECTORY, b"/d/a") == b"x\0"
    world.do_outside(X.RM, b"/d")
    assert world.do_inside(X.WRITE, b"/d/a/y/z\0v") == OK
    assert world.do_inside(X.DIRECTORY, b"/d/a") == b"x\0y\0"
    assert world.do_inside(X.RM, b"/d/a") == "EINVAL"
    assert world.ends_with_eagain()


def test_a_directory_is_removed_whose_children_have_changed(world: World) -> None:
    assert world.do_inside(X.DIRECTORY, b"/d") == b"a\0"
    world.do_outside(X.RM, b"/d/a")
    world.do_outside(X.WRITE, b"/d/b/c\0v")
    assert world.do_inside(X.RM, b"/d") == OK
    assert world.do_inside(X.MKDIR, b"/d/b/c") == OK
    assert world.do_inside(X.RM, b"/d") == OK
    assert world.ends_with_eagain()


def test_the_store_is_replaced_below_an_open_view(world: World) -> None:
    paths = (b"/d", b"/d/a", b"/d/a/x", b"/e")
    for path in paths[::2]:
        world.do_inside(X.READ, path)
    for path in (b"/d", b"/e"):
        world.do_outside(X.RM, path)
    world.do_outside(X.WRITE, b"/d/a/x/deep\0v")
    for type_ in (X.RM, X.MKDIR, X.READ, X.DIRECTORY, X.RM, X.RM):
        for path in paths:
            world.do_inside(type_, path)
    assert world.ends_with_eagain()
