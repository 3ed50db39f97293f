"""TAPs of the real kernel: how they are opened, kept, refused and what they say."""

import os
import socket
import struct
import subprocess
import sys

import pytest

from tests.integration.daemons import eventually
from tests.integration.netdev.interfaces import (
    BRIDGE,
    TAP,
    link_text,
    make_bridge,
    read_frame,
)
from xenvirt.errors import LocalError, NotPermittedError, UsageError
from xenvirt.netdev import addresses, links, tap

pytestmark = pytest.mark.root


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
    # Linux tells of a carrier that goes once a second.
    eventually(lambda: "NO-CARRIER" in link_text(), "has a carrier")
    tap.set_carrier(tap_fd, True)
    eventually(lambda: "LOWER_UP" in link_text(), "has no carrier")


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
