"""The server over real sockets: order, pressure, bad input, ends."""

import array
import contextlib
import errno
import logging
import os
import resource
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers_xenstore import (
    RawClient,
    RunningStore,
    is_readable,
    running_store,
    until,
)
from xenvirt.abi.xs_wire import HEADER, XsWire
from xenvirt.errors import StoreError
from xenvirt.xenstore.framing import encode
from xenvirt.xenstore.server import StoreServer

READ_ROOT = encode(XsWire.READ, 1, 0, b"/\0")
EMPTY_REPLY = encode(XsWire.READ, 1, 0, b"")


@pytest.fixture
def store() -> Iterator[RunningStore]:
    with running_store() as running:
        yield running


def receive_all(sock: socket.socket) -> bytes:
    """Everything until the end of the stream."""
    sock.settimeout(10)
    return b"".join(iter(lambda: sock.recv(1 << 20), b""))


def receive(sock: socket.socket, length: int) -> bytes:
    sock.settimeout(10)
    received = b""
    while len(received) < length:
        data = sock.recv(min(length - len(received), 1 << 20))
        assert data, "the store closed the connection"
        received += data
    return received


@contextlib.contextmanager
def paused(store: RunningStore) -> Iterator[None]:
    """Nobody is served meanwhile."""
    os.close(store.server.save())
    yield
    store.server.resume()


def expect_log(store: RunningStore) -> None:
    """Wait until there is something to be logged, and log it."""
    assert is_readable(store.server.upcall_fd, 10)
    assert store.server.next_upcall() is None


# ---- framing ----


def test_a_request_in_single_bytes_is_answered(store: RunningStore) -> None:
    sock = store.socket()
    for byte in READ_ROOT:
        sock.sendall(bytes([byte]))
    assert receive(sock, 16) == EMPTY_REPLY


@pytest.mark.parametrize("length", [4097, 0x80000000, 0xFFFFFFFF])
def test_a_message_that_is_too_long_ends_the_connection(
    store: RunningStore, length: int
) -> None:
    sock = store.socket(1, privileged=True)
    sock.sendall(READ_ROOT * 20 + HEADER.pack(XsWire.READ, 1, 0, length))
    assert receive_all(sock) == EMPTY_REPLY * 20
    until(lambda: store.server.sockets_of(1) == 0)


def test_a_message_that_is_too_long_is_logged(
    store: RunningStore, caplog: pytest.LogCaptureFixture
) -> None:
    sock = store.socket(2)
    sock.sendall(HEADER.pack(XsWire.READ, 1, 0, 4097))
    assert receive_all(sock) == b""
    expect_log(store)
    assert caplog.messages == ["XenStore client of domain 2: message too long"]


def test_descriptors_in_a_message_are_dropped(store: RunningStore) -> None:
    sock = store.socket()
    with open(os.devnull) as passed:
        rights = [
            (
                socket.SOL_SOCKET,
                socket.SCM_RIGHTS,
                array.array("i", [passed.fileno()]).tobytes(),
            )
        ]
        before = len(os.listdir("/proc/self/fd"))
        # One sendmsg each, so that the kernel ends a read between the two.
        for _ in range(2):
            sock.sendmsg([READ_ROOT], rights)
        assert receive(sock, 32) == EMPTY_REPLY * 2
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_flood_of_bad_clients_makes_few_lines(
    store: RunningStore, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        with store.client() as client:
            client.sock.sendall(HEADER.pack(XsWire.READ, 1, 0, 4097))
            assert client.receive() is None
    assert store.server.next_upcall() is None
    # One in 10 s for a domain.
    assert len(caplog.messages) == 1


# ---- the end of a client ----


def test_requests_before_the_end_of_the_stream_are_answered(
    store: RunningStore,
) -> None:
    sock = store.socket()
    sock.sendall(READ_ROOT * 1000 + READ_ROOT[:15])
    sock.shutdown(socket.SHUT_WR)
    assert receive_all(sock) == EMPTY_REPLY * 1000


def test_requests_of_a_client_that_has_gone_are_served(store: RunningStore) -> None:
    sock = store.socket(1, privileged=True)
    requests = [
        encode(XsWire.WRITE, 1, 0, b"/count\0%d" % number) for number in range(2000)
    ]
    with paused(store):
        sock.sendall(b"".join(requests))
        sock.close()
    until(lambda: store.server.sockets_of(1) == 0)
    assert store.client().ask(XsWire.READ, b"/count\0") == b"1999"


def test_what_a_client_had_goes_with_it(store: RunningStore) -> None:
    for _ in range(3):
        with store.client(1) as client:
            # As many as a domain may have.
            for _ in range(9):
                client.ask(XsWire.TRANSACTION_START, b"\0")
            with pytest.raises(StoreError, match="ENOSPC"):
                client.ask(XsWire.TRANSACTION_START, b"\0")
        until(lambda: store.server.sockets_of(1) == 0)


def test_a_dead_domains_socket_is_closed(store: RunningStore) -> None:
    client = store.client(1)
    client.ask(XsWire.GET_DOMAIN_PATH, b"1\0")
    store.server.domain_dead(1)
    assert store.server.sockets_of(1) == 0
    assert client.receive() is None


def test_closing_ends_every_connection_and_leaves_no_descriptor(
    tmp_path: Path,
) -> None:
    before = set(os.listdir("/proc/self/fd"))
    threads = len(os.listdir("/proc/self/task"))
    with running_store() as store:
        sock = store.socket()
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(store.path)
            other.sendall(READ_ROOT)
            assert receive(other, 16) == EMPTY_REPLY
            store.ring(1)
            store.server.close()
            assert receive_all(other) == b""
        assert receive_all(sock) == b""
        with (
            socket.socket(socket.AF_UNIX) as late,
            pytest.raises(ConnectionRefusedError),
        ):
            late.connect(store.path)
    assert set(os.listdir("/proc/self/fd")) == before
    # Linux shows a thread for a moment after it was waited for.
    until(lambda: len(os.listdir("/proc/self/task")) <= threads)


def test_what_a_client_has_logged_stays_on_its_line(
    store: RunningStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.client().ask(XsWire.CONTROL, b"print\0one\ntwo\x1b[2J \xff\0")
    expect_log(store)
    (message,) = caplog.messages
    assert "one" in message
    assert "two" in message
    assert message.isprintable()


# ---- who a client is ----


def test_a_domains_socket_speaks_as_that_domain(
    store: RunningStore, tmp_path: Path
) -> None:
    path = str(tmp_path / "domain")
    store.listen(path, 2)
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    with RawClient(sock) as guest:
        with pytest.raises(StoreError, match="EACCES"):
            guest.ask(XsWire.WRITE, b"/a\0v")
        with pytest.raises(StoreError, match="EACCES"):
            guest.ask(XsWire.IS_DOMAIN_INTRODUCED, b"1\0")
        assert store.server.sockets_of(2) == 1
        assert store.server.sockets_of(1) == 0
    until(lambda: store.server.sockets_of(2) == 0)


def test_domains_and_nodes_are_counted(store: RunningStore) -> None:
    assert store.server.domains() == [0, 1, 2, 3]
    store.server.domain_created(65000)
    store.server.domain_dead(2)
    assert store.server.domains() == [0, 1, 3, 65000]
    before = store.server.nodes()
    store.client().ask(XsWire.WRITE, b"/a/b/c\0v")
    assert store.server.nodes() == before + 3


# ---- pressure ----


def test_a_client_that_does_not_read_is_not_served_further(
    store: RunningStore,
) -> None:
    other = store.client()
    other.ask(XsWire.WRITE, b"/big\0" + bytes(4000))
    sock = store.socket()
    sock.setblocking(False)
    requests = encode(XsWire.READ, 1, 0, b"/big\0") * 100
    sent = 0

    def is_full() -> bool:
        nonlocal sent
        other.ask(XsWire.READ, b"/\0")
        try:
            sent += sock.send(requests)
        except BlockingIOError:
            return True
        return False

    until(is_full)
    other.ask(XsWire.WRITE, b"/big\0end")
    received = 0
    sock.settimeout(10)
    client = RawClient(sock)
    # What was served before are 4000 bytes each; most was not.
    while (message := client.receive()) is not None and len(message.payload) == 4000:
        received += 1
    assert message is not None
    assert message.payload == b"end"
    assert received < sent // 20 // 2


def test_a_slow_reader_gets_every_reply_in_order(store: RunningStore) -> None:
    sock = store.socket()
    requests = b"".join(
        encode(XsWire.GET_PERMS, number, 0, b"/\0") for number in range(20_000)
    )
    sender = threading.Thread(target=sock.sendall, args=(requests,))
    sender.start()
    for number in range(20_000):
        assert receive(sock, 19) == encode(XsWire.GET_PERMS, number, 0, b"n0\0")
    sender.join(10)


def epoll_events() -> list[int]:
    """What the epolls of this process wait for, a mask for each descriptor."""
    masks = []
    for path in Path("/proc/self/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            lines = map(str.split, path.read_text().splitlines())
            masks += [int(words[3], 16) for words in lines if words[:1] == ["tfd:"]]
    return masks


def test_room_is_awaited_only_while_there_is_none(store: RunningStore) -> None:
    """Or the thread would wake for each reply that is taken."""
    sock = store.socket()
    sock.sendall(encode(XsWire.WRITE, 1, 0, b"/big\0" + bytes(4000)))
    sock.sendall(encode(XsWire.READ, 1, 0, b"/big\0") * 1000)
    until(lambda: any(mask & select.EPOLLOUT for mask in epoll_events()))
    receive(sock, 19 + 4016 * 1000)
    sock.sendall(READ_ROOT)
    assert receive(sock, 16) == EMPTY_REPLY
    assert not any(mask & select.EPOLLOUT for mask in epoll_events())


def test_others_get_their_turn_while_one_asks_for_much(store: RunningStore) -> None:
    greedy, other = store.socket(), store.client()
    requests = b"".join(
        encode(XsWire.WRITE, 1, 0, b"/greedy\0%d" % number) for number in range(2000)
    )
    other.ask(XsWire.WRITE, b"/greedy\0-1")
    with paused(store):
        greedy.sendall(requests)
        other.sock.sendall(encode(XsWire.READ, 1, 0, b"/greedy\0"))
    # Two turns of 16, because the greedy one may come first.
    assert int(other.reply(1)) < 32
    receive(greedy, 19 * 2000)


def test_one_write_reaches_every_watcher(store: RunningStore) -> None:
    watchers = [store.client() for _ in range(300)]
    for watcher in watchers:
        watcher.ask(XsWire.WATCH, b"/a\0token\0")
        assert watcher.receive() is not None
    store.client().ask(XsWire.WRITE, b"/a\0v")
    for watcher in watchers:
        event = watcher.receive()
        assert event is not None
        assert event.payload == b"/a\0token\0"


@pytest.fixture
def descriptors() -> Iterator[Callable[[int], None]]:
    """Lets this process have so many more descriptors than it has, until the end."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used: list[int] = []

    def allow(more: int) -> None:
        if not used:
            used.append(os.open(os.devnull, os.O_RDONLY))
            os.close(used[0])
        resource.setrlimit(resource.RLIMIT_NOFILE, (used[0] + more, limits[1]))

    yield allow
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.fixture
def waiting() -> Iterator[list[socket.socket]]:
    """Two sockets that are not connected yet."""
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as other:
        yield [one, other]


def test_without_descriptors_accepting_waits_until_a_client_has_gone(
    store: RunningStore,
    waiting: list[socket.socket],
    descriptors: Callable[[int], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    served = store.client(1)
    served.ask(XsWire.GET_DOMAIN_PATH, b"1\0")
    descriptors(0)
    for sock in waiting:
        sock.connect(store.path)
        sock.sendall(READ_ROOT)
    expect_log(store)
    assert served.ask(XsWire.GET_DOMAIN_PATH, b"1\0") == b"/local/domain/1\0"
    # Both ends of it are ours, which makes two descriptors.
    served.sock.close()
    for sock in waiting:
        assert receive(sock, 16) == EMPTY_REPLY
    assert store.server.next_upcall() is None
    assert caplog.messages == [f"XenStore cannot accept: {os.strerror(errno.EMFILE)}"]


def test_without_descriptors_accepting_is_tried_again_without_spinning(
    store: RunningStore,
    waiting: list[socket.socket],
    descriptors: Callable[[int], None],
) -> None:
    # From before it begins to wait, for however long we do not look.
    cpu, wall = time.process_time(), time.monotonic()
    descriptors(0)
    for sock in waiting:
        sock.connect(store.path)
        sock.sendall(READ_ROOT)
    expect_log(store)
    descriptors(2)
    for sock in waiting:
        assert receive(sock, 16) == EMPTY_REPLY
    assert time.process_time() - cpu < (time.monotonic() - wall) / 2


# ---- any thread ----


def test_every_thread_may_call_while_a_client_floods(store: RunningStore) -> None:
    flood = store.socket()
    stop = threading.Event()

    def send_and_receive() -> None:
        while not stop.is_set():
            flood.sendall(READ_ROOT * 1000)
            receive(flood, 16 * 1000)

    def live_and_die(domid: int) -> None:
        for _ in range(100):
            store.server.domain_created(domid)
            with store.client(domid) as client:
                client.ask(XsWire.GET_DOMAIN_PATH, b"%d\0" % domid)
                store.server.domain_dead(domid)
                assert client.receive() is None

    flooding = threading.Thread(target=send_and_receive)
    flooding.start()
    failed: list[BaseException] = []
    threads = [
        threading.Thread(target=_note_failure, args=(failed, live_and_die, domid))
        for domid in range(10, 14)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    stop.set()
    flooding.join(10)
    assert not failed
    assert all(store.server.sockets_of(domid) == 0 for domid in range(10, 14))


def _note_failure(
    failed: list[BaseException], call: Callable[[int], None], argument: int
) -> None:
    try:
        call(argument)
    except BaseException as error:
        logging.getLogger(__name__).exception("in a thread")
        failed.append(error)


# ---- the journal ----


def test_a_journal_that_is_in_use_or_damaged_is_refused(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with (
        running_store(journal),
        pytest.raises(OSError, match=os.strerror(errno.EBUSY)),
    ):
        StoreServer(journal)
    journal.write_bytes(b"no journal\n" * 1000)
    with pytest.raises(OSError, match="is damaged at byte 0") as damaged:
        StoreServer(journal)
    assert damaged.value.errno == errno.EILSEQ


def test_nodes_and_introductions_outlive_the_server(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with running_store(journal) as store:
        client = store.client()
        client.ask(XsWire.WRITE, b"/a/b\0value")
        client.sock.sendall(encode(XsWire.INTRODUCE, 1, 0, b"1\0005\0006\0"))
        store.server.answer(store.upcall().conn_id)
        client.reply(1)
    with running_store(journal, domains=()) as store:
        assert store.client().ask(XsWire.READ, b"/a/b\0") == b"value"
        assert store.server.is_introduced(1)
        assert not store.server.is_introduced(2)
        assert store.server.domains() == [0, 1, 2, 3]
