"""The blocking client, against a server in a thread."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers_xenstore import running_server
from xenvirt.xenstore import retries
from xenvirt.xenstore.errors import (
    StoreAgainError,
    StoreConnectionError,
    StoreNotFoundError,
    StoreTooBigError,
)
from xenvirt.xenstore.sync_client import SyncClient, SyncTransaction


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    """The path of a running server's socket."""
    socket_path = str(tmp_path / "socket")
    with running_server(socket_path) as server:
        server.domain_created(1)
        server.domain_created(2)
        yield socket_path


@pytest.fixture
def client(path: str) -> Iterator[SyncClient]:
    with SyncClient(path) as connected:
        yield connected


def test_nodes_are_written_listed_read_and_removed(client: SyncClient) -> None:
    client.write({"/a/x": "grün", "/a/y": b"\xff"})
    client.mkdir("/a/z")
    assert client.ls("/a") == ["x", "y", "z"]
    assert client.read("/a/x") == "grün"
    assert client.read_bytes("/a/y") == b"\xff"
    client.rm("/a/y")
    assert [client.exists(f"/a/{n}") for n in "xyz"] == [True, False, True]
    client.set_perms("/a", ["r1", "b2"])
    assert [str(entry) for entry in client.get_perms("/a")] == ["r1", "b2"]


def test_a_huge_directory_is_listed_in_parts(client: SyncClient) -> None:
    names = [f"{'n' * 60}{i}" for i in range(300)]
    client.write({f"/d/{name}": "" for name in names})
    assert client.ls("/d") == names


def test_errors_are_typed_and_carry_the_path(client: SyncClient) -> None:
    with pytest.raises(StoreNotFoundError) as caught:
        client.read("/none")
    assert caught.value.path == "/none"
    with pytest.raises(StoreTooBigError):
        client.write({"/a": bytes(5000)})


def test_a_transaction_commits_at_the_end_of_its_block(
    client: SyncClient, path: str
) -> None:
    with SyncClient(path) as other:
        with client.transaction() as transaction:
            transaction.write({"/a": "v"})
            assert not other.exists("/a")
        assert other.read("/a") == "v"


def test_an_exception_aborts_the_transaction(client: SyncClient) -> None:
    def fail(transaction: SyncTransaction) -> None:
        transaction.write({"/a": "v"})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        client.transact(fail)
    assert not client.exists("/a")


def test_transact_starts_again_until_nobody_interferes(client: SyncClient) -> None:
    tries: list[str] = []

    def work(transaction: SyncTransaction) -> str:
        tries.append(transaction.read("/tool"))
        if len(tries) < 3:
            client.write({"/tool": str(len(tries))})
        return tries[-1]

    assert client.transact(work) == "2"
    assert tries == ["", "1", "2"]


def test_transact_starts_again_where_what_it_sees_does_not_fit(
    client: SyncClient,
) -> None:
    tries = 0

    def work(transaction: SyncTransaction) -> None:
        nonlocal tries
        tries += 1
        transaction.exists("/p")
        client.write({"/p/c": ""})
        # Of the first transaction's nodes this one has no parent: EINVAL.
        transaction.rm("/p/c")

    client.transact(work)
    assert (tries, client.exists("/p/c")) == (2, False)


def test_transact_raises_what_is_wrong_each_time(client: SyncClient) -> None:
    tries = 0

    def work(transaction: SyncTransaction) -> str:
        nonlocal tries
        tries += 1
        return transaction.read("/none")

    with pytest.raises(StoreNotFoundError):
        client.transact(work)
    assert tries == retries.TORN_ATTEMPTS


def test_a_conflict_is_an_error_at_the_end_of_the_block(client: SyncClient) -> None:
    def lose() -> None:
        with client.transaction() as transaction:
            transaction.write({"/a": "mine"})
            client.write({"/a": "theirs"})

    with pytest.raises(StoreAgainError):
        lose()


def test_a_watch_starts_with_an_event_and_follows_changes(client: SyncClient) -> None:
    with client.watch("/a") as changes:
        events = iter(changes)
        assert next(events) == "/a"
        client.write({"/a/b": "v"})
        assert next(events) == "/a/b"
    client.write({"/a": "v"})
    with client.watch("/a", timeout_s=0.05) as changes:
        client.ls("/")  # what is replied after the event
        assert list(changes) == ["/a"]


def test_two_watches_keep_their_events_apart(client: SyncClient) -> None:
    with (
        client.watch("/a", timeout_s=0.05) as one,
        client.watch("/b", timeout_s=0.05) as other,
    ):
        client.write({"/b/x": "", "/a/x": ""})
        client.ls("/")  # what is replied after their events
        assert list(one) == ["/a", "/a/x"]
        assert list(other) == ["/b", "/b/x"]


def test_wait_for_returns_the_wanted_value(client: SyncClient, path: str) -> None:
    def change() -> None:
        with SyncClient(path) as other:
            other.write({"/state": "3"})
            other.write({"/state": "4"})

    thread = threading.Thread(target=change)
    thread.start()
    assert client.wait_for("/state", lambda value: value == "4", timeout_s=10) == "4"
    thread.join()
    assert client.wait_for("/none", lambda value: value is None, timeout_s=10) is None


def test_wait_for_gives_up_in_time_however_often_the_node_changes(
    client: SyncClient, path: str
) -> None:
    stop = threading.Event()

    def change() -> None:
        with SyncClient(path) as other:
            while not stop.is_set():
                other.write({"/state": "3"})

    thread = threading.Thread(target=change)
    thread.start()
    start = time.monotonic()
    try:
        with pytest.raises(TimeoutError, match="/state"):
            client.wait_for("/state", lambda value: value == "4", timeout_s=0.2)
    finally:
        stop.set()
        thread.join()
    assert time.monotonic() - start < 5


def test_no_server_is_a_clear_error() -> None:
    with pytest.raises(StoreConnectionError, match="/nonexistent/socket"):
        SyncClient("/nonexistent/socket")


def test_a_closed_connection_is_a_clear_error(path: str) -> None:
    client = SyncClient(path)
    client.close()
    with pytest.raises(StoreConnectionError, match="no connection"):
        client.read("/")


def test_the_import_brings_no_event_loop() -> None:
    code = (
        "import sys, xenvirt.xenstore.sync_client;"
        "print([m for m in ('asyncio', 'uvloop', 'logging') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
