"""A network namespace that has a user namespace of its own, and one that cannot."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from xenvirt.errors import LocalError, NotFoundError, XenvirtError
from xenvirt.netdev import links, namespaces, user_namespaces

pytestmark = pytest.mark.root

IDS = range(0x58560000, 0x58560010)


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"xvu{os.getpid()}"
    user_namespaces.create(name, IDS)
    try:
        yield name
    finally:
        user_namespaces.delete(name)


def in_a_child(function: Callable[[], bool]) -> bool:
    """Whether it is true in a process of its own."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if function() else 1)
    return os.waitpid(pid, 0)[1] == 0


def test_root_goes_in_and_out_as_ever(namespace: str) -> None:
    with namespaces.inside(namespace):
        loopback = links.get("lo")
        assert loopback is not None
        assert loopback.up
    shown = subprocess.run(
        ["ip", "netns", "exec", namespace, "cat", "/sys/class/net/lo/mtu"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "65536\n"


def test_who_enters_is_in_both_with_the_users_given(namespace: str) -> None:
    def enters() -> bool:
        before = os.readlink("/proc/self/ns/user"), os.readlink("/proc/self/ns/net")
        user_namespaces.enter(namespace)
        after = os.readlink("/proc/self/ns/user"), os.readlink("/proc/self/ns/net")
        maps = [Path(f"/proc/self/{kind}_map").read_text() for kind in ("uid", "gid")]
        os.setresuid(IDS[3], IDS[3], IDS[3])
        return (
            not {*before} & {*after}
            and [line.split() for line in maps] == [[str(IDS[0])] * 2 + ["16"]] * 2
        )

    assert in_a_child(enters)


def test_a_namespace_of_ours_is_entered_without_another_owner() -> None:
    name = f"xvu{os.getpid()}"
    namespaces.create(name)

    def enters() -> bool:
        before = os.readlink("/proc/self/ns/user")
        user_namespaces.enter(name)
        return os.readlink("/proc/self/ns/user") == before

    try:
        assert in_a_child(enters)
    finally:
        namespaces.delete(name)


def test_names_are_refused_as_in_namespaces(namespace: str) -> None:
    with pytest.raises(LocalError, match="exists already"):
        user_namespaces.create(namespace, IDS)
    with pytest.raises(NotFoundError):
        user_namespaces.enter("nosuch")


def test_nothing_is_left_of_what_has_failed() -> None:
    name = f"xvu{os.getpid()}"
    with pytest.raises(XenvirtError, match="cannot create network namespace"):
        # More users than there can be.
        user_namespaces.create(name, range(2**32 - 1, 2**32 + 5))
    assert not namespaces.exists(name)


def test_where_there_can_be_none_the_log_says_so() -> None:
    script = """
import logging, os
from xenvirt.netdev import user_namespaces
logging.basicConfig()
user_namespaces.create("alone", range(1, 2))
user_namespaces.enter("alone")
"""
    # Of a user namespace that may have none below it.
    prepared = """
mount -t tmpfs none /run/netns &&
echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"
"""
    namespaces.NETNS_DIR.mkdir(exist_ok=True)
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "--net", "sh", "-c",
         prepared, "sh", sys.executable, "-c", script],
        capture_output=True, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "CAP_NET_ADMIN in network namespace alone is so in all others" in done.stderr
    assert "No space left on device" in done.stderr
