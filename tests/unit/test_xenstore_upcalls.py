"""Requests that wait until somebody else has done what they need."""

import errno
from collections.abc import Iterator

import pytest

from tests.helpers_xenstore import RunningStore, is_readable, running_store, until
from xenvirt.abi.xs_wire import XsWire
from xenvirt.errors import StoreError
from xenvirt.xenstore.framing import encode
from xenvirt.xenstore.server import UpcallKind


@pytest.fixture
def store() -> Iterator[RunningStore]:
    with running_store() as running:
        yield running


def test_an_introduction_waits_for_its_answer(store: RunningStore) -> None:
    client = store.client()
    assert not is_readable(store.server.upcall_fd)
    client.sock.sendall(
        encode(XsWire.INTRODUCE, 1, 0, b"1\0005\0006\0")
        + encode(XsWire.IS_DOMAIN_INTRODUCED, 2, 0, b"1\0")
    )
    upcall = store.upcall()
    assert upcall[1:] == (UpcallKind.INTRODUCE, 1, 5, 6, [])
    assert store.server.next_upcall() is None
    assert not is_readable(store.server.upcall_fd)
    assert not store.server.is_introduced(1)
    assert not is_readable(client.sock.fileno())
    store.server.answer(upcall.conn_id)
    assert store.server.is_introduced(1)
    assert client.reply(1) == b"OK\0"
    assert client.reply(2) == b"T\0"


def test_an_introduction_may_be_refused(store: RunningStore) -> None:
    client = store.client()
    client.sock.sendall(encode(XsWire.INTRODUCE, 1, 0, b"1\0005\0006\0"))
    store.server.answer(store.upcall().conn_id, errno.EINVAL)
    with pytest.raises(StoreError, match="EINVAL"):
        client.reply(1)
    assert not store.server.is_introduced(1)


def test_many_upcalls_come_in_order(store: RunningStore) -> None:
    clients = [store.client() for _ in range(3)]
    for domid, client in enumerate(clients, 1):
        client.sock.sendall(encode(XsWire.INTRODUCE, 1, 0, b"%d\0005\0006\0" % domid))
        until(lambda: is_readable(store.server.upcall_fd))
    upcalls = [store.upcall() for _ in clients]
    assert {upcall.domid for upcall in upcalls} == {1, 2, 3}
    assert len({upcall.conn_id for upcall in upcalls}) == 3
    for upcall in reversed(upcalls):
        store.server.answer(upcall.conn_id)
    for client in clients:
        assert client.reply(1) == b"OK\0"


def test_the_answer_to_a_client_that_has_gone_is_no_error(
    store: RunningStore,
) -> None:
    with store.client(1, privileged=True) as client:
        client.sock.sendall(encode(XsWire.INTRODUCE, 1, 0, b"1\0005\0006\0"))
        upcall = store.upcall()
    store.server.answer(upcall.conn_id)
    store.server.answer(upcall.conn_id)
    store.server.answer(12345)
    until(lambda: store.server.sockets_of(1) == 0)
    assert store.client().ask(XsWire.READ, b"/\0") == b""
