"""What a domain must not hear, read or take over (protocol: permissions, watches)."""

import pytest

from tests.raw_store import RawClient
from tests.store_process import StoreProcess
from xenvirt.abi.xs_wire import XsWire as X


@pytest.fixture
def dom0(store: StoreProcess) -> RawClient:
    return store.client()


def test_xsa_115_guest_watching_root_hears_only_of_readable_nodes(
    store: StoreProcess, dom0: RawClient
) -> None:
    guest = store.client(1)
    guest.do(X.WATCH, b"/\0t\0")
    assert guest.heard() == ["/"]
    dom0.do(X.WRITE, b"/secret/x\0v")
    dom0.do(X.MKDIR, b"/secret/y\0")
    dom0.do(X.RM, b"/secret\0")
    assert guest.heard() == []
    dom0.do(X.WRITE, b"/shown\0v")
    assert guest.heard() == []
    dom0.do(X.SET_PERMS, b"/shown\0n0\0r1\0")
    assert guest.heard() == ["/shown"]
    dom0.do(X.WRITE, b"/shown\0w")
    assert guest.heard() == ["/shown"]


def test_xsa_115_losing_the_right_to_read_is_the_last_thing_heard(
    store: StoreProcess, dom0: RawClient
) -> None:
    dom0.do(X.WRITE, b"/a/x\0v")
    dom0.do(X.SET_PERMS, b"/a/x\0n0\0r1\0")
    guest = store.client(1)
    guest.do(X.WATCH, b"/a/x\0t\0")
    dom0.do(X.SET_PERMS, b"/a/x\0n0\0")
    assert guest.heard() == ["/a/x", "/a/x"]
    dom0.do(X.WRITE, b"/a/x\0w")
    dom0.do(X.RM, b"/a\0")
    assert guest.heard() == []


def test_xsa_115_a_transaction_tells_no_more_than_a_write_does(
    store: StoreProcess, dom0: RawClient
) -> None:
    guest = store.client(1)
    guest.do(X.WATCH, b"/\0t\0")
    assert guest.heard() == ["/"]
    tx_id = dom0.start()
    dom0.do(X.WRITE, b"/secret/x\0v", tx_id)
    dom0.do(X.WRITE, b"/shown\0v", tx_id)
    dom0.do(X.SET_PERMS, b"/shown\0r0\0", tx_id)
    dom0.do(X.TRANSACTION_END, b"T\0", tx_id)
    assert guest.heard() == ["/shown"]


def test_xsa_115_special_watches_are_silent_without_a_grant(
    store: StoreProcess, dom0: RawClient
) -> None:
    guest = store.client(1)
    dom0.do(X.SET_PERMS, b"@releaseDomain\0n0\0")
    for name in (b"@introduceDomain", b"@releaseDomain", b"@releaseDomain/2"):
        guest.do(X.WATCH, name + b"\0t\0")
    first = guest.heard()
    assert first == ["@introduceDomain", "@releaseDomain", "@releaseDomain/2"]
    dom0.do(X.INTRODUCE, b"2\x001\x001\0")
    dom0.do(X.RELEASE, b"2\0")
    assert guest.heard() == []
    dom0.do(X.SET_PERMS, b"@releaseDomain\0n0\0r1\0")
    guest.heard()
    dom0.do(X.INTRODUCE, b"3\x001\x001\0")
    dom0.do(X.RELEASE, b"3\0")
    assert guest.heard() == ["@releaseDomain"]


def test_xsa_115_a_guest_cannot_read_or_take_the_special_nodes(
    store: StoreProcess,
) -> None:
    guest = store.client(1)
    assert guest.result(X.GET_PERMS, b"@introduceDomain\0") == "EACCES"
    assert guest.result(X.SET_PERMS, b"@introduceDomain\0n1\0") == "EACCES"
    assert guest.result(X.SET_PERMS, b"@releaseDomain\0n1\0") == "EACCES"


def test_xsa_115_is_domain_introduced_is_for_the_privileged(
    store: StoreProcess, dom0: RawClient
) -> None:
    assert store.client(1).result(X.IS_DOMAIN_INTRODUCED, b"0\0") == "EACCES"
    assert dom0.result(X.IS_DOMAIN_INTRODUCED, b"0\0") == b"T\0"


def test_xsa_115_the_tx_id_of_a_watch_is_not_looked_at(
    store: StoreProcess, dom0: RawClient
) -> None:
    guest = store.client(1)
    guest.do(X.WATCH, b"@releaseDomain\0t\0", tx_id=0xDEADBEEF)
    assert guest.heard() == ["@releaseDomain"]
    guest.do(X.UNWATCH, b"@releaseDomain\0t\0", tx_id=1)
    tx_id = dom0.start()
    dom0.do(X.WATCH, b"/tool\0t\0", tx_id)
    assert dom0.heard() == ["/tool"]
    dom0.do(X.TRANSACTION_END, b"F\0", tx_id)
    dom0.do(X.WRITE, b"/tool\0v")
    assert dom0.heard() == ["/tool"]


def test_xsa_115_a_domain_over_its_quota_may_still_remove(
    store: StoreProcess, dom0: RawClient
) -> None:
    store.at_home(1)
    guest = store.client(1)
    for name in range(20):
        guest.do(X.WRITE, b"%d\0v" % name)
    dom0.do(X.SET_QUOTA, b"nodes\x005\0")
    dom0.do(X.SET_QUOTA, b"node-size\x0040\0")
    assert guest.result(X.WRITE, b"new\0v") == "ENOSPC"
    for name in range(20):
        guest.do(X.RM, b"%d\0" % name)
    assert guest.result(X.DIRECTORY, b"/local/domain/1\0") == b""


def test_xsa_322_rights_do_not_pass_to_the_next_domain_of_that_id(
    store: StoreProcess, dom0: RawClient
) -> None:
    dom0.do(X.WRITE, b"/shared\0v")
    dom0.do(X.SET_PERMS, b"/shared\0n0\0b1\0r2\0")
    dom0.do(X.SET_PERMS, b"@introduceDomain\0n0\0r1\0")
    old = store.client(1)
    assert old.result(X.READ, b"/shared\0") == b"v"
    store.tell("domain_dead", 1)
    assert old.is_closed()
    store.tell("domain_created", 1)
    guest = store.client(1)
    assert guest.result(X.READ, b"/shared\0") == "EACCES"
    assert guest.result(X.WRITE, b"/shared\0w") == "EACCES"
    assert dom0.result(X.GET_PERMS, b"/shared\0") == b"n0\0r2\0"
    assert dom0.result(X.GET_PERMS, b"@introduceDomain\0") == b"n0\0"


def test_xsa_322_an_open_transaction_brings_no_right_back(
    store: StoreProcess, dom0: RawClient
) -> None:
    dom0.do(X.WRITE, b"/shared\0v")
    tx_id = dom0.start()
    dom0.do(X.SET_PERMS, b"/shared\0n0\0b1\0", tx_id)
    store.tell("domain_dead", 1)
    store.tell("domain_created", 1)
    ended = dom0.result(X.TRANSACTION_END, b"T\0", tx_id)
    assert ended in (b"OK\0", "EAGAIN")
    assert store.client(1).result(X.READ, b"/shared\0") == "EACCES"


def test_xsa_322_the_target_of_a_device_model_dies_with_its_domain(
    store: StoreProcess, dom0: RawClient
) -> None:
    for domid in (1, 2):
        dom0.do(X.INTRODUCE, b"%d\x001\x001\0" % domid)
    dom0.do(X.SET_TARGET, b"1\x002\0")
    store.at_home(2)
    stub = store.client(1)
    assert stub.result(X.READ, b"/local/domain/2\0") == b""
    store.tell("domain_dead", 2)
    store.tell("domain_created", 2)
    store.at_home(2)
    assert stub.result(X.READ, b"/local/domain/2\0") == "EACCES"


def test_xsa_417_a_right_for_a_domain_to_come_is_no_right(
    store: StoreProcess, dom0: RawClient
) -> None:
    dom0.do(X.WRITE, b"/shared\0v")
    dom0.do(X.SET_PERMS, b"/shared\0n0\0r7\0")
    assert dom0.result(X.SET_PERMS, b"/shared\0n7\0") == "ENOENT"
    store.tell("domain_created", 7)
    dom0.do(X.INTRODUCE, b"7\x001\x001\0")
    guest = store.client(7)
    assert guest.result(X.READ, b"/shared\0") == "EACCES"
    dom0.do(X.SET_PERMS, b"/shared\0n0\0r7\0")
    assert guest.result(X.READ, b"/shared\0") == b"v"


def test_xsa_417_children_inherit_no_right_for_a_domain_to_come(
    store: StoreProcess, dom0: RawClient
) -> None:
    dom0.do(X.MKDIR, b"/shared\0")
    dom0.do(X.SET_PERMS, b"/shared\0n0\0b7\0")
    store.tell("domain_created", 7)
    dom0.do(X.WRITE, b"/shared/x\0v")
    assert store.client(7).result(X.READ, b"/shared/x\0") == "EACCES"


@pytest.mark.parametrize("inside", [False, True])
def test_xsa_352_a_guest_cannot_give_its_node_away(
    store: StoreProcess, inside: bool
) -> None:
    store.at_home(1)
    guest = store.client(1)
    guest.do(X.WRITE, b"mine\0v")
    tx_id = guest.start() if inside else 0
    for owner in (b"n2", b"n0", b"b2"):
        found = guest.result(X.SET_PERMS, b"mine\0%b\0r1\0" % owner, tx_id)
        assert found == "EPERM"
    assert guest.result(X.GET_PERMS, b"mine\0", tx_id) == b"n1\0"


def test_xsa_352_who_may_write_is_not_the_owner(store: StoreProcess) -> None:
    dom0 = store.at_home(1)
    dom0.do(X.SET_PERMS, b"/local/domain/1\0n1\0b2\0")
    other = store.client(2)
    other.do(X.WRITE, b"/local/domain/1\0v")
    found = other.result(X.SET_PERMS, b"/local/domain/1\0n2\0")
    assert found == "EACCES"


def test_xsa_353_the_root_is_not_a_guests_to_change(
    store: StoreProcess, dom0: RawClient
) -> None:
    guest = store.client(1)
    attacks = [
        (X.RM, b"/\0"),
        (X.WRITE, b"/\0v"),
        (X.SET_PERMS, b"/\0n1\0"),
        (X.MKDIR, b"/new\0"),
    ]
    for type_, payload in attacks:
        assert guest.result(type_, payload) == "EACCES"
    assert dom0.result(X.RM, b"/\0") == "EINVAL"
    dom0.do(X.SET_PERMS, b"/\0b0\0")
    assert guest.result(X.RM, b"/\0") == "EINVAL"
    assert guest.result(X.SET_PERMS, b"/\0n1\0") == "EACCES"
    tx_id = guest.start()
    assert guest.result(X.RM, b"/\0", tx_id) == "EINVAL"
    assert dom0.result(X.DIRECTORY, b"/\0") == b"tool\0"


def test_xsa_419_a_dead_domains_nodes_go_with_it(
    store: StoreProcess, dom0: RawClient
) -> None:
    dom0.do(X.MKDIR, b"/meeting\0")
    dom0.do(X.SET_PERMS, b"/meeting\0b0\0")
    one, two = store.client(1), store.client(2)
    one.do(X.WRITE, b"/meeting/one\0v")
    one.do(X.SET_PERMS, b"/meeting/one\0b1\0")
    two.do(X.WRITE, b"/meeting/one/two\0v")
    one.do(X.WRITE, b"/meeting/one/two/three\0v")
    two.do(X.WRITE, b"/meeting/other\0v")
    store.tell("domain_dead", 1)
    assert dom0.result(X.DIRECTORY, b"/meeting\0") == b"other\0"
    assert dom0.result(X.READ, b"/meeting/one/two\0") == "ENOENT"
    store.check()


def test_xsa_419_domains_that_come_and_go_leave_nothing(
    store: StoreProcess, dom0: RawClient
) -> None:
    dom0.do(X.MKDIR, b"/meeting\0")
    dom0.do(X.SET_PERMS, b"/meeting\0b0\0")
    for _ in range(20):
        with store.client(1) as guest:
            for number in range(50):
                guest.do(X.WRITE, b"/meeting/%d/x/y\0v" % number)
        store.tell("domain_dead", 1)
        assert dom0.result(X.DIRECTORY, b"/meeting\0") == b""
        store.tell("domain_created", 1)
