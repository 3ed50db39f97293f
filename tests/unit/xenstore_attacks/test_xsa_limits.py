"""Paths, values, tokens and listings at their largest, and one byte beyond."""

import pytest

from tests.raw_store import RawClient
from tests.store_process import StoreProcess
from xenvirt.abi.xs_wire import XENSTORE_PAYLOAD_MAX
from xenvirt.abi.xs_wire import XsWire as X


@pytest.fixture
def dom0(store: StoreProcess) -> RawClient:
    return store.client()


@pytest.fixture
def guest(store: StoreProcess) -> RawClient:
    store.at_home(1)
    return store.client(1)


def deep(bytes_: int, name: bytes = b"d") -> bytes:
    """An absolute path of that many bytes, as deep as it gets."""
    path = (b"/" + name) * (bytes_ // (len(name) + 1))
    return path + b"x" * (bytes_ - len(path))


def parts(client: RawClient, path: bytes) -> list[bytes]:
    """The names of a directory by DIRECTORY_PART."""
    names = b""
    while not names.endswith(b"\0\0"):
        request = b"%b\0%d\0" % (path, len(names))
        part = client.result(X.DIRECTORY_PART, request)
        assert isinstance(part, bytes), part
        assert len(part) <= XENSTORE_PAYLOAD_MAX
        names += part.split(b"\0", 1)[1]
    return names[:-2].split(b"\0")


def test_xsa_72_a_listing_that_does_not_fit_is_an_error(
    store: StoreProcess, dom0: RawClient
) -> None:
    names = [b"%015d" % number for number in range(256)]
    for name in names:
        dom0.do(X.MKDIR, b"/big/%b\0" % name)
    dom0.do(X.SET_PERMS, b"/big\0r0\0")
    listing = b"".join(name + b"\0" for name in names)
    assert len(listing) == XENSTORE_PAYLOAD_MAX
    guest = store.client(1)
    assert guest.result(X.DIRECTORY, b"/big\0") == listing
    dom0.do(X.MKDIR, b"/big/x\0")
    for client in (dom0, guest):
        assert client.result(X.DIRECTORY, b"/big\0") == "E2BIG"
        assert parts(client, b"/big") == [*names, b"x"]


def test_xsa_72_a_list_of_permissions_that_does_not_fit_is_an_error(
    store: StoreProcess, dom0: RawClient
) -> None:
    store.tell("domain_created", 65535 // 2)
    entries = b"".join(b"r%d\0" % (65535 // 2) for _ in range(580))
    dom0.do(X.WRITE, b"/a\0v")
    dom0.do(X.SET_PERMS, b"/a\0n0\0" + entries)
    assert dom0.result(X.GET_PERMS, b"/a\0") == b"n0\0" + entries


def test_xsa_272_a_value_beyond_the_quota_is_never_stored(
    dom0: RawClient, guest: RawClient
) -> None:
    largest = bytes(2048 - 16 - 8 - 1)
    guest.do(X.WRITE, b"a\0" + largest)
    assert guest.result(X.WRITE, b"a\0" + largest + b"\0") == "ENOSPC"
    assert guest.result(X.READ, b"a\0") == largest
    assert guest.result(X.WRITE, b"b/c/d\0" + largest + b"\0") == "ENOSPC"
    assert dom0.result(X.DIRECTORY, b"/local/domain/1\0") == b"a\0"
    assert guest.result(X.SET_PERMS, b"a\0n1\0r2\0") == "ENOSPC"
    assert guest.result(X.GET_PERMS, b"a\0") == b"n1\0"


def test_xsa_272_too_many_permissions_are_never_stored(guest: RawClient) -> None:
    guest.do(X.WRITE, b"a\0v")
    four = b"a\0n1\0r2\0r3\0r0\0"
    guest.do(X.SET_PERMS, four)
    assert guest.result(X.SET_PERMS, four + b"b2\0") == "ENOSPC"
    assert guest.result(X.GET_PERMS, b"a\0") == four[2:]


def test_xsa_323_paths_have_their_exact_limits(
    dom0: RawClient, guest: RawClient
) -> None:
    requests = (X.READ, X.MKDIR, X.WRITE, X.RM, X.GET_PERMS, X.DIRECTORY)
    dom0.do(X.MKDIR, deep(3072) + b"\0")
    for type_ in requests:
        assert dom0.result(type_, deep(3073) + b"\0") == "EINVAL"
        assert dom0.result(type_, b"r" * 2049 + b"\0") == "EINVAL"
        assert guest.result(type_, b"r" * 2048 + b"\0") == "EINVAL"
    assert dom0.result(X.READ, b"r" * 2048 + b"\0") == "ENOENT"
    assert guest.result(X.READ, b"r" * 2047 + b"\0") == "ENOENT"
    own = b"/local/domain/1/" + b"r" * 2047
    assert guest.result(X.READ, own + b"\0") == "ENOENT"
    assert guest.result(X.READ, own + b"r\0") == "EINVAL"
    assert guest.result(X.READ, deep(2047) + b"\0") == "EACCES"
    assert guest.result(X.READ, deep(2048) + b"\0") == "EINVAL"


def test_xsa_323_watches_keep_to_the_limits_of_paths(
    dom0: RawClient, guest: RawClient
) -> None:
    dom0.do(X.WATCH, deep(3072) + b"\0t\0")
    assert dom0.result(X.WATCH, deep(3073) + b"\0t\0") == "EINVAL"
    assert guest.result(X.WATCH, b"r" * 2048 + b"\0t\0") == "EINVAL"
    guest.do(X.WATCH, b"r" * 2047 + b"\0t\0")
    assert guest.heard() == ["r" * 2047]


def test_xsa_324_an_event_that_does_not_fit_is_dropped(
    store: StoreProcess, dom0: RawClient
) -> None:
    dom0.do(X.MKDIR, b"/w\0")
    dom0.do(X.SET_PERMS, b"/w\0r0\0")
    guest = store.client(1)
    token = b"t" * 4000
    guest.do(X.WATCH, b"/w\0" + token + b"\0")
    assert guest.heard() == ["/w"]
    fits = b"/w/" + b"n" * (4096 - 1 - len(token) - 1 - len(b"/w/"))
    dom0.do(X.WRITE, fits + b"n\0v")
    assert guest.heard() == []
    dom0.do(X.WRITE, fits + b"\0v")
    assert guest.heard() == [fits.decode()]


def test_xsa_324_a_domain_makes_a_long_event_for_itself(guest: RawClient) -> None:
    guest.do(X.WATCH, b"a\0" + b"t" * 4000 + b"\0")
    guest.do(X.WRITE, b"a/" + b"n" * 2000 + b"\0v")
    guest.do(X.RM, b"a\0")
    assert guest.heard() == ["a", "a"]


@pytest.mark.parametrize("inside", [False, True])
def test_xsa_418_the_deepest_tree_can_be_checked_and_removed(
    store: StoreProcess, dom0: RawClient, inside: bool
) -> None:
    path = deep(3072)
    dom0.do(X.WRITE, path + b"\0v")
    assert path.count(b"/") == 1536
    store.check()
    dom0.do(X.WATCH, path + b"\0t\0")
    tx_id = dom0.start() if inside else 0
    dom0.do(X.RM, b"/d\0", tx_id)
    if inside:
        dom0.do(X.TRANSACTION_END, b"T\0", tx_id)
    assert dom0.heard() == [path.decode(), path.decode()]
    assert dom0.result(X.READ, b"/d\0") == "ENOENT"


def test_xsa_418_a_guests_deepest_tree_goes_with_it(
    store: StoreProcess, dom0: RawClient, guest: RawClient
) -> None:
    guest.do(X.WRITE, b"/".join([b"d"] * 998) + b"\0v")
    store.check()
    guest.do(X.RM, b"d\0")
    guest.do(X.WRITE, b"/".join([b"d"] * 500) + b"\0v")
    tx_id = guest.start()
    guest.do(X.RM, b"d/d/d\0", tx_id)
    guest.do(X.WRITE, b"/".join([b"d"] * 400) + b"\0v", tx_id)
    guest.do(X.TRANSACTION_END, b"T\0", tx_id)
    store.check()
    store.tell("domain_dead", 1)
    assert dom0.result(X.READ, b"/local/domain/1\0") == "ENOENT"


@pytest.mark.parametrize("path", [b"/local/domain/", b"/local/domain/1/", b"a/", b"//"])
def test_xsa_481_a_slash_at_the_end_is_an_error_and_no_crash(
    dom0: RawClient, guest: RawClient, path: bytes
) -> None:
    for client in (dom0, guest):
        for type_ in (X.READ, X.DIRECTORY, X.GET_PERMS, X.MKDIR, X.RM, X.WRITE):
            assert client.result(type_, path + b"\0") == "EINVAL"
        assert client.result(X.SET_PERMS, path + b"\0n1\0") == "EINVAL"
        assert client.result(X.DIRECTORY_PART, path + b"\x000\0") == "EINVAL"
        assert client.result(X.WATCH, path + b"\0t\0") == "EINVAL"
