"""Our backend in dom0 serves an unmodified guest: Linux's netfront."""

import hashlib
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from socket import AF_INET, create_server, socket

import pytest

from tests.xen.ends import (
    NOOP,
    PATIENCE_S,
    RunningEnd,
    back_path,
    eventually,
    front_path,
    kernel_takes_no_new_vif,
    store,
    wait_for_states,
)
from tests.xenlab.guest import Guest

MAC = "00:16:3e:00:00:11"
HOST, GUEST = "10.0.0.1", "10.0.0.2"
FILE_SIZE = 64 << 20
BLOCK_SIZE = 1_000_003
"""Bytes that are sent again and again: never at the same place in a page or a frame."""


@pytest.fixture(scope="module")
def backend() -> Iterator[RunningEnd]:
    with kernel_takes_no_new_vif(), RunningEnd("backend") as running:
        yield running


@pytest.fixture(scope="module")
def guest(backend: RunningEnd) -> Iterator[Guest]:
    """A guest on the bridge, by Xen's own vif-bridge on our TAP."""
    del backend
    with Guest.create("served", [f"mac={MAC},bridge=xenbr0"]) as made:
        configure(made)
        yield made


def configure(guest: Guest) -> None:
    wait_for_states(guest.domid, "4", "4")
    guest.run(f"ip address add {GUEST}/24 dev eth0; ip link set eth0 up")


def pings(guest: Guest, count: int = 20) -> None:
    """Ping from the guest; by its own counters none is lost."""
    before = icmp(guest)
    guest.run(f"ping -c {count} -i 0.05 -w 20 {HOST}")
    after = icmp(guest)
    sent = after["OutEchos"] - before["OutEchos"]
    assert sent >= count
    assert after["InEchoReps"] - before["InEchoReps"] == sent


def icmp(guest: Guest) -> dict[str, int]:
    names, values = re.findall("^Icmp: (.*)$", guest.run("cat /proc/net/snmp"), re.M)
    return dict(zip(names.split(), map(int, values.split()), strict=True))


def contents() -> Iterator[bytes]:
    """What `SEND` writes, in pieces."""
    block = "".join(f"{n}\n" for n in range(1, 200_000)).encode()[:BLOCK_SIZE]
    left = FILE_SIZE
    while left:
        yield block[:left]
        left -= len(block[:left])


SEND = (
    f"seq 199999 | head -c {BLOCK_SIZE} >/tmp/block; "
    "while cat /tmp/block; do :; done 2>/dev/null | "
    f"dd bs=65536 iflag=fullblock count={FILE_SIZE // 65536} 2>/dev/null"
)
"""A shell command that writes the same."""


@pytest.fixture(scope="module")
def digest() -> str:
    digest = hashlib.sha256()
    for piece in contents():
        digest.update(piece)
    return digest.hexdigest()


def test_vif_bridge_plugs_our_tap_in(guest: Guest) -> None:
    name = f"vif{guest.domid}.0"
    assert Path(f"/sys/class/net/{name}/master").resolve().name == "xenbr0"
    assert Path(f"/sys/class/net/{name}/address").read_text() == "fe:ff:ff:ff:ff:ff\n"


def test_no_ping_is_lost(guest: Guest) -> None:
    pings(guest)


def test_each_ring_has_an_event_channel(guest: Guest) -> None:
    with store() as client:
        keys = client.ls(front_path(guest.domid))
    assert {"event-channel-tx", "event-channel-rx"} <= set(keys)
    assert "event-channel" not in keys


def test_a_file_arrives_unchanged_from_the_guest(
    backend: RunningEnd, guest: Guest, digest: str
) -> None:
    before = backend.counters(guest.domid)
    got = hashlib.sha256()
    with closing(create_server((HOST, 0), family=AF_INET)) as listener:
        port = listener.getsockname()[1]
        receiving = threading.Thread(target=receive, args=(listener, got))
        receiving.start()
        guest.run(f"({SEND}) | nc {HOST} {port}", 240)
        receiving.join(PATIENCE_S)
    assert got.hexdigest() == digest
    after = backend.counters(guest.domid)
    assert after["tx_gso_packets"] > before["tx_gso_packets"] + 500
    assert after["tx_bytes"] - before["tx_bytes"] > FILE_SIZE


def receive(listener: socket, digest: "hashlib._Hash") -> None:
    with listener.accept()[0] as connection:
        while piece := connection.recv(1 << 18):
            digest.update(piece)


def test_a_file_arrives_unchanged_at_the_guest(
    backend: RunningEnd, guest: Guest, digest: str
) -> None:
    before = backend.counters(guest.domid)
    receiving = guest.start("nc -l -p 5001 | sha256sum")
    guest.run("until netstat -ltn | grep -q :5001; do sleep 0.1; done")
    with socket(AF_INET) as connection:
        connection.settimeout(PATIENCE_S)
        connection.connect((GUEST, 5001))
        for piece in contents():
            connection.sendall(piece)
    guest.run(f"until [ -s {receiving.output} ]; do sleep 0.2; done", 120)
    assert guest.run(f"cat {receiving.output}").split()[0] == digest
    after = backend.counters(guest.domid)
    assert after["rx_gso_packets"] > before["rx_gso_packets"] + 500


def test_nothing_was_lost_or_mended_on_the_way(
    backend: RunningEnd, guest: Guest
) -> None:
    harmless = {
        "notify_sent", "wakeups", "spurious_events", "rx_no_slots", "tx_ring_full",
    }  # fmt: skip
    counted = {
        name
        for name, value in backend.counters(guest.domid).items()
        if value and name not in harmless
    }
    assert counted <= {
        f"{ring}_{what}"
        for ring in ("tx", "rx")
        for what in ("packets", "bytes", "gso_packets", "slots")
    }


def test_a_killed_backend_is_taken_over_where_the_rings_stand(
    backend: RunningEnd, guest: Guest
) -> None:
    with store() as client:
        keys = {k: client.read(f"{front_path(guest.domid)}/{k}")
                for k in client.ls(front_path(guest.domid))}  # fmt: skip
    # What is answered at once after the take-over is more than ping's socket holds, so
    # that it goes on for long enough to see those after it.
    pinging = guest.start(f"ping -c 150 -i 0.2 {HOST}")
    guest.run(f"until grep -q seq=3 {pinging.output}; do sleep 0.05; done")
    backend.kill()
    backend.start()
    backend.wait_for(f"xvif{guest.domid}i0: resumed")
    guest.run(f"until grep -q seq=149 {pinging.output}; do sleep 0.1; done", PATIENCE_S)
    pings(guest)
    with store() as client:
        assert keys == {
            k: client.read(f"{front_path(guest.domid)}/{k}")
            for k in client.ls(front_path(guest.domid))
        }
        assert client.read(f"{back_path(guest.domid)}/state") == "4"


def test_the_guest_unbinds_and_binds_its_driver(guest: Guest) -> None:
    driver = "/sys/bus/xen/drivers/vif"
    guest.run(f"echo vif-0 > {driver}/unbind")
    wait_for_states(guest.domid, "6", "6")
    guest.run(f"echo vif-0 > {driver}/bind")
    configure(guest)
    pings(guest)


def test_detached_and_attached_again(guest: Guest) -> None:
    xl("network-detach", guest.name, "0")
    assert not Path(f"/sys/class/net/vif{guest.domid}.0").exists()
    with store() as client:
        assert not client.exists(back_path(guest.domid))
    xl("network-attach", guest.name, f"mac={MAC}", "bridge=xenbr0")
    configure(guest)
    pings(guest)


def test_a_second_vif_beside_the_first_comes_and_goes(guest: Guest) -> None:
    xl("network-attach", guest.name, "mac=00:16:3e:00:00:12", "bridge=xenbr0")
    wait_for_states(guest.domid, "4", "4", devid=1)
    xl("network-detach", guest.name, "1")
    pings(guest)


def test_destroyed_while_connected(backend: RunningEnd) -> None:
    with Guest.create("doomed", ["mac=00:16:3e:00:00:13,bridge=xenbr0"]) as doomed:
        wait_for_states(doomed.domid, "4", "4")
        domid = doomed.domid
    backend.wait_for(f"xvif{domid}i0: Closing -> Closed")
    with store() as client:
        assert not client.exists(back_path(domid))
    eventually(lambda: not Path(f"/sys/class/net/vif{domid}.0").exists(), backend.log)
    assert f" {domid} " not in xl("list")


def test_one_vif_of_several_and_no_script(backend: RunningEnd, guest: Guest) -> None:
    """A backend for one vif alone, whose script writes no hotplug-status."""
    vif = f"{guest.domid}/1"
    backend.stop()
    with RunningEnd("backend", "--no-hotplug", vif) as second:
        xl("network-attach", guest.name, "mac=00:16:3e:00:00:14", f"script={NOOP}")
        wait_for_states(guest.domid, "4", "4", devid=1)
        xl("network-detach", guest.name, "1")
        assert f"xvif{guest.domid}i1: InitWait -> Connected" in second.log()
        assert f"xvif{guest.domid}i0" not in second.log()
    backend.start()
    backend.wait_for(f"xvif{guest.domid}i0: resumed")
    pings(guest)


def xl(*arguments: str) -> str:
    done = subprocess.run(["xl", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_driver_domain_serves_another_guest() -> None:
    with Guest.create("driver", [], python=True, netfront=False) as driver:
        backend = driver.start("exec xenvirt backend --no-hotplug")
        says = f"grep -q 'the backend of domain {driver.domid}' {backend.output}"
        driver.run(f"until {says}; do sleep 0.1; done", PATIENCE_S)
        vif = f"mac=00:16:3e:00:00:15,backend=driver,script={NOOP}"
        with Guest.create("client", [vif]) as client:
            name = f"vif{client.domid}.0"
            driver.run(f"ip address add 10.8.0.1/24 dev {name}; ip link set {name} up")
            client.run("ip address add 10.8.0.2/24 dev eth0; ip link set eth0 up")
            client.run("ping -c 5 -i 0.2 -w 20 10.8.0.1")
        said = driver.run(f"cat {backend.output}")
    assert "InitWait -> Connected" in said
    assert "Traceback" not in said
