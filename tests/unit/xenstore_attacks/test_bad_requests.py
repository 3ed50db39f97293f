"""Requests that no library would send: the answer is an error, the client lives on."""

import pytest

from tests.raw_store import Answer, RawClient
from tests.store_process import StoreProcess
from xenvirt.abi.xs_wire import HEADER
from xenvirt.abi.xs_wire import XsWire as X
from xenvirt.xenstore.framing import encode

HOME_PATH = encode(X.GET_DOMAIN_PATH, 1, 0, b"1\0")
HOME = b"/local/domain/1\0"


@pytest.fixture
def guest(store: StoreProcess) -> RawClient:
    store.at_home(1)
    return store.client(1)


BAD: dict[str, tuple[int, bytes, str]] = {
    "RESTRICT, which is gone": (20, b"1\0", "ENOSYS"),
    "the first type that is not": (27, b"", "ENOSYS"),
    "INVALID": (0xFFFF, b"", "ENOSYS"),
    "the last type": (0xFFFFFFFF, b"", "ENOSYS"),
    "an event": (X.WATCH_EVENT, b"/\0t\0", "ENOSYS"),
    "an error": (X.ERROR, b"EINVAL\0", "ENOSYS"),
    "WRITE without a NUL": (X.WRITE, b"a", "EINVAL"),
    "WRITE of nothing": (X.WRITE, b"", "EINVAL"),
    "WRITE to no path": (X.WRITE, b"\0v", "EINVAL"),
    "WRITE to bytes that are no path": (X.WRITE, b"a\xc3\xa9\0v", "EINVAL"),
    "WRITE to a special name": (X.WRITE, b"@releaseDomain\0v", "EINVAL"),
    "READ without a NUL": (X.READ, b"a", "EINVAL"),
    "READ of two strings": (X.READ, b"a\0b\0", "EINVAL"),
    "READ of NULs": (X.READ, b"\0" * 4096, "EINVAL"),
    "READ of a path with a NUL inside": (X.READ, b"a\0/b\0", "EINVAL"),
    "SET_PERMS without entries": (X.SET_PERMS, b"a\0", "EINVAL"),
    "SET_PERMS with an empty entry": (X.SET_PERMS, b"a\0\0", "EINVAL"),
    "SET_PERMS with half an entry": (X.SET_PERMS, b"a\0n\0", "EINVAL"),
    "SET_PERMS for domain -1": (X.SET_PERMS, b"a\0n-1\0", "EINVAL"),
    "SET_PERMS for domain 65536": (X.SET_PERMS, b"a\0n65536\0", "EINVAL"),
    "SET_PERMS for domain 2^32 + 1": (X.SET_PERMS, b"a\0n4294967297\0", "EINVAL"),
    "WATCH with one argument": (X.WATCH, b"a\0", "EINVAL"),
    "WATCH with four arguments": (X.WATCH, b"a\0t\x001\0x\0", "EINVAL"),
    "WATCH with depth -1": (X.WATCH, b"a\0t\0-1\0", "EINVAL"),
    "WATCH with depth abc": (X.WATCH, b"a\0t\0abc\0", "EINVAL"),
    "WATCH with an empty depth": (X.WATCH, b"a\0t\0\0", "EINVAL"),
    "WATCH with depth 2^32": (X.WATCH, b"a\0t\x004294967296\0", "EINVAL"),
    "WATCH of no path": (X.WATCH, b"\0t\0", "EINVAL"),
    "UNWATCH of what is not watched": (X.UNWATCH, b"a\0t\0", "ENOENT"),
    "UNWATCH with one argument": (X.UNWATCH, b"a\0", "EINVAL"),
    "TRANSACTION_END X": (X.TRANSACTION_END, b"X\0", "EINVAL"),
    "TRANSACTION_END TT": (X.TRANSACTION_END, b"TT\0", "EINVAL"),
    "TRANSACTION_END T without a NUL": (X.TRANSACTION_END, b"T", "EINVAL"),
    "TRANSACTION_END without a transaction": (X.TRANSACTION_END, b"T\0", "ENOENT"),
    "GET_DOMAIN_PATH of a word": (X.GET_DOMAIN_PATH, b"x\0", "EINVAL"),
    "GET_DOMAIN_PATH of 65536": (X.GET_DOMAIN_PATH, b"65536\0", "EINVAL"),
    "GET_DOMAIN_PATH of 2^64": (X.GET_DOMAIN_PATH, b"18446744073709551616\0", "EINVAL"),
    "DIRECTORY_PART without an offset": (X.DIRECTORY_PART, b"a\0", "EINVAL"),
    "CONTROL from a guest": (X.CONTROL, b"check\0", "EACCES"),
    "SET_QUOTA from a guest": (X.SET_QUOTA, b"nodes\x000\0", "EACCES"),
    "GET_QUOTA from a guest": (X.GET_QUOTA, b"", "EACCES"),
    "INTRODUCE from a guest": (X.INTRODUCE, b"1\x001\x001\0", "EACCES"),
    "RELEASE from a guest": (X.RELEASE, b"2\0", "EACCES"),
    "RESUME from a guest": (X.RESUME, b"2\0", "EACCES"),
    "SET_TARGET from a guest": (X.SET_TARGET, b"1\x002\0", "EACCES"),
    "SET_FEATURE from a guest": (X.SET_FEATURE, b"1\x000\0", "EACCES"),
    "GET_FEATURE of another from a guest": (X.GET_FEATURE, b"2\0", "EACCES"),
}


@pytest.mark.parametrize(("type_", "payload", "error"), BAD.values(), ids=BAD)
def test_a_bad_request_is_an_error_and_the_connection_lives(
    guest: RawClient, type_: int, payload: bytes, error: str
) -> None:
    guest.do(X.WRITE, b"a\0v")
    assert guest.result(type_, payload) == error
    assert guest.result(X.READ, b"a\0") == b"v"
    assert guest.events == []


@pytest.mark.parametrize("offset", [b"-1", b"abc", b"", b"4294967295", b"9" * 40])
def test_an_offset_of_a_listing_may_be_anything(
    guest: RawClient, offset: bytes
) -> None:
    guest.do(X.WRITE, b"a/b\0v")
    found = guest.result(X.DIRECTORY_PART, b"a\0" + offset + b"\0")
    assert isinstance(found, bytes) or found == "EINVAL"
    assert guest.result(X.READ, b"a/b\0") == b"v"


ADMIN: dict[str, tuple[int, bytes]] = {
    "CONTROL without a command": (X.CONTROL, b""),
    "CONTROL of an unknown command": (X.CONTROL, b"nonsense\0"),
    "CONTROL of 100 parameters": (X.CONTROL, b"help\0" + b"x\0" * 100),
    "CONTROL quota of 10^50": (X.CONTROL, b"quota\0set\0nodes\x001%b\0" % (b"0" * 50)),
    "INTRODUCE of domain 0": (X.INTRODUCE, b"0\x001\x001\0"),
    "INTRODUCE without a port": (X.INTRODUCE, b"1\x001\0"),
    "INTRODUCE with port 2^64": (X.INTRODUCE, b"1\x001\x0018446744073709551616\0"),
    "RELEASE of domain 0": (X.RELEASE, b"0\0"),
    "SET_TARGET of domain 0": (X.SET_TARGET, b"0\x001\0"),
    "SET_FEATURE of an unknown bit": (X.SET_FEATURE, b"1\x004294967295\0"),
    "SET_QUOTA of an unknown name": (X.SET_QUOTA, b"no-quota\x001\0"),
    "SET_QUOTA of -1": (X.SET_QUOTA, b"nodes\0-1\0"),
    "SET_QUOTA of four strings": (X.SET_QUOTA, b"1\0nodes\x001\x001\0"),
    "GET_QUOTA of three strings": (X.GET_QUOTA, b"1\0nodes\x001\0"),
}  # fmt: skip


@pytest.mark.parametrize(("type_", "payload"), ADMIN.values(), ids=ADMIN)
def test_a_bad_request_of_the_privileged_is_an_error(
    store: StoreProcess, type_: int, payload: bytes
) -> None:
    dom0 = store.client()
    assert dom0.result(type_, payload) == "EINVAL"
    assert dom0.result(X.DIRECTORY, b"/\0") == b"tool\0"


def test_a_length_of_4097_ends_the_connection_and_4096_does_not(
    guest: RawClient,
) -> None:
    assert guest.result(X.WRITE, b"a\0" + bytes(4094)) == "ENOSPC"
    guest.send(HOME_PATH + HEADER.pack(X.WRITE, 1, 0, 4097) + HOME_PATH)
    assert guest.answer() == HOME
    assert guest.is_closed()


def test_a_header_cut_after_15_bytes_waits_for_the_last(guest: RawClient) -> None:
    guest.send(HOME_PATH[:15])
    guest.sock.settimeout(0.1)
    with pytest.raises(TimeoutError):
        guest.reply()
    guest.sock.settimeout(10)
    guest.send(HOME_PATH[15:])
    assert guest.answer() == HOME


def test_the_transaction_of_another_client_does_not_exist(
    store: StoreProcess, guest: RawClient
) -> None:
    dom0, other = store.client(), store.client(1)
    for owner in (dom0, other):
        tx_id = owner.start()
        attempts: list[Answer] = [
            guest.result(X.READ, b"a\0", tx_id),
            guest.result(X.WRITE, b"a\0v", tx_id),
            guest.result(X.TRANSACTION_START, b"\0", tx_id),
            guest.result(X.TRANSACTION_END, b"T\0", tx_id),
            guest.result(X.RESET_WATCHES, b"\0", tx_id),
            guest.result(X.GET_DOMAIN_PATH, b"1\0", tx_id),
        ]
        assert attempts == ["ENOENT"] * 6
        owner.do(X.TRANSACTION_END, b"T\0", tx_id)


def test_the_128th_watch_is_refused(store: StoreProcess, guest: RawClient) -> None:
    other = store.client(1)
    for number in range(127):
        client = (guest, other)[number % 2]
        client.do(X.WATCH, b"a\0%d\0" % number)
    for client in (guest, other):
        assert client.result(X.WATCH, b"a\0last\0") == "ENOSPC"
    other.do(X.UNWATCH, b"a\x001\0")
    guest.do(X.WATCH, b"a\0last\0")
    other.close()
    # The server may see the end of the other one a little later.
    first = (guest.result(X.WATCH, b"b\0first\0") for _ in range(100_000))
    assert b"OK\0" in first
    for number in range(61):
        guest.do(X.WATCH, b"b\0%d\0" % number)
    assert guest.result(X.WATCH, b"b\0last\0") == "ENOSPC"


def test_many_clients_send_one_byte_at_a_time(store: StoreProcess) -> None:
    clients = [store.client(domid) for domid in (0, 1, 2, 3) for _ in range(8)]
    requests = [
        encode(X.GET_DOMAIN_PATH, number, 0, b"%d\0" % number)
        for number in range(len(clients))
    ]
    for at in range(max(map(len, requests))):
        for client, request in zip(clients, requests, strict=True):
            client.send(request[at : at + 1])
    for number, client in enumerate(clients):
        reply = client.reply()
        assert reply.req_id == number
        assert reply.payload == b"/local/domain/%d\0" % number
