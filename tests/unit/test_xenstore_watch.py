"""Who hears of which change, and under which name."""

import pytest

from tests.helpers_xenstore import FakeDomains, ask, events, result
from xenvirt.abi.ids import DomId
from xenvirt.abi.xs_wire import XsWire as X
from xenvirt.xenstore.connection import Connection
from xenvirt.xenstore.engine import Engine


class World:
    """dom0 changes things, another dom0 client and domain 1 watch."""

    def __init__(self) -> None:
        self.engine = Engine(FakeDomains())
        self.dom0, self.watcher = self.engine.connect(0), self.engine.connect(0)
        self.guest = self.engine.connect(1)
        self.do(X.WRITE, b"/local/domain/1/device/vif/0/state\x001")

    def do(self, type_: int, payload: bytes) -> None:
        assert result(ask(self.engine, self.dom0, type_, payload)) == b"OK\0"

    def watch(self, path: str, *depth: str, conn: Connection | None = None) -> None:
        """Watch with token `t` and take the first event."""
        payload = "\0".join((path, "t", *depth, "")).encode()
        conn = conn or self.watcher
        assert result(ask(self.engine, conn, X.WATCH, payload)) == b"OK\0"
        assert events(conn) == [(path, "t")]

    def heard(self, conn: Connection | None = None) -> list[str]:
        return [path for path, _ in events(conn or self.watcher)]


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("watched", "changed"),
    [
        ("/a", ["/a"]),
        ("/a", ["/a/b", "/a/b/c"]),
        ("/", ["/a", "/a/b"]),
    ],
)
def test_a_change_at_or_below_is_heard(
    world: World, watched: str, changed: list[str]
) -> None:
    world.watch(watched)
    for path in changed:
        world.do(X.MKDIR, path.encode() + b"\0")
    assert world.heard() == changed


@pytest.mark.parametrize("path", [b"/ab", b"/", b"/b/a"])
def test_a_change_elsewhere_is_not_heard(world: World, path: bytes) -> None:
    world.watch("/a")
    world.do(X.WRITE, path + b"\0v")
    assert world.heard() == []


@pytest.mark.parametrize(
    ("depth", "heard"),
    [
        ("0", ["/a"]),
        ("1", ["/a", "/a/b"]),
        ("2", ["/a", "/a/b", "/a/b/c"]),
    ],
)
def test_depth_limits_the_levels_below(
    world: World, depth: str, heard: list[str]
) -> None:
    world.watch("/a", depth)
    for path in ("/a", "/a/b", "/a/b/c"):
        world.do(X.MKDIR, path.encode() + b"\0")
    assert world.heard() == heard


def test_writing_the_same_value_is_a_change(world: World) -> None:
    world.watch("/tool")
    world.do(X.WRITE, b"/tool\0")
    assert world.heard() == ["/tool"]


def test_making_an_existing_directory_is_no_change(world: World) -> None:
    world.watch("/tool")
    world.do(X.MKDIR, b"/tool\0")
    assert world.heard() == []


def test_a_change_of_permissions_is_heard(world: World) -> None:
    world.watch("/tool")
    world.do(X.SET_PERMS, b"/tool\0r0\0")
    assert world.heard() == ["/tool"]


def test_implicit_parents_are_not_reported(world: World) -> None:
    world.watch("/")
    world.do(X.WRITE, b"/p/q/r\0v")
    assert world.heard() == ["/p/q/r"]


def test_removal_is_one_event_above_and_an_own_one_inside(world: World) -> None:
    world.watch("/local")
    world.watch("/local/domain/1/device/vif/0/state")
    world.watch("/local/domain/1/device/other")
    world.do(X.RM, b"/local/domain/1/device\0")
    assert world.heard() == [
        "/local/domain/1/device",
        "/local/domain/1/device/vif/0/state",
    ]


def test_a_relative_watch_gets_relative_paths(world: World) -> None:
    world.do(X.SET_PERMS, b"/local/domain/1/device\0r1\0")
    world.watch("device", conn=world.guest)
    world.do(X.WRITE, b"/local/domain/1/device/vif\0v")
    world.do(X.RM, b"/local/domain/1/device\0")
    assert world.heard(world.guest) == ["device/vif", "device"]


def test_an_equal_event_that_waits_is_not_queued_again(world: World) -> None:
    world.watch("/a")
    for _ in range(3):
        world.do(X.WRITE, b"/a\0v")
        world.do(X.WRITE, b"/a/b\0v")
    assert world.heard() == ["/a", "/a/b"]
    world.do(X.WRITE, b"/a\0v")
    assert world.heard() == ["/a"]


def test_tokens_are_opaque_and_separate(world: World) -> None:
    for token in (b"\xff one", b""):
        ask(world.engine, world.watcher, X.WATCH, b"/a\0%b\0" % token)
    world.watcher.take()
    world.do(X.WRITE, b"/a\0v")
    queued = b"".join(world.watcher.take())
    assert b"/a\0\xff one\0" in queued
    assert queued.endswith(b"/a\0\0")


def test_an_event_that_does_not_fit_is_dropped(world: World) -> None:
    token = b"t" * 4080
    ask(world.engine, world.watcher, X.WATCH, b"/a\0%b\0" % token)
    world.watcher.take()
    world.do(X.WRITE, b"/a/%b\0v" % (b"n" * 100))
    world.do(X.WRITE, b"/a/n\0v")
    assert world.heard() == ["/a/n"]


def test_unwatch_ends_the_events(world: World) -> None:
    world.watch("/a")
    assert result(ask(world.engine, world.watcher, X.UNWATCH, b"/a\0t\0")) == b"OK\0"
    world.do(X.WRITE, b"/a\0v")
    assert world.heard() == []


def test_reset_and_disconnect_end_the_events(world: World) -> None:
    for _ in range(1000):
        world.watch("/a")
        ask(world.engine, world.watcher, X.RESET_WATCHES, b"\0")
    world.watch("/a", conn=world.guest)
    world.engine.disconnect(world.guest)
    world.do(X.WRITE, b"/a\0v")
    assert world.heard() == []
    assert world.guest.outbox == []
    assert world.engine.domains.account(0).watches == 0
    assert world.engine.domains.account(1).watches == 0


def test_a_guest_hears_only_of_what_it_may_read(world: World) -> None:
    world.watch("/", conn=world.guest)
    world.do(X.WRITE, b"/secret/x\0v")
    world.do(X.RM, b"/secret/x\0")
    world.do(X.RM, b"/secret\0")
    assert world.heard(world.guest) == []
    world.do(X.MKDIR, b"/mine\0")
    world.do(X.SET_PERMS, b"/mine\0n0\0r1\0")
    world.do(X.WRITE, b"/mine\0v")
    world.do(X.WRITE, b"/mine/x\0v")
    assert world.heard(world.guest) == ["/mine", "/mine/x"]


def test_a_child_of_a_readable_directory_is_heard_of(world: World) -> None:
    world.do(X.WRITE, b"/dir/x\0v")
    world.do(X.SET_PERMS, b"/dir\0r0\0")
    world.watch("/dir", conn=world.guest)
    world.do(X.WRITE, b"/dir/x\0v")
    world.do(X.WRITE, b"/dir/x/deep\0v")
    assert world.heard(world.guest) == ["/dir/x"]


def test_losing_the_right_to_read_is_the_last_event(world: World) -> None:
    world.do(X.WRITE, b"/a/x\0v")
    world.do(X.SET_PERMS, b"/a/x\0n0\0r1\0")
    world.watch("/a/x", conn=world.guest)
    world.do(X.SET_PERMS, b"/a/x\0n0\0")
    world.do(X.WRITE, b"/a/x\0v")
    assert world.heard(world.guest) == ["/a/x"]
    world.watch("/a", conn=world.guest)


def test_removal_of_a_readable_node_is_heard_of(world: World) -> None:
    world.do(X.WRITE, b"/a/x/y\0v")
    world.do(X.SET_PERMS, b"/a/x/y\0n0\0r1\0")
    world.watch("/a/x/y", conn=world.guest)
    world.do(X.RM, b"/a\0")
    assert world.heard(world.guest) == ["/a/x/y"]


def introduce(world: World) -> None:
    world.do(X.INTRODUCE, b"2\x005\x003\0")


def test_introduction_and_release_are_heard_by_dom0_and_never_merged(
    world: World,
) -> None:
    world.watch("@introduceDomain")
    world.watch("@releaseDomain")
    introduce(world)
    introduce(world)
    world.do(X.RELEASE, b"2\0")
    introduce(world)
    world.engine.domain_dead(DomId(2))
    world.engine.domain_dead(DomId(2))
    assert world.heard() == [
        "@introduceDomain", "@releaseDomain", "@introduceDomain", "@releaseDomain",
    ]  # fmt: skip


def test_depth_tells_which_domain(world: World) -> None:
    world.watch("@releaseDomain", "1")
    introduce(world)
    world.do(X.RELEASE, b"2\0")
    assert world.heard() == ["@releaseDomain/2"]


def test_one_domain_can_be_watched(world: World) -> None:
    world.watch("@releaseDomain/2")
    world.watch("@releaseDomain/3")
    introduce(world)
    world.do(X.RELEASE, b"2\0")
    assert world.heard() == ["@releaseDomain/2"]


def test_a_guest_hears_of_introduction_only_if_it_was_granted(world: World) -> None:
    world.watch("@introduceDomain", conn=world.guest)
    introduce(world)
    assert world.heard(world.guest) == []
    world.do(X.RELEASE, b"2\0")
    world.do(X.SET_PERMS, b"@introduceDomain\0n0\0r1\0")
    introduce(world)
    assert world.heard(world.guest) == ["@introduceDomain"]
