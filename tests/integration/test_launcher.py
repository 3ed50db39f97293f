"""The launcher as a process; the test plays its daemon, and dummy ends only wait."""

import errno
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.daemons import (
    DEADLINE_S,
    PREFIX,
    eventually,
    gone,
    in_netns,
    nothing_left,
    status_of,
)
from xenvirt import log
from xenvirt.hypervisor import wire
from xenvirt.hypervisor.caller import callers_gid, uid_base
from xenvirt.native.privileges import drop_privileges
from xenvirt.native.process import set_parent_death_signal
from xenvirt.netdev import namespaces, tap, user_namespaces
from xenvirt.toolstack import inheritance
from xenvirt.toolstack import launcher as launcher_module
from xenvirt.toolstack.confinement import filter_end
from xenvirt.toolstack.hands import Hands
from xenvirt.toolstack.inheritance import Inheritance
from xenvirt.toolstack.launcher import Launcher
from xenvirt.toolstack.revival import Revival
from xenvirt.toolstack.rundir import RunDir

pytestmark = pytest.mark.root


@pytest.fixture
def run_dir() -> Iterator[RunDir]:
    # Not tmp_path, through which no other user may pass.
    path = Path(tempfile.mkdtemp(prefix="xenvirt-"))
    path.chmod(0o755)
    yield RunDir(path / "run")
    for name in namespaces.list_names():
        if name.startswith(PREFIX):
            namespaces.delete(name)
    shutil.rmtree(path)


class Taps:
    def owned(self, owner: str) -> list[str]:
        return []

    def delete(self, name: str) -> None:
        raise AssertionError(name)


class LauncherSide:
    """A launcher whose daemons give their socket to the test, and then only wait.

    `sock` is that of the daemon of now, `daemon` its process, `from_disk` whether it
    was to be the code on disk.
    """

    def __init__(self, run_dir: RunDir, run_end: Callable[..., int]) -> None:
        run_dir.create()
        run_dir.create_store(0)
        self._daemons, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._daemons.settimeout(DEADLINE_S)
        hands = Hands(
            user_namespaces,
            Taps(),
            tap.reserve,
            drop_privileges,
            set_parent_death_signal,
            filter_end,
            run_end,
        )
        self.pid = os.fork()
        if self.pid == 0:
            status = 99
            try:
                self._daemons.close()
                status = self._launch(run_dir, hands, theirs)
            finally:
                os._exit(status)
        theirs.close()
        self.next_daemon()

    def _launch(self, run_dir: RunDir, hands: Hands, theirs: socket.socket) -> int:
        sys.stderr = os.fdopen(run_dir.open_log(), "w")
        log.setup("launcher")

        def run_daemon(sock: socket.socket, from_disk: bool) -> int:
            body: dict[str, object] = {"pid": os.getpid(), "from_disk": from_disk}
            wire.send(theirs, wire.encode(body, wire.MAX_REQUEST), [sock.fileno()])
            sock.close()
            theirs.close()
            while True:
                signal.pause()

        return Launcher(
            run_dir,
            run_daemon,
            lambda: hands,
            run_dir.listen(),
            uid_base=uid_base(),
            keep_fds=(theirs.fileno(),),
            revival=Revival(give_up_after=4, first_backoff_s=0.001),
            stop_timeout_s=0.5,
        ).run()

    def next_daemon(self) -> None:
        packet = wire.receive(self._daemons, wire.MAX_REQUEST)
        assert packet is not None, "there is no further daemon"
        self.daemon = int(str(packet.body["pid"]))
        self.from_disk = bool(packet.body["from_disk"])
        self.sock = socket.socket(fileno=packet.fds[0])
        self.sock.settimeout(DEADLINE_S)

    def no_further_daemon(self) -> bool:
        return wire.receive(self._daemons, wire.MAX_REQUEST) is None

    def hello(self) -> Inheritance:
        return inheritance.receive(self.sock)

    def packet(self) -> dict[str, object]:
        packet = wire.receive(self.sock, wire.MAX_REPLY)
        assert packet is not None
        return packet.body

    def tell(self, op: str, fds: tuple[int, ...] = (), /, **args: object) -> None:
        wire.send(self.sock, wire.encode({"op": op, **args}, wire.MAX_REQUEST), fds)

    def call(self, op: str, /, **args: object) -> dict[str, object]:
        self.tell(op, (), **args)
        return self.packet()

    def spawn(self, name: str, netns: str | None = None) -> int:
        answer = self.call("spawn", role="frontend", domid=7, name=name, netns=netns)
        result = answer["ok"]
        assert isinstance(result, dict)
        return int(result["pid"])

    def kill_daemon(self, sig: int = signal.SIGKILL) -> None:
        """End the daemon, and with it the last copy of its socket."""
        self.sock.close()
        os.kill(self.daemon, sig)

    def crash(self, sig: int = signal.SIGKILL) -> bool:
        """Have the next daemon; return whether it is the code on disk."""
        self.kill_daemon(sig)
        self.next_daemon()
        return self.from_disk

    def wait(self) -> int:
        """Wait for the launcher's end; return its exit status."""
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGTERM)
            self.wait()
        self.sock.close()
        self._daemons.close()


def sleep_well(role: str, domid: int, name: str, run_dir: str) -> int:
    if name.endswith("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if name.endswith("quick"):
        return 3
    if name.endswith("broken"):
        raise RuntimeError("a bug")
    while True:
        signal.pause()


@pytest.fixture
def launcher(run_dir: RunDir) -> Iterator[LauncherSide]:
    side = LauncherSide(run_dir, sleep_well)
    yield side
    side.close()


@pytest.fixture
def no_room(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> Path:
    """While this file is there, the kernel refuses to fork; a byte for each time."""
    tries = run_dir.path.parent / "tries"
    fork = os.fork

    def refused() -> int:
        if not tries.exists():
            return fork()
        with tries.open("ab") as file:
            file.write(b".")
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", refused)
    monkeypatch.setattr(launcher_module, "REFUSED_BACKOFF_S", 0.01)
    return tries


def logged(run_dir: RunDir) -> str:
    return run_dir.log.read_text()


# Ends and namespaces.


def test_an_end_runs_as_its_domain_in_its_namespace(launcher: LauncherSide) -> None:
    name = f"{PREFIX}web"
    assert launcher.call("netns_create", name=name) == {"ok": {}}
    pid = launcher.spawn(name, netns=name)
    eventually(lambda: in_netns(pid, name), "not in its namespace")
    uid = str(uid_base() + 7)
    eventually(lambda: status_of(pid)["Uid"].split() == [uid] * 4, "not its uid")
    eventually(lambda: status_of(pid)["CapEff"] == f"{1 << 12:016x}", "not its caps")
    # The last of what it gives up.
    eventually(lambda: status_of(pid)["NoNewPrivs"] == "1", "may have new privileges")
    assert status_of(pid)["CapBnd"] == f"{1 << 12:016x}"
    assert status_of(pid)["Gid"].split() == [uid] * 4
    assert status_of(pid)["Groups"] == str(callers_gid())
    assert os.getsid(pid) == pid
    fds = [os.readlink(p) for p in Path(f"/proc/{pid}/fd").iterdir()]
    assert not [fd for fd in fds if fd.startswith("socket:")]


@pytest.mark.parametrize(
    ("name", "sig", "status"),
    [
        ("sleeper", signal.SIGKILL, 9),
        ("sleeper", signal.SIGTERM, 15),
        ("quick", None, 3 << 8),
        ("broken", None, 1 << 8),
    ],
)
def test_an_exit_is_an_event(
    launcher: LauncherSide, name: str, sig: signal.Signals | None, status: int
) -> None:
    pid = launcher.spawn(name)
    if sig is not None:
        eventually(
            lambda: status_of(pid)["Uid"].split()[0] == str(uid_base() + 7), "no end"
        )
        assert launcher.call("signal", pid=pid, sig=int(sig)) == {"ok": {}}
    assert launcher.packet() == {"event": "exited", "pid": pid, "status": status}


def test_a_signal_right_after_the_fork_is_the_ends_alone(
    launcher: LauncherSide,
) -> None:
    for _ in range(20):
        pid = launcher.spawn("sleeper")
        assert launcher.call("signal", pid=pid, sig=15) == {"ok": {}}
        event = launcher.packet()
        assert (event["pid"], event["status"]) == (pid, 15)
    assert launcher.call("netns_delete", name="other")["error"] == "EPERM"


@pytest.mark.parametrize(("role", "name"), [("frontend", "x"), ("backend", "Domain-0")])
def test_an_end_for_which_there_is_no_room_is_refused_and_nothing_more(
    no_room: Path, launcher: LauncherSide, role: str, name: str
) -> None:
    stays = launcher.spawn("sleeper")
    no_room.touch()
    answer = launcher.call("spawn", role=role, domid=0, name=name, netns=None)
    assert answer == {"error": "EIO", "why": os.strerror(errno.EAGAIN)}
    no_room.unlink()
    pid = launcher.spawn("quick")
    assert launcher.packet() == {"event": "exited", "pid": pid, "status": 3 << 8}
    assert [end.pid for end in launcher.hello().ends] == [stays]


def test_the_launcher_refuses_what_the_daemon_has_no_business_with(
    launcher: LauncherSide,
) -> None:
    for op, args, says in (
        ("signal", {"pid": os.getpid(), "sig": 15}, "is no end"),
        ("signal", {"pid": 1, "sig": 15}, "is no end"),
        ("signal", {"pid": 1, "sig": 19}, "neither SIGTERM nor SIGKILL"),
        ("netns_delete", {"name": "other"}, "not made by this launcher"),
        (
            "spawn",
            {"role": "frontend", "domid": 1, "name": "x", "netns": "other"},
            "not made by this launcher",
        ),
        ("netns_create", {"name": "../x"}, "other characters"),
        ("netns_create", {"name": "Domain-0"}, "host's own"),
        ("spawn", {"role": "shell", "domid": 1, "name": "x", "netns": None}, "role"),
        ("spawn", {"role": "frontend", "domid": -1, "name": "x", "netns": None}, "-1"),
        ("reboot", {}, "knows no 'reboot'"),
    ):
        assert says in str(launcher.call(op, **args)["why"]), op


def test_what_is_no_order_is_logged_and_nothing_more(
    launcher: LauncherSide, run_dir: RunDir
) -> None:
    launcher.tell("keep", key=5, value={})
    launcher.tell("keep", key="a", value=[])
    launcher.sock.sendall(b"{")
    assert launcher.hello().records == {}
    said = logged(run_dir)
    for text in ("key is a number", "value is an array", "is not JSON"):
        assert text in said


def test_ends_do_not_survive_a_launcher_that_is_killed(launcher: LauncherSide) -> None:
    pid = launcher.spawn("sleeper")
    uid = str(uid_base() + 7)
    eventually(lambda: status_of(pid)["Uid"].split()[0] == uid, "not its uid")
    eventually(lambda: Path(f"/proc/{pid}/wchan").read_text() != "0", "not yet asleep")
    os.kill(launcher.pid, signal.SIGKILL)
    assert gone(pid)
    assert launcher.wait() == -signal.SIGKILL
    os.kill(launcher.daemon, signal.SIGKILL)


# Stopping.


def test_an_orderly_end_of_the_daemon_takes_everything_down(
    launcher: LauncherSide, run_dir: RunDir
) -> None:
    name, stubborn = f"{PREFIX}a", f"{PREFIX}stubborn"
    pids = []
    for each in (name, stubborn):
        launcher.call("netns_create", name=each)
        pids.append(launcher.spawn(each, netns=each))
    assert [record.name for record in run_dir.records()] == [name, stubborn]
    run_dir.journal.touch()
    launcher.tell("stopping")
    launcher.kill_daemon()
    assert launcher.wait() == 0
    assert all(gone(pid) for pid in pids)
    assert nothing_left(run_dir)


def test_sigterm_is_passed_on_to_the_daemon(
    launcher: LauncherSide, run_dir: RunDir
) -> None:
    launcher.tell("ready", from_disk=False)
    pid = launcher.spawn("sleeper")
    os.kill(launcher.pid, signal.SIGTERM)
    assert gone(launcher.daemon)
    assert launcher.wait() == 0
    assert gone(pid)
    assert nothing_left(run_dir)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_daemon_that_is_told_to_stop_is_not_started_again(
    launcher: LauncherSide, sig: signal.Signals
) -> None:
    launcher.tell("ready", from_disk=False)
    assert launcher.hello().after is None
    launcher.kill_daemon(sig)
    assert launcher.wait() == 0


def test_who_stops_refuses_clients_at_once(
    launcher: LauncherSide, run_dir: RunDir
) -> None:
    launcher.tell("stopping")
    assert launcher.call("reboot")["error"] == "ENOSYS"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock,
        pytest.raises(ConnectionRefusedError),
    ):
        sock.connect(str(run_dir.hypervisor_socket))


def test_a_first_daemon_that_does_not_get_ready_is_the_last(
    launcher: LauncherSide, run_dir: RunDir
) -> None:
    launcher.kill_daemon()
    assert launcher.wait() == 1
    assert launcher.no_further_daemon()
    assert nothing_left(run_dir)


# A daemon that dies, and the next one.


def test_the_next_daemon_has_what_the_last_one_had_put(launcher: LauncherSide) -> None:
    launcher.tell("ready", from_disk=False)
    fds = [os.memfd_create(str(number)) for number in range(3)]
    launcher.tell("keep", (fds[0], fds[1]), key="a", value={"n": 1})
    launcher.tell("keep", key="a", value={"n": 2})
    launcher.tell("keep", (fds[0],), key="b", value={})
    launcher.tell("keep", (fds[2],), key="b", value={"n": 3})
    launcher.tell("keep", key="gone", value={})
    launcher.tell("drop", key="gone")
    launcher.tell("drop", key="never there")
    for _ in range(2):
        launcher.crash()
        inherited = launcher.hello()
        assert inherited.after == "died with signal 9"
        assert inherited.launcher_pid == launcher.pid
        assert [*inherited.records] == ["a", "b"]
        assert inherited.records["a"].value == {"n": 2}
        for key, numbers in (("a", (0, 1)), ("b", (2,))):
            kept = inherited.records[key].fds
            assert len(kept) == len(numbers)
            for fd, number in zip(kept, numbers, strict=True):
                assert os.path.samestat(os.fstat(fd), os.fstat(fds[number]))
            wire.close_fds(kept)
        launcher.tell("ready", from_disk=False)
    wire.close_fds(fds)


def test_what_was_sent_before_the_crash_counts_though_answers_were_unread(
    launcher: LauncherSide,
) -> None:
    launcher.tell("ready", from_disk=False)
    for number in range(100):
        launcher.tell("reboot")
        launcher.tell("keep", key=str(number), value={})
    # The launcher gets ECONNRESET before what is still in its queue.
    launcher.crash()
    assert [*launcher.hello().records] == [str(number) for number in range(100)]


def test_an_order_that_nobody_waits_for_any_more_is_not_carried_out(
    launcher: LauncherSide, run_dir: RunDir
) -> None:
    launcher.tell("ready", from_disk=False)
    os.kill(launcher.pid, signal.SIGSTOP)
    launcher.tell("keep", key="a", value={})
    launcher.tell("netns_create", name=f"{PREFIX}late")
    launcher.tell("keep", key="b", value={})
    launcher.kill_daemon()
    # The dead daemon's process must be seen before its socket is.
    assert gone(launcher.daemon)
    os.kill(launcher.pid, signal.SIGCONT)
    launcher.next_daemon()
    inherited = launcher.hello()
    assert [*inherited.records] == ["a", "b"]
    # It may have been: then the next daemon is told of it.
    assert inherited.namespaces == [
        record.name for record in run_dir.records() if record.netns is not None
    ]


def test_ends_and_namespaces_stay_and_the_next_daemon_learns_of_them(
    launcher: LauncherSide,
) -> None:
    launcher.tell("ready", from_disk=False)
    name = f"{PREFIX}web"
    launcher.call("netns_create", name=name)
    stays, goes = launcher.spawn(name, netns=name), launcher.spawn("sleeper")
    eventually(lambda: in_netns(stays, name), "not in its namespace")
    launcher.kill_daemon()
    os.kill(goes, signal.SIGKILL)
    assert gone(goes)
    launcher.next_daemon()
    eventually(lambda: len(launcher.hello().ends) == 1, "a dead end is passed on")
    inherited = launcher.hello()
    assert [(end.pid, end.role, end.domid) for end in inherited.ends] == [
        (stays, "frontend", 7)
    ]
    assert inherited.namespaces == [name]
    assert launcher.call("signal", pid=stays, sig=9) == {"ok": {}}
    assert launcher.packet() == {"event": "exited", "pid": stays, "status": 9}


def test_the_listening_sockets_stay_open_in_between(
    launcher: LauncherSide, run_dir: RunDir
) -> None:
    launcher.tell("ready", from_disk=False)
    launcher.kill_daemon()
    for path, kind in (
        (run_dir.hypervisor_socket, socket.SOCK_SEQPACKET),
        (run_dir.xenstored_socket, socket.SOCK_STREAM),
        (run_dir.xenstored_socket.with_name("socket_ro"), socket.SOCK_STREAM),
        (run_dir.trace_socket, socket.SOCK_STREAM),
    ):
        with socket.socket(socket.AF_UNIX, kind) as sock:
            sock.connect(str(path))
    launcher.next_daemon()


def test_a_daemon_that_keeps_dying_is_given_up(
    launcher: LauncherSide, run_dir: RunDir
) -> None:
    launcher.tell("ready", from_disk=False)
    pid = launcher.spawn("sleeper")
    run_dir.journal.write_text("poison")
    for _ in range(3):
        launcher.crash(signal.SIGSEGV)
    launcher.kill_daemon(signal.SIGSEGV)
    assert launcher.wait() == 1
    assert launcher.no_further_daemon()
    assert gone(pid)
    said = logged(run_dir)
    assert "died with signal 11, for the 4th time in a row" in said
    assert f"what XenStore held is in {run_dir.journal}.bad" in said
    assert nothing_left(run_dir)


def test_one_that_somebody_kills_is_never_given_up(launcher: LauncherSide) -> None:
    launcher.tell("ready", from_disk=False)
    for number in range(20):
        launcher.crash(signal.SIGKILL)
        if number % 2:
            launcher.tell("ready", from_disk=False)


def test_one_for_which_there_is_no_room_is_started_when_there_is(
    no_room: Path, launcher: LauncherSide, run_dir: RunDir
) -> None:
    launcher.tell("ready", from_disk=False)
    pid = launcher.spawn("sleeper")
    assert [end.pid for end in launcher.hello().ends] == [pid]
    before = os.listdir(f"/proc/{launcher.pid}/fd")
    no_room.touch()
    launcher.kill_daemon()
    # It would have been given up.
    eventually(lambda: no_room.stat().st_size > 10, "there is no further try")
    no_room.unlink()
    launcher.next_daemon()
    inherited = launcher.hello()
    assert inherited.after == "died with signal 9"
    assert [end.pid for end in inherited.ends] == [pid]
    assert len(os.listdir(f"/proc/{launcher.pid}/fd")) == len(before)
    said = f"process {launcher.pid} cannot start the daemon again: "
    assert logged(run_dir).count(said) == 1
    assert "there are too many processes or threads: see ulimit -u" in logged(run_dir)


def test_after_an_update_the_code_on_disk_counts_as_long_as_it_starts(
    launcher: LauncherSide, run_dir: RunDir
) -> None:
    launcher.tell("ready", from_disk=False)
    assert not launcher.crash()
    launcher.tell("ready", from_disk=False)
    launcher.tell("updating")
    launcher.tell("ready", from_disk=True)
    assert launcher.crash()
    # Killed by somebody: it is not to blame.
    assert launcher.crash(signal.SIGKILL)
    assert "does not start" not in logged(run_dir)
    assert not launcher.crash(signal.SIGSEGV)
    assert "the daemon on disk does not start; going on with the old" in logged(run_dir)


def test_an_update_that_fails_halfway_is_followed_by_the_old_code(
    launcher: LauncherSide, run_dir: RunDir
) -> None:
    launcher.tell("ready", from_disk=False)
    launcher.tell("keep", key="a", value={})
    launcher.tell("updating")
    assert not launcher.crash(signal.SIGSEGV)
    assert [*launcher.hello().records] == ["a"]
    assert "the daemon on disk does not start" in logged(run_dir)


def test_sigterm_between_two_daemons_takes_everything_down(
    launcher: LauncherSide, run_dir: RunDir
) -> None:
    launcher.tell("ready", from_disk=False)
    pid = launcher.spawn("sleeper")
    os.kill(launcher.pid, signal.SIGSTOP)
    launcher.kill_daemon()
    assert gone(launcher.daemon)
    os.kill(launcher.pid, signal.SIGTERM)
    os.kill(launcher.pid, signal.SIGCONT)
    assert launcher.wait() == 0
    assert gone(pid)
    assert launcher.no_further_daemon()
    assert nothing_left(run_dir)
