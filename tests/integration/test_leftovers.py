"""What is left when a daemon and its launcher are killed: the next command removes it.

After a reset of the machine, as far as a test can have one, the run directory is gone
as well, and only the kernel's objects say whose they are.
"""

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.daemons import child_of, eventually, gone, status_of
from tests.integration.links import Link, LinkMaker, tag
from tests.integration.restarts import launcher_of, leftovers
from xenvirt.netdev import links as netlinks
from xenvirt.netdev import namespaces
from xenvirt.toolstack.rundir import RunDir

pytestmark = pytest.mark.root

OTHERS = "/run/another"


@pytest.fixture
def link(links: LinkMaker) -> Link:
    return links.up("left")


@pytest.fixture
def others() -> Iterator[tuple[str, str]]:
    """A namespace and an interface of another run directory's, and none of ours."""
    netns, ifname = f"x{tag()}-other", "xother0"
    namespaces.create(netns, netlinks.netns_alias(OTHERS, netns))
    ip = ["ip", "link", "add", ifname, "type", "bridge"]
    subprocess.run(ip, check=True)
    netlinks.configure(ifname, alias=netlinks.alias(OTHERS, "x"))
    yield netns, ifname
    namespaces.delete(netns)
    netlinks.delete(ifname)


class Container:
    """A shell with processes, interfaces and files of its own.

    `directory` is a file system of its own, as is that of namespaces' names.
    """

    def __init__(self, directory: Path) -> None:
        own = ("--mount", "--pid", "--net", "--mount-proc")
        self._shell = subprocess.Popen(
            ["unshare", *own, "--fork", "--kill-child", "sh"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        for mounted in (str(directory), "/run/netns"):
            self.run("mount", "-t", "tmpfs", "-o", "mode=755", "none", mounted)

    def run(self, *command: str) -> None:
        """Run a command in it, which must succeed."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{shlex.join(command)} >/dev/null 2>&1; echo $?\n")
        assert self._shell.stdout.readline() == "0\n", command

    def pids(self) -> list[int]:
        """Return its processes that run, as we know them."""
        shell = self._shell.pid
        (init,) = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        own = os.readlink(f"/proc/{init}/ns/pid")
        return [
            int(name)
            for name in os.listdir("/proc")
            if name.isdigit() and runs_in(int(name), own)
        ]

    def close(self) -> None:
        """End it, and all that is in it."""
        self._shell.communicate()


def runs_in(pid: int, namespace: str) -> bool:
    """Whether there is such a process, in a namespace of processes."""
    # It may be about to go.
    with suppress(OSError):
        found = os.readlink(f"/proc/{pid}/ns/pid")
        return found == namespace and not status_of(pid)["State"].startswith("Z")
    return False


@pytest.fixture
def container(links: LinkMaker) -> Iterator[Container]:
    """One in which there is a link by the same commands."""
    container = Container(links.run_dir.parent)
    container.run(*links.command("up", links.name("left")))
    yield container
    container.close()


def everything(links: LinkMaker) -> list[int]:
    launcher = launcher_of(links)
    return [launcher, child_of(launcher, "daemon"), *links.ends().values()]


def kill_everything(links: LinkMaker) -> None:
    pids = everything(links)
    for pid in pids:
        # Without the launcher the others may be faster.
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert all(gone(pid) for pid in pids)


def kill_the_launcher(links: LinkMaker) -> None:
    """The others go by themselves."""
    pids = everything(links)
    os.kill(pids[0], signal.SIGKILL)
    assert all(gone(pid) for pid in pids)


def reset(links: LinkMaker) -> None:
    """What a run directory in memory and processes are after a reset: gone."""
    kill_everything(links)
    shutil.rmtree(links.run_dir)


def lose_the_directory(links: LinkMaker) -> None:
    """Somebody removes it under a daemon, whom nobody can find any more."""
    shutil.rmtree(links.run_dir)


Disaster = Callable[[LinkMaker], None]

LIST, DOWN, STOP = (("list",), 3), (("down", "--all"), 0), (("daemon", "--stop"), 0)


@pytest.mark.parametrize(
    ("disaster", "command", "status"),
    [
        (kill_everything, *LIST),
        (reset, *LIST),
        (kill_the_launcher, *DOWN),
        (lose_the_directory, *STOP),
    ],
)
def test_the_next_command_removes_it(
    links: LinkMaker,
    link: Link,
    others: tuple[str, str],
    disaster: Disaster,
    command: tuple[str, ...],
    status: int,
) -> None:
    pids = everything(links)
    disaster(links)
    assert link.netns in leftovers(links, tag())
    done = links.run(*command, status=status)
    assert "removed what a crashed run had left" in done.stdout + done.stderr
    assert leftovers(links, tag()) == []
    assert all(gone(pid) for pid in pids)
    assert list(RunDir(links.run_dir).records()) == []
    netns, ifname = others
    assert namespaces.exists(netns)
    assert netlinks.exists(ifname)
    # Once is enough.
    again = links.run(*command, status=status)
    assert "removed what" not in again.stdout + again.stderr


@pytest.mark.parametrize("disaster", [kill_everything, reset])
@pytest.mark.parametrize("lost", [False, True])
def test_what_runs_in_a_container_is_none_of_it(
    links: LinkMaker, link: Link, container: Container, disaster: Disaster, lost: bool
) -> None:
    """The files that it has open have the same names."""
    if lost:
        container.run("rm", "-r", str(links.run_dir))
    pids = container.pids()
    assert len(pids) == len(everything(links)) + 1
    disaster(links)
    assert links.run("list", status=3).stderr.count("removed what") == 1
    assert leftovers(links, tag()) == []
    assert container.pids() == pids
    if not lost:
        container.run(*links.command("down", "--all"))


@pytest.mark.parametrize("disaster", [kill_the_launcher, lose_the_directory])
def test_up_begins_anew_with_the_same_name(
    links: LinkMaker, link: Link, disaster: Disaster
) -> None:
    pids = everything(links)
    disaster(links)
    again = links.up("left")
    assert all(gone(pid) for pid in pids)
    assert (again.domid, again.near) == (link.domid, link.near)
    assert sorted(leftovers(links, tag())) == sorted([link.netns, link.near])


def test_an_end_that_hangs_is_removed_too(links: LinkMaker, link: Link) -> None:
    hanging = links.ends()["frontend", link.domid]
    os.kill(hanging, signal.SIGSTOP)
    launcher = launcher_of(links)
    daemon = child_of(launcher, "daemon")
    os.kill(launcher, signal.SIGKILL)
    assert gone(daemon)
    links.run("down", "--all")
    assert gone(hanging)
    assert leftovers(links, tag()) == []


def test_nothing_is_touched_while_a_daemon_begins(links: LinkMaker, link: Link) -> None:
    """It has the lock, but nobody can connect yet."""
    socket = links.run_dir / "hypervisor.sock"
    hidden = socket.rename(socket.with_suffix(".hidden"))
    try:
        done = links.run("list", status=3)
        assert "removed" not in done.stderr
    finally:
        hidden.rename(socket)
    assert link.name in links.run("list").stdout
    eventually(lambda: len(links.ends()) == 2, "an end was killed")
