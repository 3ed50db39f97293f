"""TAPs, links, addresses and namespaces of the real kernel.

Each test has a network namespace of its own and works inside it, so names
and addresses need not be unique, and everything goes with the namespace:

    host | xvt<pid>-<n>: xvt0 (TAP) [- xvbr0 (bridge)]
"""

import asyncio
import ipaddress
import itertools
import os
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop

from tests.integration.daemons import eventually
from xenvirt.errors import (
    LocalError,
    NotFoundError,
    NotPermittedError,
    UsageError,
    XenvirtError,
)
from xenvirt.netdev import addresses, links, namespaces, tap
from xenvirt.netdev.monitor import LinkMonitor, LinkState
from xenvirt.netdev.operstate import wait_until_up
from xenvirt.vif.plug import BUILTIN_BRIDGE, plug

pytestmark = pytest.mark.root

TAP = "xvt0"
BRIDGE = "xvbr0"
_numbers = itertools.count()


def unused_name() -> str:
    return f"xvt{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def namespace() -> Iterator[str]:
    name = unused_name()
    namespaces.create(name)
    try:
        yield name
    finally:
        namespaces.delete(name)


@pytest.fixture
def home(namespace: str) -> Iterator[str]:
    """The test's thread is in the namespace."""
    with namespaces.inside(namespace):
        yield namespace


@pytest.fixture
def tap_fd(home: str) -> Iterator[int]:
    fd = tap.open_tap(TAP, persist=False)
    try:
        links.configure(TAP, alias="xenvirt test", ipv6_noise=False)
        yield fd
    finally:
        os.close(fd)


def make_bridge(mtu: int = 1500) -> None:
    subprocess.run(
        ["ip", "link", "add", BRIDGE, "mtu", str(mtu), "type", "bridge"], check=True
    )


def read_frame(fd: int) -> tuple[bytes, bytes]:
    assert select.select([fd], [], [], 10)[0], "no frame within 10 s"
    data = os.read(fd, 65536 + tap.VNET_HDR_SIZE)
    return data[: tap.VNET_HDR_SIZE], data[tap.VNET_HDR_SIZE :]


def namespace_id() -> int:
    return os.stat("/proc/thread-self/ns/net").st_ino


# --- TAPs ---


def test_importing_tap_does_not_import_pyroute2() -> None:
    code = "import sys, xenvirt.netdev.tap; sys.exit('pyroute2' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_tap_is_non_blocking_and_not_inherited(tap_fd: int) -> None:
    assert not os.get_blocking(tap_fd)
    assert not os.get_inheritable(tap_fd)
    with pytest.raises(BlockingIOError):
        os.read(tap_fd, 2000)


@pytest.mark.parametrize("csum", [False, True])
def test_offloads_say_whether_a_checksum_is_blank(tap_fd: int, csum: bool) -> None:
    tap.set_offload(tap_fd, csum=csum, tso4=csum, tso6=csum)
    links.configure(TAP, up=True)
    addresses.add(TAP, "10.0.0.1/24")
    subprocess.run(
        ["ip", "neigh", "add", "10.0.0.2", "lladdr", "00:16:3e:0:0:2", "dev", TAP],
        check=True,
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"hello", ("10.0.0.2", 9))
    header, frame = read_frame(tap_fd)
    flags, _gso, _hdr_len, _size, csum_start, csum_offset = struct.unpack(
        "=BBHHHH", header
    )
    assert frame.endswith(b"hello")
    assert (flags & 1, csum_start, csum_offset) == ((1, 34, 6) if csum else (0, 0, 0))


def test_segmentation_needs_checksums(tap_fd: int) -> None:
    with pytest.raises(ValueError, match="need csum"):
        tap.set_offload(tap_fd, csum=False, tso4=True, tso6=False)


def test_the_carrier_follows(tap_fd: int) -> None:
    links.configure(TAP, up=True)
    assert "LOWER_UP" in link_text()
    tap.set_carrier(tap_fd, False)
    assert "NO-CARRIER" in link_text()
    tap.set_carrier(tap_fd, True)
    assert "LOWER_UP" in link_text()


def test_an_interface_is_waited_for_unless_it_is_down(tap_fd: int) -> None:
    assert not wait_until_up(TAP, 60)
    tap.set_carrier(tap_fd, False)
    links.configure(TAP, up=True)
    assert not wait_until_up(TAP, 0.1)
    plugging = threading.Timer(0.1, tap.set_carrier, (tap_fd, True))
    plugging.start()
    try:
        assert wait_until_up(TAP, 60)
    finally:
        plugging.join()
    assert not wait_until_up("none", 60)


def ip_batch(*commands: str) -> None:
    subprocess.run(
        ["ip", "-batch", "-"], check=True, input="\n".join(commands), text=True
    )


def flood(ifname: str) -> list[str]:
    """Changes of an interface that are more than a socket keeps."""
    return [f"link set {ifname} mtu {mtu}" for mtu in range(1000, 1500)]


def test_an_interface_is_waited_for_over_a_flood_of_changes(
    tap_fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bridge()
    tap.set_carrier(tap_fd, False)
    links.configure(TAP, up=True)

    def held_up() -> Any:
        monkeypatch.undo()
        ip_batch(*flood(BRIDGE))
        tap.set_carrier(tap_fd, True)
        eventually(lambda: "state UP" in link_text(), "it is not up")
        return select.poll()

    monkeypatch.setattr(select, "poll", held_up)
    assert wait_until_up(TAP, 5)


@pytest.mark.parametrize("count", [2, 200])
def test_a_monitor_knows_what_happened_in_a_flood_of_changes(
    home: str, count: int
) -> None:
    make_bridge()
    names = [f"xvb{number}" for number in range(count)]
    ip_batch(*(f"link add {name} type bridge" for name in names))
    known: list[str | None] = [""] * count
    told = asyncio.Event()

    def follow(monitor: LinkMonitor, number: int) -> None:
        def changed(state: LinkState | None) -> None:
            known[number] = state.name if state is not None else None
            told.set()

        monitor.follow(socket.if_nametoindex(names[number]), changed)

    async def until(wanted: list[str | None]) -> None:
        async with asyncio.timeout(5):
            while known != wanted:
                told.clear()
                await told.wait()

    async def main() -> None:
        monitor = LinkMonitor()
        for number in range(count):
            follow(monitor, number)
        await until([*names])
        # It holds up the loop.
        ip_batch(
            *flood(BRIDGE), f"link delete {names[0]}", f"link set {names[-1]} name new"
        )
        await until([None, *names[1:-1], "new"])
        # It follows them still.
        ip_batch("link set new name newer")
        await until([None, *names[1:-1], "newer"])
        monitor.close()

    uvloop.run(main())


def link_text() -> str:
    command = ["ip", "link", "show", TAP]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_tap_goes_with_its_descriptor_unless_it_persists(home: str) -> None:
    fd = tap.open_tap(TAP, persist=False)
    links.configure(TAP, alias="xenvirt test")
    os.close(fd)
    assert not links.exists(TAP)

    fd = tap.open_tap(TAP, persist=False)
    links.configure(TAP, alias="xenvirt test", mac="00:16:3e:00:00:01")
    tap.set_persist(fd, True)
    os.close(fd)
    again = tap.open_tap(TAP, persist=False)
    link = links.get(TAP)
    assert link is not None
    assert link.mac == "00:16:3e:00:00:01"
    os.close(again)
    assert not links.exists(TAP)


def test_a_multi_queue_tap_keeps_its_queues_in_order(home: str) -> None:
    fds = [tap.open_tap(TAP, persist=False, multi_queue=True)]
    try:
        links.configure(TAP, alias="xenvirt test", qdisc="noqueue", up=True)
        tap.set_carrier(fds[0], False)
        fds += [tap.open_queue(TAP, carrier=False) for _ in range(2)]
        # Linux tells of a carrier that comes and goes once a second.
        eventually(lambda: "NO-CARRIER" in link_text(), "has a carrier")
        fds.append(tap.open_queue(TAP, carrier=True))
        eventually(lambda: "LOWER_UP" in link_text(), "has no carrier")
        assert "qdisc noqueue" in link_text()
        tap.set_queue(fds[3], False)
        assert held_queues() == 3
        tap.set_queue(fds[3], True)
        assert held_queues() == 4
        # Somebody else would become a fifth queue of it, and get frames.
        with pytest.raises(LocalError, match="another process holds it"):
            tap.open_tap(TAP, persist=False, multi_queue=True)
        assert held_queues() == 4
    finally:
        for fd in reversed(fds):
            os.close(fd)
    assert not links.exists(TAP)


def held_queues() -> int:
    link = links.get(TAP)
    assert link is not None
    return link.tap_queues


@pytest.mark.parametrize("was", [False, True])
def test_a_tap_that_is_taken_up_stays_of_its_kind(home: str, was: bool) -> None:
    fd = tap.open_tap(TAP, persist=False, multi_queue=was)
    links.configure(TAP, alias="xenvirt test")
    tap.set_persist(fd, True)
    os.close(fd)
    for wanted in (not was, was):
        again = tap.open_tap(TAP, persist=wanted is not was, multi_queue=wanted)
        assert tap.is_multi_queue(again) is was
        os.close(again)
    assert not links.exists(TAP)


def test_a_kernel_without_that_qdisc_keeps_its_own(tap_fd: int) -> None:
    links.configure(TAP, qdisc="nosuch", up=True)
    link = links.get(TAP)
    assert link is not None
    assert link.up


def test_a_tap_that_is_held_is_refused(tap_fd: int) -> None:
    with pytest.raises(LocalError, match="another process holds it"):
        tap.open_tap(TAP, persist=False)


def test_a_tap_of_somebody_else_is_refused_and_left_alone(home: str) -> None:
    subprocess.run(["ip", "tuntap", "add", TAP, "mode", "tap"], check=True)
    with pytest.raises(LocalError, match="is not xenvirt's") as caught:
        tap.open_tap(TAP, persist=False)
    assert f"ip link delete {TAP}" in caught.value.hint
    assert links.exists(TAP)


@pytest.mark.parametrize("owner", ["/run/a", "/run/another/of/it"])
def test_a_tap_of_another_run_directory_is_refused(tap_fd: int, owner: str) -> None:
    tap.set_persist(tap_fd, True)
    links.configure(TAP, alias=links.alias("/run/another", "1/0 backend"))
    with pytest.raises(LocalError, match="is of xenvirt /run/another 1/0 backend"):
        tap.open_tap(TAP, persist=False, owner=owner)


def test_an_interface_of_ours_that_is_no_tap_is_refused(home: str) -> None:
    make_bridge()
    links.configure(BRIDGE, alias="xenvirt test")
    with pytest.raises(LocalError, match="is not a TAP"):
        tap.open_tap(BRIDGE, persist=False)


@pytest.mark.parametrize("name", ["", "sixteen-letters-", "a b", "tap%d", "a/b", "."])
def test_a_bad_name_is_refused(home: str, name: str) -> None:
    with pytest.raises(UsageError, match="interface name"):
        tap.open_tap(name, persist=False)


def test_no_tun_driver_says_what_to_type(
    home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tap, "_DEV_NET_TUN", "/dev/net/nosuch")
    with pytest.raises(LocalError) as caught:
        tap.open_tap(TAP, persist=False)
    assert "modprobe tun" in caught.value.hint
    assert "mknod" in caught.value.hint


def test_a_tap_belongs_to_its_maker_unless_told_otherwise(home: str) -> None:
    for owner_uid, words in ((None, "user root"), (0x58560001, "user 1482031105")):
        fd = tap.open_tap(TAP, persist=False, owner_uid=owner_uid)
        command = ["ip", "-details", "link", "show", TAP]
        shown = subprocess.run(command, check=True, capture_output=True, text=True)
        assert words in shown.stdout
        os.close(fd)


def test_another_user_cannot_open_a_persistent_tap(home: str) -> None:
    fd = tap.open_tap(TAP, persist=False)
    links.configure(TAP, alias="xenvirt test")
    tap.set_persist(fd, True)
    os.close(fd)
    os.seteuid(65534)
    try:
        with pytest.raises(NotPermittedError) as caught:
            tap.open_tap(TAP, persist=False)
    finally:
        os.seteuid(0)
    assert "sudo" in caught.value.hint


# --- links ---


def test_a_link_is_what_was_configured(tap_fd: int) -> None:
    make_bridge()
    links.configure(
        TAP,
        mac="fe:ff:ff:ff:ff:ff",
        mtu=9000,
        up=True,
        master=BRIDGE,
        alias="xenvirt x",
    )
    link = links.get(TAP)
    assert link == links.Link(
        name=TAP,
        index=socket.if_nametoindex(TAP),
        mac="fe:ff:ff:ff:ff:ff",
        mtu=9000,
        up=True,
        master=BRIDGE,
        alias="xenvirt x",
    )
    links.configure(TAP, master="", up=False)
    link = links.get(TAP)
    assert link is not None
    assert (link.master, link.up, link.mtu) == (None, False, 9000)


def test_without_noise_no_frame_leaves_when_a_link_goes_up(tap_fd: int) -> None:
    noisy = "xvt1"
    noisy_fd = tap.open_tap(noisy, persist=False)
    try:
        links.configure(TAP, up=True)
        links.configure(noisy, up=True)
        # The router solicitation is the last of what a link says by itself.
        while not is_router_solicitation(read_frame(noisy_fd)[1]):
            pass
    finally:
        os.close(noisy_fd)
    with pytest.raises(BlockingIOError):
        os.read(tap_fd, 2000)


def is_router_solicitation(frame: bytes) -> bool:
    return frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[54] == 133


def test_noise_can_be_had_back(tap_fd: int) -> None:
    links.configure(TAP, ipv6_noise=True, up=True)
    assert read_frame(tap_fd)[1][12:14] == b"\x86\xdd"


def test_what_a_driver_does_not_take_is_told_with_the_value(tap_fd: int) -> None:
    with pytest.raises(XenvirtError, match="mtu 70000"):
        links.configure(TAP, mtu=70000)
    with pytest.raises(XenvirtError, match="01:00:5e:00:00:01"):
        links.configure(TAP, mac="01:00:5e:00:00:01")


def test_links_that_are_not_there(home: str) -> None:
    assert links.get("nosuch") is None
    assert not links.exists("nosuch")
    links.delete("nosuch")
    with pytest.raises(NotFoundError, match="nosuch"):
        links.configure("nosuch", up=True)


def test_only_links_with_our_alias_are_owned(tap_fd: int) -> None:
    make_bridge()
    links.configure(BRIDGE, alias="xenvirtual /run/a x")
    links.configure(TAP, alias=links.alias("/run/a", "1/0 backend"))
    assert links.owned("/run/a") == [TAP]
    assert links.owned("/run/other") == links.owned("/run") == []
    links.delete(TAP)
    assert links.owned("/run/a") == []


def test_a_missing_bridge_says_how_to_make_it(home: str) -> None:
    with pytest.raises(NotFoundError, match="could not find bridge device nosuch") as e:
        links.require_bridge("nosuch")
    assert e.value.hint == "ip link add nosuch type bridge && ip link set nosuch up"
    with pytest.raises(LocalError, match="lo is not a bridge"):
        links.require_bridge("lo")


def test_without_root_a_link_cannot_be_changed(tap_fd: int) -> None:
    os.seteuid(65534)
    try:
        with pytest.raises(NotPermittedError, match=f"configure {TAP} state up"):
            links.configure(TAP, up=True)
    finally:
        os.seteuid(0)


def test_the_builtin_script_plugs_a_tap_into_a_bridge(tap_fd: int) -> None:
    make_bridge(mtu=1400)
    plug(BUILTIN_BRIDGE, TAP, BRIDGE)
    link = links.get(TAP)
    assert link is not None
    assert (link.master, link.up) == (BRIDGE, True)


def test_the_builtin_script_needs_its_bridge(tap_fd: int) -> None:
    with pytest.raises(NotFoundError, match="could not find bridge device nosuch"):
        plug(BUILTIN_BRIDGE, TAP, "nosuch")


# --- addresses ---


def test_an_address_is_added_and_removed_once(tap_fd: int) -> None:
    for _ in range(2):
        addresses.add(TAP, "10.1.2.3/24")
        addresses.add(TAP, "fd00::1/64")
    assert addresses.list_addresses(TAP) == [
        ipaddress.ip_interface("10.1.2.3/24"),
        ipaddress.ip_interface("fd00::1/64"),
    ]
    for _ in range(2):
        addresses.remove(TAP, "10.1.2.3/24")
        addresses.remove(TAP, "fd00::1/64")
    assert addresses.list_addresses(TAP) == []


def test_an_ipv6_address_can_be_used_at_once(tap_fd: int) -> None:
    links.configure(TAP, up=True)
    addresses.add(TAP, "fd00::1/64")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("fd00::1", 0))


@pytest.mark.parametrize(
    "text", ["10.0.0.1", "10.0.0.1/33", "10.0.0.256/24", "224.0.0.1/24", "0.0.0.0/0"]
)
def test_a_bad_address_is_refused_with_an_example(home: str, text: str) -> None:
    with pytest.raises(UsageError, match=text) as caught:
        addresses.add("lo", text)
    assert "/24" in caught.value.hint


def test_a_free_subnet_avoids_addresses_routes_and_what_was_handed_out(
    tap_fd: int,
) -> None:
    links.configure(TAP, up=True)
    addresses.add(TAP, "10.0.0.77/30")
    for route in (
        ["10.0.1.0/24", "dev", TAP],
        ["10.0.2.0/23", "dev", TAP, "table", "77"],
        ["blackhole", "10.0.4.4/32"],
        ["default", "dev", TAP],
    ):
        subprocess.run(["ip", "route", "add", *route], check=True)
    assert [str(host) for host in addresses.free_subnet()] == [
        "10.0.5.1/24",
        "10.0.5.2/24",
    ]
    taken = [host.network for host in addresses.free_subnet()]
    assert str(addresses.free_subnet(taken)[0]) == "10.0.6.1/24"


def test_no_subnet_left_says_what_is_in_the_way(tap_fd: int) -> None:
    links.configure(TAP, up=True)
    subprocess.run(["ip", "route", "add", "10.0.0.0/8", "dev", TAP], check=True)
    with pytest.raises(LocalError, match=r"10\.0\.0\.0/8") as caught:
        addresses.free_subnet()
    assert "--ip" in caught.value.hint


# --- namespaces ---


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
