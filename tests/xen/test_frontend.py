"""Our frontend in a domU, on Linux's netback: by gntalloc, evtchn and xenbus."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.xen.ends import (
    PATIENCE_S,
    back_path,
    eventually,
    front_path,
    store,
    wait_for_states,
)
from tests.xenlab.guest import Background, Guest

MAC = "00:16:3e:00:00:21"
HOST, GUEST = "10.0.0.1", "10.0.0.3"


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    vif = f"mac={MAC},bridge=xenbr0"
    with Guest.create("front", [vif], python=True, netfront=False) as made:
        yield made


def start(guest: Guest) -> Background:
    frontend = guest.start("exec xenvirt frontend")
    try:
        said = f"grep -q 'Initialising -> Connected' {frontend.output}"
        guest.run(f"until {said}; do sleep 0.1; done", PATIENCE_S)
    except BaseException:
        print(guest.run(f"cat {frontend.output}"))
        raise
    wait_for_states(guest.domid, "4", "4")
    return frontend


@pytest.fixture(scope="module")
def frontend(guest: Guest) -> Background:
    running = start(guest)
    guest.run(f"ip address add {GUEST}/24 dev xennet0")
    return running


def log(guest: Guest, frontend: Background) -> str:
    return guest.run(f"cat {frontend.output}")


@pytest.mark.usefixtures("frontend")
def test_the_interface_is_the_vifs(guest: Guest) -> None:
    assert MAC in guest.run("ip link show xennet0")


@pytest.mark.usefixtures("frontend")
def test_ping_both_ways(guest: Guest) -> None:
    guest.run(f"ping -c 10 -i 0.1 -w 20 {HOST}")
    done = subprocess.run(
        ["ping", "-c", "10", "-i", "0.1", "-w", "20", GUEST], capture_output=True
    )
    assert b" 0% packet loss" in done.stdout


def iperf3(*options: str) -> None:
    done = subprocess.run(
        ["iperf3", "-c", GUEST, "-n", "16M", *options],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.usefixtures("frontend")
@pytest.mark.parametrize("direction", [(), ("-R",)], ids=["RX", "TX"])
def test_tcp(guest: Guest, direction: tuple[str, ...]) -> None:
    guest.start("iperf3 -s -1")
    guest.run("until ss -ltn | grep -q :5201; do sleep 0.1; done")
    iperf3(*direction)


def test_the_kernels_netback_saw_nothing_wrong(
    guest: Guest, frontend: Background
) -> None:
    said = subprocess.check_output(["dmesg"], text=True)
    assert f"vif{guest.domid}.0: fatal" not in said
    assert "Traceback" not in log(guest, frontend)


def test_it_closes_in_order(guest: Guest, frontend: Background) -> None:
    """Closing, Closed, and netback after it each time, as when netfront unbinds."""
    trace = Path("/run/xenstored.trace")
    begin = trace.stat().st_size
    guest.run(f"kill {frontend.pid}")
    wait_for_states(guest.domid, "6", "6")
    guest.run(f"while kill -0 {frontend.pid} 2>/dev/null; do sleep 0.1; done")
    states = []
    for line in trace.read_bytes()[begin:].decode(errors="replace").splitlines():
        if line.startswith("IN ") and " WRITE (" in line:
            path, _, value = line.partition(" WRITE (")[2].rstrip(" )").partition(" ")
            if path.endswith("device/vif/0/state"):
                states.append(f"front {value}")
            elif path.endswith(f"vif/{guest.domid}/0/state"):
                states.append(f"back {value}")
    assert states == ["front 5", "back 5", "front 6", "back 6"]


def test_it_connects_again(guest: Guest) -> None:
    again = start(guest)
    guest.run(f"ip address replace {GUEST}/24 dev xennet0")
    guest.run(f"ping -c 3 -i 0.1 -w 20 {HOST}")
    guest.run(f"kill -9 {again.pid}")
    third = start(guest)
    guest.run(f"ping -c 3 -i 0.1 -w 20 {HOST}")
    subprocess.run(["xl", "network-detach", guest.name, "0"], check=True)
    with store() as client:
        assert not client.exists(front_path(guest.domid))
        assert not client.exists(back_path(guest.domid))
    eventually(
        lambda: "xennet0" not in guest.run("ip -brief link"),
        lambda: log(guest, third),
    )
    guest.run(f"kill {third.pid}")


def test_a_vif_that_the_kernel_drives_is_left_alone(guest: Guest) -> None:
    guest.run("busybox insmod /lib/modules/xen_netfront.ko")
    subprocess.run(
        ["xl", "network-attach", guest.name, f"mac={MAC}", "bridge=xenbr0"], check=True
    )
    wait_for_states(guest.domid, "4", "4")
    frontend = guest.start("exec xenvirt frontend")
    guest.run(
        f"until grep -q netfront {frontend.output}; do sleep 0.1; done", PATIENCE_S
    )
    said = log(guest, frontend)
    assert "device/vif/0: the kernel's netfront drives it" in said
    assert "echo vif-0 > /sys/bus/xen/drivers/vif/unbind" in said
    guest.run(f"kill {frontend.pid}; ip link set eth0 up")
