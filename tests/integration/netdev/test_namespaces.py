"""Network namespaces, and which thread is in them."""

import os
import subprocess
import threading

import pytest

from tests.integration.netdev.interfaces import BRIDGE, make_bridge, unused_name
from xenvirt.errors import LocalError, NotFoundError, NotPermittedError
from xenvirt.netdev import links, namespaces

pytestmark = pytest.mark.root


def namespace_id() -> int:
    return os.stat("/proc/thread-self/ns/net").st_ino


def test_iproute2_sees_a_namespace_and_its_loopback_is_up(namespace: str) -> None:
    assert namespaces.exists(namespace)
    assert namespace in namespaces.list_names()
    command = ["ip", "-netns", namespace, "-brief", "address"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "127.0.0.1/8" in output
    assert len(output.splitlines()) == 1


def test_creating_leaves_the_caller_where_it_was() -> None:
    here = namespace_id()
    name = unused_name()
    namespaces.create(name)
    namespaces.delete(name)
    assert namespace_id() == here


def test_a_name_that_is_taken_is_refused_and_left_alone(namespace: str) -> None:
    with pytest.raises(LocalError, match="exists already"):
        namespaces.create(namespace)
    with namespaces.inside(namespace):
        pass


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "n" * 256])
def test_a_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(LocalError, match="cannot be named so"):
        namespaces.create(name)


def test_deleting_is_idempotent_and_takes_a_name_without_a_namespace() -> None:
    name = unused_name()
    namespaces.delete(name)
    (namespaces.NETNS_DIR / name).touch()
    namespaces.delete(name)
    assert not namespaces.exists(name)


def test_without_root_nothing_is_created() -> None:
    name = unused_name()
    os.seteuid(65534)
    try:
        with pytest.raises(NotPermittedError, match=name):
            namespaces.create(name)
    finally:
        os.seteuid(0)
    assert not namespaces.exists(name)


def test_inside_comes_back_after_an_error(namespace: str) -> None:
    here = namespace_id()
    with pytest.raises(NotFoundError), namespaces.inside(namespace):
        links.configure("nosuch", up=True)
    assert namespace_id() == here


def test_inside_of_a_missing_namespace_stays_here() -> None:
    here = namespace_id()
    with pytest.raises(NotFoundError, match="nosuch"), namespaces.inside("nosuch"):
        pass
    assert namespace_id() == here


def test_only_the_calling_thread_moves(namespace: str) -> None:
    here = namespace_id()
    entered, done = threading.Event(), threading.Event()
    seen: list[int] = []

    def visit() -> None:
        namespaces.enter(namespace)
        seen.append(namespace_id())
        entered.set()
        done.wait(10)

    thread = threading.Thread(target=visit)
    thread.start()
    assert entered.wait(10)
    assert namespace_id() == here
    assert seen != [here]
    done.set()
    thread.join()


def test_netlink_works_where_the_thread_is(namespace: str) -> None:
    with namespaces.inside(namespace):
        make_bridge()
        assert links.exists(BRIDGE)
    assert not links.exists(BRIDGE)


def test_many_threads_create_and_delete_at_once() -> None:
    names = [unused_name() for _ in range(16)]
    threads = [threading.Thread(target=namespaces.create, args=(n,)) for n in names]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(names) <= set(namespaces.list_names())
    finally:
        for name in names:
            namespaces.delete(name)
    assert not set(names) & set(namespaces.list_names())
