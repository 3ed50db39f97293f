"""The lab itself: Xen, Linux's own network driver on both ends, and this checkout."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.xenlab.guest import Guest, GuestError
from xenvirt import __version__

_MAC = "00:16:3e:00:00:01"


def test_a_guest_pings_through_the_kernels_own_driver() -> None:
    with Guest.create("kernel", [f"mac={_MAC},bridge=xenbr0"]) as guest:
        guest.run("ip address add 10.0.0.2/24 dev eth0 && ip link set eth0 up")
        assert _MAC in guest.run("ip link show eth0")
        assert " 0% packet loss" in guest.run("ping -c 3 -i 0.2 10.0.0.1")


def test_dom0_has_this_checkout() -> None:
    said = subprocess.check_output(["xenvirt", "--version"], text=True)
    assert __version__ in said


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    """A guest with Python, and no network."""
    with Guest.create("python", [], python=True, netfront=False) as made:
        yield made


def test_has_this_checkout(guest: Guest) -> None:
    assert __version__ in guest.run("xenvirt --version")


def test_tells_a_commands_output_and_status(guest: Guest) -> None:
    assert guest.run("printf 'no newline'") == "no newline"
    assert guest.run('echo "it\'s"; echo two >&2; false', check=False) == (
        "it's\ntwo\n"
    )
    with pytest.raises(GuestError, match="exit status 42 of"):
        guest.run("exit 42")


def test_interrupts_what_takes_too_long(guest: Guest) -> None:
    with pytest.raises(GuestError, match="not done after"):
        guest.run("echo begun; sleep 1000", timeout_s=1)
    assert guest.run("echo on") == "on\n"


def test_runs_a_command_in_the_background(guest: Guest) -> None:
    waiting = guest.start("echo begun; exec sleep 1000")
    guest.run(f"until grep begun {waiting.output}; do sleep 0.1; done")
    guest.run(f"kill {waiting.pid}; while kill -0 {waiting.pid}; do sleep 0.1; done")


def test_carries_long_output(guest: Guest) -> None:
    assert guest.run("seq 20000").splitlines() == [str(n + 1) for n in range(20000)]


def test_has_programs_of_its_own(guest: Guest) -> None:
    assert "iputils" in guest.run("ping -V")
    assert "iproute2" in guest.run("ip -V")


def test_tells_of_a_guest_that_ends() -> None:
    with (
        Guest.create("ending", [], netfront=False) as guest,
        pytest.raises(GuestError, match="ending has ended"),
    ):
        guest.run("poweroff -f")
