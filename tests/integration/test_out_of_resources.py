"""Nothing left of something: a clear error, nothing else touched, and all well again.

Limits are lowered on processes that run, which Linux lets their own user do. The tests
with daemons of their own come first, before there is one of the module's.
"""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.integration.daemons import eventually
from tests.integration.links import Link, LinkMaker, tag
from tests.integration.restarts import daemon_of, launcher_of

pytestmark = pytest.mark.root

ADDRESS = "10.220.1.2"
TIMEOUT = ("--timeout", "10")
RUN_DIR_SIZE = "4m"
NO_TUN = 'mount -t tmpfs none /dev/net && exec "$@"'


def ping() -> None:
    subprocess.run(["ping", "-c", "1", "-w", "5", ADDRESS], check=True)


@pytest.fixture
def small() -> Iterator[LinkMaker]:
    """A run directory on a file system of its own, which a test may fill."""
    with tempfile.TemporaryDirectory(prefix="xenvirt-test-") as directory:
        size = f"size={RUN_DIR_SIZE},mode=755"
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", size, "none", directory], check=True
        )
        links = LinkMaker(Path(directory), tag())
        try:
            yield links
        finally:
            links.close()
            subprocess.run(["umount", directory], check=True)


@contextmanager
def full(links: LinkMaker) -> Iterator[None]:
    """There is no byte left where the run directory is."""
    filler = links.run_dir.parent / "filler"
    with filler.open("wb", buffering=0) as stream, suppress(OSError):
        while True:
            stream.write(bytes(4096))
    try:
        yield
    finally:
        filler.unlink()


def test_a_full_run_directory_is_said_and_stops_no_link(small: LinkMaker) -> None:
    with full(small):
        done = small.run("up", small.name("a"), status=1)
    assert "the daemon did not start" in done.stderr
    assert "No space left on device\n  do     df" in done.stderr
    small.up("a", "--ip", f"{ADDRESS}/24", "--peer-ip", "10.220.1.1/24")
    with full(small):
        done = small.run("up", small.name("b"), status=1)
        assert f"cannot write {small.run_dir}/domains" in done.stderr
        assert "No space left on device" in done.stderr
        ping()
        small.run("show")
    small.run("up", small.name("b"))
    small.run("down", "--all")
    assert sorted(small.run_dir.glob("domains/*.new")) == []


def test_without_a_tun_driver_a_command_says_so_and_makes_nothing(
    links: LinkMaker,
) -> None:
    links.run("daemon")
    up = links.command("up", links.name("x"))
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", NO_TUN, "sh", *up],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "there is no TUN/TAP driver here\n  do     modprobe tun" in done.stderr
    assert links.json("list")["domains"][1:] == []
    links.up("x")


def test_ends_without_a_tun_driver_say_so_and_their_vif_can_be_removed(
    links: LinkMaker,
) -> None:
    daemon = links.command("daemon")
    subprocess.run(
        ["unshare", "--mount", "sh", "-c", NO_TUN, "sh", *daemon], check=True
    )
    done = links.run("up", links.name("x"), status=1)
    # Whichever end was first.
    assert "error: 5 cannot open /dev/net/tun: there is no TUN/TAP" in done.stderr
    assert links.json("list")["domains"][1:] == []


def test_a_daemon_that_cannot_be_started_again_stops_no_link(links: LinkMaker) -> None:
    link = links.up("a", "--ip", f"{ADDRESS}/24", "--peer-ip", "10.220.1.1/24")
    launcher, ends = launcher_of(links), links.ends()
    with lowered(launcher, "nofile", 3):
        os.kill(daemon_of(links), signal.SIGKILL)
        said = f"process {launcher} cannot start the daemon again: {FILES}; links go on"
        eventually(lambda: said in links.log(), "it is not said")
        ping()
    # Which waits for one that serves.
    assert links.ends() == ends
    assert launcher_of(links) == launcher
    assert "--pid PID raises the limit" in links.log()
    ping()
    links.run("up", links.name("b"))
    links.down(link)


@pytest.fixture(scope="module")
def witness(module_links: LinkMaker) -> Link:
    """What nothing must happen to; its frontend is asked for more."""
    return module_links.up("w", "--ip", f"{ADDRESS}/24", "--peer-ip", "10.220.1.1/24")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def address_space(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text().split()[0]
    return int(pages) * os.sysconf("SC_PAGESIZE")


def prlimit(pid: int, *arguments: str) -> str:
    """Run prlimit on a process, as the user that the process has."""
    uid = os.stat(f"/proc/{pid}").st_uid
    done = subprocess.run(
        ["prlimit", "--pid", str(pid), *arguments],
        user=uid, group=uid, extra_groups=[],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return done.stdout


@contextmanager
def lowered(pid: int, resource: str, value: int) -> Iterator[None]:
    """A process has a lower limit meanwhile."""
    soft = prlimit(pid, f"--{resource}", "--raw", "--noheadings", "--output", "SOFT")
    prlimit(pid, f"--{resource}={value}:")
    try:
        yield
    finally:
        prlimit(pid, f"--{resource}={soft.strip()}:")


def process(links: LinkMaker, witness: Link, who: str) -> int:
    match who:
        case "daemon":
            return daemon_of(links)
        case "launcher":
            return launcher_of(links)
        case "backend":
            return links.ends()["backend", 0]
    return links.ends()["frontend", witness.domid]


def limit(pid: int, resource: str, spare: int) -> int:
    """`spare` more than the process has now."""
    match resource:
        case "nofile":
            return descriptors(pid) + spare
        case "as":
            return address_space(pid) + spare
    return spare


FILES, MEMORY = "Too many open files", "Cannot allocate memory"
TOO_MANY = "Resource temporarily unavailable"

CASES = {
    "the daemon has no descriptor": ("daemon", "nofile", 0, FILES),
    "the daemon has some descriptors": ("daemon", "nofile", 5, FILES),
    "the launcher has no descriptor": ("launcher", "nofile", 0, FILES),
    "the backend has no descriptor": ("backend", "nofile", 0, FILES),
    "the backend has some descriptors": ("backend", "nofile", 2, FILES),
    "the frontend has some descriptors": ("frontend", "nofile", 2, FILES),
    "the daemon has no memory for a region": ("daemon", "fsize", 1 << 20, "File too"),
    "the daemon cannot map a region": ("daemon", "as", 4096, MEMORY),
    "the backend cannot map a region": ("backend", "as", 4096, MEMORY),
    "a new frontend has no threads": ("launcher", "nproc", 1, TOO_MANY),
}


@pytest.mark.parametrize("case", CASES)
def test_a_limit_is_an_error_with_what_to_do_and_leaves_the_rest_alone(
    module_links: LinkMaker, witness: Link, case: str
) -> None:
    who, resource, spare, text = CASES[case]
    pid = process(module_links, witness, who)
    more = ["network-attach", witness.name]
    less = ["network-detach", witness.name, "1"]
    if who != "frontend":
        name = module_links.name("x")
        more, less = ["up", name], ["down", name]
    before = descriptors(pid)
    with lowered(pid, resource, limit(pid, resource, spare)):
        done = module_links.run(*TIMEOUT, *more, status=1)
        ping()
    assert text in done.stderr
    assert "\n  do     " in done.stderr
    module_links.run(*more)
    module_links.run(*less)
    ping()
    assert process(module_links, witness, who) == pid
    # A backend makes its second worker when it is first needed.
    assert descriptors(pid) <= before + 4


def test_a_tap_whose_name_is_taken_is_refused_and_left_alone(
    module_links: LinkMaker, witness: Link
) -> None:
    foreign = "xvforeign0"
    subprocess.run(["ip", "tuntap", "add", foreign, "mode", "tap"], check=True)
    try:
        name = module_links.name("x")
        done = module_links.run("up", name, f"vifname={foreign}", status=1)
        assert "exists and is not xenvirt's" in done.stderr
        ping()
    finally:
        # It must be there.
        subprocess.run(["ip", "link", "delete", foreign], check=True)
    link = module_links.up("x", f"vifname={foreign}")
    assert link.near == foreign
    module_links.down(link)


@pytest.mark.parametrize("queues", [1, 2])
def test_a_tap_that_another_vif_has_is_refused_and_the_vif_named(
    module_links: LinkMaker, witness: Link, queues: int
) -> None:
    link = module_links.up("x", "vifname=xvours0", f"queues={queues}")
    taken = ("network-attach", witness.name, "vifname=xvours0", f"queues={queues}")
    done = module_links.run(*taken, status=1)
    said = f"cannot open TAP xvours0: it is that of the backend of vif {link.domid}/0\n"
    assert said in done.stderr
    assert "choose another vifname\n" in done.stderr
    (view,) = module_links.json("show", f"{link.domid}/0")["vifs"]
    assert view["back"]["state"] == "Connected"
    module_links.down(link)
    module_links.run(*taken)
    module_links.run("network-detach", witness.name, "1")
    ping()
