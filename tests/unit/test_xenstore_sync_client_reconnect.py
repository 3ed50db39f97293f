"""The blocking client's connection is lost, and what it does about it."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.helpers_xenstore import listening, running_server
from xenvirt.abi.xs_wire import HEADER, XsWire
from xenvirt.xenstore import requests
from xenvirt.xenstore.errors import (
    RequestError,
    StoreAgainError,
    StoreConnectionError,
    StoreNotFoundError,
    StoreProtocolError,
    StoreUncertainError,
)
from xenvirt.xenstore.framing import MessageDecoder, encode
from xenvirt.xenstore.sync_client import SyncClient, SyncTransaction


class Stores:
    """A store at a path, and the next one when it has been killed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stack = ExitStack()

    def start(self) -> None:
        self._stack.enter_context(running_server(str(self.path)))

    def kill(self) -> None:
        """All connections end; nothing of the nodes is kept."""
        self._stack.close()
        self.path.unlink()

    def restart(self) -> None:
        self.kill()
        self.start()


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    made = Stores(tmp_path / "socket")
    made.start()
    yield made
    made.kill()


@pytest.fixture
def client(stores: Stores) -> Iterator[SyncClient]:
    with SyncClient(str(stores.path), reconnect_s=10) as connected:
        yield connected


def test_without_a_way_to_reconnect_a_loss_is_an_error(stores: Stores) -> None:
    with SyncClient(str(stores.path)) as client:
        stores.restart()
        with pytest.raises(StoreConnectionError, match="no connection"):
            client.read("/")


def test_requests_after_a_loss_are_served_by_the_next_store(
    client: SyncClient, stores: Stores
) -> None:
    client.write({"/a": "v"})
    stores.restart()
    assert not client.exists("/a")
    client.write({"/a": "v"})
    assert client.read("/a") == "v"


def test_many_requests_at_once_survive_a_loss(
    client: SyncClient, stores: Stores
) -> None:
    stores.restart()
    writes = [requests.write(f"/a/{n}", str(n)) for n in range(100)]
    assert client.gather(writes) == [None] * 100
    stores.restart()
    reads = [requests.read("/tool"), requests.read("/a"), requests.read("/")]
    assert [
        outcome if isinstance(outcome, str) else outcome.errno_name
        for outcome in client.gather(reads)
    ] == ["", "ENOENT", ""]


def test_watches_are_registered_again_and_tell_to_look(
    client: SyncClient, stores: Stores
) -> None:
    with client.watch("/a") as one, client.watch("/b") as other:
        events, others = iter(one), iter(other)
        assert [next(events), next(others)] == ["/a", "/b"]
        stores.restart()
        assert [next(events), next(others)] == ["/a", "/b"]
        client.write({"/a/x": "v"})
        assert next(events) == "/a/x"


def test_a_transaction_is_lost_and_done_again(
    client: SyncClient, stores: Stores
) -> None:
    tries = 0

    def work(transaction: SyncTransaction) -> None:
        nonlocal tries
        tries += 1
        transaction.write({"/a": "v"})
        if tries == 1:
            stores.restart()
        transaction.write({"/b": "v"})

    client.transact(work)
    assert tries == 2
    assert client.ls("/") == ["tool", "a", "b"]


def test_many_requests_of_a_lost_transaction_are_conflicts(
    client: SyncClient, stores: Stores
) -> None:
    def lose() -> None:
        with client.transaction() as transaction:
            stores.restart()
            outcomes = transaction.gather([requests.read("/"), requests.read("/tool")])
            assert [type(outcome) for outcome in outcomes] == [StoreAgainError] * 2

    with pytest.raises(StoreAgainError):
        lose()


def test_an_introduction_in_flight_is_made_by_the_next_store(
    client: SyncClient, stores: Stores
) -> None:
    client.introduce(1, 1, 1)
    assert client.is_domain_introduced(1)
    stores.restart()
    client.introduce(1, 1, 1)
    assert client.is_domain_introduced(1)
    stores.restart()
    with pytest.raises(StoreUncertainError):
        client.control("check")


def test_a_release_in_flight_is_done_again(client: SyncClient, stores: Stores) -> None:
    client.introduce(1, 1, 1)
    stores.restart()
    # The next store never knew the domain, as if it had been released before.
    client.release(1)
    with pytest.raises(StoreNotFoundError):
        client.release(1)


def test_a_removal_that_was_done_before_is_done(
    client: SyncClient, stores: Stores
) -> None:
    client.write({"/a/b": "v"})
    stores.restart()
    client.rm("/a/b")
    with pytest.raises(StoreNotFoundError):
        client.rm("/a/b")


def test_nobody_in_time_is_an_error(stores: Stores) -> None:
    with SyncClient(str(stores.path), reconnect_s=0.05) as client:
        stores.kill()
        with pytest.raises(StoreConnectionError, match="cannot reach the store"):
            client.read("/")
        stores.start()


def test_a_store_that_does_not_answer_in_time_is_an_error(stores: Stores) -> None:
    with SyncClient(str(stores.path), reconnect_s=0.05) as client:
        stores.kill()
        with (
            listening(str(stores.path)),
            pytest.raises(StoreConnectionError, match="does not answer"),
        ):
            client.read("/")
        stores.path.unlink()
        stores.start()


def test_a_store_that_lets_connect_and_does_not_answer_is_an_error(
    tmp_path: Path,
) -> None:
    path = tmp_path / "silent"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        with pytest.raises(StoreConnectionError, match="does not answer"):
            SyncClient(str(path), answer_s=0.05)


def test_a_closed_client_stays_closed(client: SyncClient) -> None:
    client.close()
    with pytest.raises(StoreConnectionError):
        client.read("/")


@contextmanager
def dying_at_commit(path: Path, *, times: int) -> Iterator[list[bytes]]:
    """A store that hangs up at so many commits; yields the values it was sent."""
    values: list[bytes] = []
    sock = listening(str(path))
    sock.settimeout(10)

    def serve() -> None:
        left = times
        for _ in range(times + 1):
            with sock.accept()[0] as client:
                left = serve_one(client, values, left)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield values
    finally:
        thread.join(10)
        sock.close()


def serve_one(client: socket.socket, values: list[bytes], left: int) -> int:
    decoder = MessageDecoder()
    while data := client.recv(4096):
        for message in decoder.feed(data):
            if message.type == XsWire.TRANSACTION_END and left:
                return left - 1
            if message.type == XsWire.WRITE:
                values.append(message.payload.split(b"\0")[1])
            start = message.type == XsWire.TRANSACTION_START
            answer = b"7\0" if start else b"OK\0"
            client.sendall(encode(message.type, message.req_id, message.tx_id, answer))
    return left


def numbered() -> Callable[[SyncTransaction], int]:
    tries = 0

    def work(transaction: SyncTransaction) -> int:
        nonlocal tries
        tries += 1
        transaction.write({"/a": str(tries)})
        return tries

    return work


def test_a_commit_in_flight_is_uncertain(tmp_path: Path) -> None:
    path = tmp_path / "dying"
    with (
        dying_at_commit(path, times=1) as values,
        SyncClient(str(path), reconnect_s=10) as client,
    ):
        with pytest.raises(StoreUncertainError):
            client.transact(numbered())
        assert values == [b"1"]


def test_a_commit_in_flight_is_done_again_if_that_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "dying"
    with (
        dying_at_commit(path, times=2) as values,
        SyncClient(str(path), reconnect_s=10) as client,
    ):
        assert client.transact(numbered(), idempotent=True) == 3
        assert values == [b"1", b"2", b"3"]


def test_a_store_that_breaks_the_protocol_is_not_believed() -> None:
    ours, theirs = socket.socketpair()
    with ours, SyncClient.from_socket(theirs) as client:
        ours.sendall(HEADER.pack(XsWire.READ, 1, 0, 4097))
        with pytest.raises(StoreProtocolError, match="4097"):
            client.read("/")
        with pytest.raises(StoreConnectionError, match="no connection"):
            client.read("/")


def test_a_request_error_is_no_loss(client: SyncClient) -> None:
    outcomes = client.gather([requests.read("/none"), requests.read("/")])
    assert isinstance(outcomes[0], RequestError)
    assert outcomes[1] == ""
