"""A daemon with dummy ends that only connect, and what tests ask of processes."""

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from xenvirt.hypervisor.sync_client import SyncClient
from xenvirt.netdev import namespaces
from xenvirt.toolstack.rundir import RunDir

ROOT: Final = Path(__file__).parents[2]
DEADLINE_S: Final = 15.0
PREFIX: Final = f"xt{os.getpid()}"

GONE_WRONG: Final = re.compile(
    r"Traceback|\bERROR: AddressSanitizer|died with signal (?!(?:9|15)\b).*"
)
"""What no log may have in it. Who is killed on purpose is killed by SIGKILL, and an end
that is told to go before it listens dies of SIGTERM."""

PROGRAM: Final = """
import signal, sys, uvloop
from pathlib import Path
from xenvirt.native.privileges import drop_privileges
from xenvirt.native.process import set_parent_death_signal
from xenvirt.netdev import tap, user_namespaces
from xenvirt.toolstack import daemon, hands, launcher, revival
from xenvirt.toolstack.confinement import filter_end
from xenvirt.toolstack.rundir import RunDir

class NoTaps:
    def owned(self, owner): return []
    def delete(self, name): raise AssertionError(name)

def run_end(role, domid, name, run_dir):
    if name.endswith("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    async def main():
        from xenvirt.hypervisor.client import Client
        client = Client(RunDir(Path(run_dir)).hypervisor_socket, lasting=True)
        info = await client.start_info()
        assert info.domid == domid
        await client.alloc_unbound(0)
        await client.wait_closed()
    uvloop.run(main())
    return 0

def system_hands():
    return hands.Hands(
        user_namespaces, NoTaps(), tap.reserve, drop_privileges,
        set_parent_death_signal, filter_end, run_end,
    )

hands.system_hands = system_hands
launcher.Revival = lambda: revival.Revival(first_backoff_s=0.01)
sys.exit(daemon.run_daemon(
    RunDir(Path(sys.argv[1])), foreground=True, ready_fd=int(sys.argv[2])
))
"""


def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Wait for a process to end; true if it did within the deadline."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], DEADLINE_S)[0])
    finally:
        os.close(pidfd)


def status_of(pid: int) -> dict[str, str]:
    """What /proc says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (s.partition(":") for s in lines)}


def in_netns(pid: int, name: str) -> bool:
    """Whether a process is in that network namespace."""
    return os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat(f"/run/netns/{name}").st_ino


def processes_with(word: str) -> dict[int, str]:
    """Pids and command lines of all processes whose command line has this in it."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if word in line:
                found[int(path.parent.name)] = line
    return found


def child_of(pid: int, name: str) -> int:
    """The child of a process that is called so; 0 if it has none now."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            if Path(f"/proc/{child}/comm").read_text().strip() == name:
                return int(child)
        except OSError:
            continue
    return 0


class RunningDaemon:
    """A launcher with its daemon and dummy ends, in the foreground."""

    def __init__(self, run_dir: RunDir, program: str = PROGRAM) -> None:
        self.run_dir = run_dir
        self.program = program
        self.start()

    def start(self) -> None:
        """Start it; it serves when this returns."""
        ready, ready_fd = os.pipe()
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - `end` closes it
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.program, str(self.run_dir.path), str(ready_fd)],
            pass_fds=(ready_fd,),
            cwd=ROOT,
            stderr=self.log,
        )
        os.close(ready_fd)
        try:
            assert select.select([ready], [], [], DEADLINE_S)[0], self.logged()
            assert os.read(ready, 1) == b"\n", self.logged()
        except AssertionError:
            self.process.kill()
            self.process.wait()
            self.log.close()
            raise
        finally:
            os.close(ready)

    def logged(self) -> str:
        """What it has said on standard error."""
        # From its beginning, and not by moving the place at which the others write.
        fd = self.log.fileno()
        return os.pread(fd, os.fstat(fd).st_size, 0).decode()

    def client(self) -> SyncClient:
        """A connection to it."""
        return SyncClient(self.run_dir.hypervisor_socket, timeout_s=DEADLINE_S)

    def end_of(self, domid: int) -> dict[str, object]:
        """The first end of a domain, as `domain_list` has it."""
        with self.client() as client:
            (row,) = [r for r in client.domain_list() if r["domid"] == domid]
        ends = row["ends"]
        assert isinstance(ends, list)
        return dict(ends[0])

    def pid_of(self, domid: int) -> int:
        """The process of the first end of a domain."""
        return int(str(self.end_of(domid)["pid"]))

    @property
    def pid(self) -> int:
        """The daemon's own process, 0 while there is none."""
        return child_of(self.process.pid, "daemon")

    def kill(self) -> None:
        """Kill the daemon, and return when there is another one that serves."""
        pid = self.pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
        with self.client() as client:
            client.start_info()
        assert self.pid != pid

    def wait(self) -> int:
        """Wait for its end; return the exit status."""
        return self.process.wait(DEADLINE_S)

    def end(self) -> None:
        """Stop it, if it has not ended."""
        if self.process.poll() is None:
            self.process.terminate()
            self.wait()
        eventually(lambda: lock_is_free(self.run_dir), "the lock is not free")
        self.log.close()


def lock_is_free(run_dir: RunDir) -> bool:
    """Whether nobody holds the run directory's lock."""
    fd = run_dir.try_lock()
    if fd is None:
        return False
    os.close(fd)
    return True


def nothing_left(run_dir: RunDir) -> bool:
    """Whether the daemon of a run directory has left nothing."""
    return (
        not run_dir.hypervisor_socket.exists()
        and not run_dir.xenstored_socket.exists()
        and not run_dir.trace_socket.exists()
        and not run_dir.journal.exists()
        and not list(run_dir.records())
        and not [n for n in namespaces.list_names() if n.startswith(PREFIX)]
    )
