"""The daemon, its launcher and ends as processes; dummy ends that only connect."""

import contextlib
import fcntl
import mmap
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.daemons import (
    DEADLINE_S,
    PREFIX,
    ROOT,
    RunningDaemon,
    eventually,
    gone,
    in_netns,
    lock_is_free,
    nothing_left,
    status_of,
)
from xenvirt.abi.ids import DomId
from xenvirt.abi.xs_wire import HEADER, XsWire
from xenvirt.errors import (
    HypercallError,
    LocalError,
    NotFoundError,
    NotPermittedError,
    UsageError,
)
from xenvirt.hypervisor import wire
from xenvirt.hypervisor.caller import daemon_uid
from xenvirt.hypervisor.sync_client import SyncClient
from xenvirt.native.xs_ring import XsRingPage
from xenvirt.netdev import namespaces
from xenvirt.toolstack.daemon import ensure_daemon, run_daemon
from xenvirt.toolstack.rundir import Record, RunDir


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


@pytest.fixture
def daemon(run_dir: RunDir) -> Iterator[RunningDaemon]:
    running = RunningDaemon(run_dir)
    yield running
    running.end()


@pytest.mark.root
def test_a_domain_lives_is_restarted_and_goes(daemon: RunningDaemon) -> None:
    name = f"{PREFIX}web"
    with daemon.client() as client:
        made = client.domain_create(name)
        assert made == {"domid": 1, "store_gfn": 64, "store_port": 1}
        pid = daemon.pid_of(1)
        # Its own port shows that it has called under its own uid.
        eventually(lambda: len(client.ports(DomId(1))) == 2, daemon.logged())
        assert in_netns(pid, name)
        with pytest.raises(HypercallError, match=f"domain 1 has the name {name}"):
            client.domain_create(name)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: daemon.end_of(1)["pid"] not in (pid, None), "no restart")
        assert daemon.end_of(1)["restarts"] == 1
        assert (
            f"frontend of domain 1 ({name}) died with signal 9; starting it again"
            in daemon.logged()
        )
        eventually(lambda: len(client.ports(DomId(1))) == 2, daemon.logged())
        pid = daemon.pid_of(1)
        client.domain_destroy(DomId(1))
        assert gone(pid)
        assert [row["domid"] for row in client.domain_list()] == [0]
        assert not namespaces.exists(name)
        with pytest.raises(HypercallError, match="no domain 1"):
            client.domain_destroy(DomId(1))


@pytest.mark.root
def test_the_daemon_is_not_root(daemon: RunningDaemon) -> None:
    status = status_of(daemon.pid)
    assert status["Uid"].split() == [str(daemon_uid())] * 4
    assert status_of(daemon.process.pid)["Uid"].split() == ["0"] * 4
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert daemon.run_dir.hypervisor_socket.stat().st_mode & 0o777 == 0o660
    assert daemon.run_dir.xenstored_socket.stat().st_mode & 0o777 == 0o600
    assert daemon.run_dir.lock.stat().st_mode & 0o777 == 0o600


@pytest.mark.root
def test_a_namespace_of_somebody_elses_is_left_alone(daemon: RunningDaemon) -> None:
    name = f"{PREFIX}theirs"
    namespaces.create(name)
    with daemon.client() as client:
        with pytest.raises(HypercallError, match="exists already"):
            client.domain_create(name)
        assert [row["domid"] for row in client.domain_list()] == [0]
    assert namespaces.exists(name)
    assert list(daemon.run_dir.records()) != []  # Domain-0's own
    daemon.end()
    assert namespaces.exists(name)


@pytest.mark.root
@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "shutdown"])
def test_an_orderly_stop_leaves_nothing(daemon: RunningDaemon, how: str) -> None:
    pids = [daemon.pid_of(0), daemon.pid]
    with daemon.client() as client:
        for number in (1, 2):
            client.domain_create(f"{PREFIX}d{number}")
            pids.append(daemon.pid_of(number))
        if how == "shutdown":
            assert client.shutdown() == daemon.process.pid
        else:
            daemon.process.send_signal(signal.Signals[how])
        assert daemon.wait() == 0, daemon.logged()
    assert all(gone(pid) for pid in pids)
    assert nothing_left(daemon.run_dir)
    assert lock_is_free(daemon.run_dir)


@pytest.mark.root
def test_a_second_signal_kills_what_does_not_end(daemon: RunningDaemon) -> None:
    with daemon.client() as client:
        client.domain_create(f"{PREFIX}stubborn")
        eventually(lambda: len(client.ports(DomId(1))) == 2, daemon.logged())
    daemon.process.send_signal(signal.SIGTERM)
    eventually(lambda: "stopping" in daemon.logged(), "not stopping")
    started = time.monotonic()
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert time.monotonic() - started < 4
    assert "killing what does not end" in daemon.logged()
    assert nothing_left(daemon.run_dir)


@pytest.mark.root
def test_a_killed_launcher_ends_the_daemon_and_the_next_one_cleans_up(
    daemon: RunningDaemon,
) -> None:
    name = f"{PREFIX}web"
    with daemon.client() as client:
        client.domain_create(name)
        eventually(lambda: len(client.ports(DomId(1))) == 2, daemon.logged())
    pids = [daemon.pid_of(0), daemon.pid_of(1), daemon.pid]
    daemon.process.kill()
    daemon.wait()
    assert all(gone(pid) for pid in pids)
    assert "the launcher has died" in daemon.logged()
    assert namespaces.exists(name)
    daemon.log.close()
    daemon.start()
    says = f"removing network namespace {name}, which a killed daemon left"
    assert says in daemon.logged()
    assert not namespaces.exists(name)
    assert [record.name for record in daemon.run_dir.records()] == ["Domain-0"]


@pytest.mark.root
def test_a_second_daemon_is_refused(daemon: RunningDaemon) -> None:
    with pytest.raises(LocalError, match=f"process {daemon.process.pid} holds"):
        run_daemon(daemon.run_dir, foreground=True)


def xs_request(sock: socket.socket, type_: XsWire, payload: bytes) -> bytes:
    sock.sendall(HEADER.pack(type_, 1, 0, len(payload)) + payload)
    head = sock.recv(HEADER.size, socket.MSG_WAITALL)
    answered, _, _, length = HEADER.unpack(head)
    body = sock.recv(length, socket.MSG_WAITALL) if length else b""
    return b"ERROR " + body if answered == XsWire.ERROR else body


@pytest.mark.root
def test_the_store_speaks_on_socket_and_ring(daemon: RunningDaemon) -> None:
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(daemon.client())
        client.domain_create(f"{PREFIX}web")
        store = stack.enter_context(socket.socket(socket.AF_UNIX))
        store.settimeout(DEADLINE_S)
        store.connect(str(daemon.run_dir.xenstored_socket))
        path = b"/local/domain/1/name"
        assert xs_request(store, XsWire.WRITE, path + b"\0web") == b"OK\0"
        assert xs_request(store, XsWire.SET_PERMS, path + b"\0n0\0r1\0") == b"OK\0"
        assert xs_request(store, XsWire.INTRODUCE, b"1\x0065\x001\0") == (
            b"ERROR EINVAL\0"
        )
        for _ in range(2):
            assert xs_request(store, XsWire.INTRODUCE, b"1\x0064\x001\0") == b"OK\0"
            assert client.ports(DomId(1))[0]["state"] == "interdomain"
            assert read_over_ring(client, path) == b"web"
        client.domain_destroy(DomId(1))
        assert not [p for p in client.ports(DomId(0)) if p["remote_domid"] == 1]


def read_over_ring(client: SyncClient, path: bytes) -> bytes:
    _, fds = client.call("start_info", **{"as": 1})
    memory_fd, pending_fd, notify_fd = fds
    memory = mmap.mmap(memory_fd, 65 * 4096)
    page = XsRingPage(memory, 64 * 4096)
    request = HEADER.pack(XsWire.READ, 5, 0, len(path) + 1) + path + b"\0"
    assert page.write(request) == len(request)
    os.eventfd_write(notify_fd, 1)
    answer = b""
    while (
        len(answer) < HEADER.size
        or len(answer) < HEADER.size + HEADER.unpack(answer[: HEADER.size])[3]
    ):
        assert select.select([pending_fd], [], [], DEADLINE_S)[0]
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(pending_fd)
        answer += page.read(1024)
        os.eventfd_write(notify_fd, 1)
    for fd in fds:
        os.close(fd)
    return answer[HEADER.size :]


@pytest.mark.root
def test_a_domain_that_breaks_its_ring_breaks_nothing_else(
    daemon: RunningDaemon,
) -> None:
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(daemon.client())
        client.domain_create(f"{PREFIX}evil")
        store = stack.enter_context(socket.socket(socket.AF_UNIX))
        store.settimeout(DEADLINE_S)
        store.connect(str(daemon.run_dir.xenstored_socket))
        assert xs_request(store, XsWire.INTRODUCE, b"1\x0064\x001\0") == b"OK\0"
        _, fds = client.call("start_info", **{"as": 1})
        memory = mmap.mmap(fds[0], 65 * 4096)
        page = XsRingPage(memory, 64 * 4096)
        memory[64 * 4096 + 2052 : 64 * 4096 + 2056] = b"\xff\xff\xff\x7f"
        os.eventfd_write(fds[2], 1)
        eventually(lambda: page.error == 2, "no ring index error")
        wire.close_fds(fds)
        assert xs_request(store, XsWire.GET_DOMAIN_PATH, b"1\0").startswith(b"/local")
        client.domain_destroy(DomId(1))


@pytest.mark.root
def test_a_domain_that_is_named_as_backend_gets_one(daemon: RunningDaemon) -> None:
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(daemon.client())
        for name in ("front", "driver"):
            client.domain_create(f"{PREFIX}{name}")
        memory_call = {"domid": 1, "as": 2}
        with pytest.raises(HypercallError, match="domain 2 has no vif with domain 1"):
            client.call("memory", **memory_call)
        store = stack.enter_context(socket.socket(socket.AF_UNIX))
        store.settimeout(DEADLINE_S)
        store.connect(str(daemon.run_dir.xenstored_socket))
        node = b"/libxl/1/device/vif/0/backend\0/local/domain/2/backend/vif/1/0"
        assert xs_request(store, XsWire.WRITE, node) == b"OK\0"

        def roles() -> list[str]:
            (row,) = [r for r in client.domain_list() if r["domid"] == 2]
            ends = row["ends"]
            assert isinstance(ends, list)
            return sorted(end["role"] for end in ends if end["pid"])

        eventually(lambda: roles() == ["backend", "frontend"], daemon.logged())
        _, fds = client.call("memory", **memory_call)
        wire.close_fds(fds)
        client.domain_destroy(DomId(2))
        assert [row["domid"] for row in client.domain_list()] == [0, 1]


ENSURE = """
import os, sys, time
from pathlib import Path
from xenvirt.toolstack.daemon import ensure_daemon
from xenvirt.toolstack.rundir import RunDir
run_dir = RunDir(Path(sys.argv[1]))
with ensure_daemon(run_dir) as client:
    assert client.start_info()["domid"] == 0
    print(run_dir.lock_holder())
"""

STOP = """
import sys
from pathlib import Path
from xenvirt.hypervisor.sync_client import SyncClient
from xenvirt.toolstack.rundir import RunDir
with SyncClient(RunDir(Path(sys.argv[1])).hypervisor_socket) as client:
    made = client.domain_create("rootless")
    assert client.domain_list()[1]["ends"] == [], client.domain_list()
    client.shutdown()
"""


def as_nobody(script: str, run_dir: RunDir) -> "subprocess.Popen[str]":
    user = 65534 if os.geteuid() == 0 else None
    return subprocess.Popen(
        [sys.executable, "-c", script, str(run_dir.path)],
        cwd=ROOT,
        user=user,
        group=user,
        extra_groups=[] if user else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_commands_at_the_same_time_start_one_daemon_without_root(
    run_dir: RunDir,
) -> None:
    for path in (Path(sys.executable), Path(sys.executable).resolve(), ROOT):
        if not all(parent.stat().st_mode & 0o001 for parent in path.parents):
            pytest.skip(f"another user cannot reach {path}")
    run_dir.path.mkdir()
    if os.geteuid() == 0:
        os.chown(run_dir.path, 65534, 65534)
    commands = [as_nobody(ENSURE, run_dir) for _ in range(4)]
    outputs = [command.communicate(timeout=30)[0] for command in commands]
    assert [command.returncode for command in commands] == [0] * 4, outputs
    assert len(set(outputs)) == 1
    stop = as_nobody(STOP, run_dir)
    output, _ = stop.communicate(timeout=30)
    assert stop.returncode == 0, output
    assert gone(int(outputs[0]))
    assert not run_dir.hypervisor_socket.exists()
    assert not run_dir.xenstored_socket.exists()


def test_a_daemon_that_cannot_start_says_why(run_dir: RunDir) -> None:
    run_dir.create()
    run_dir.hypervisor_socket.mkdir()
    with pytest.raises(LocalError, match="the daemon did not start") as caught:
        ensure_daemon(run_dir)
    assert "hypervisor.sock" in str(caught.value)
    assert str(run_dir.log) in caught.value.hint
    eventually(lambda: lock_is_free(run_dir), "the lock is not free")


@pytest.mark.parametrize("name", ["XENVIRT_POLL_US", "XENVIRT_WORKER_CPUS"])
def test_what_no_end_would_start_with_is_refused_before_there_is_one(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "-1")
    with pytest.raises(LocalError, match=f"{name}=-1 is not ") as caught:
        ensure_daemon(run_dir)
    assert "the daemon did not start" in str(caught.value)


def test_a_daemon_that_does_not_answer_is_named(run_dir: RunDir) -> None:
    run_dir.create()
    fd = run_dir.try_lock()
    assert fd is not None
    os.pwrite(fd, b"4711\n", 0)
    with pytest.raises(LocalError, match="process 4711 holds its lock"):
        ensure_daemon(run_dir, timeout_s=0.1)
    os.close(fd)


def test_starting_a_daemon_needs_neither_event_loop_nor_netlink() -> None:
    script = (
        "import sys, xenvirt.toolstack.daemon\n"
        "sys.exit(bool({'asyncio', 'cffi', 'pyroute2', 'uvloop'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_the_callers_umask_keeps_no_end_out(run_dir: RunDir) -> None:
    old = os.umask(0o077)
    try:
        run_dir.create()
        run_dir.listen().close()
        os.close(run_dir.open_log())
    finally:
        os.umask(old)
    modes = {
        path.name: path.stat().st_mode & 0o777
        for path in (run_dir.path, run_dir.hypervisor_socket, run_dir.log)
    }
    assert modes == {"run": 0o755, "hypervisor.sock": 0o660, "log": 0o640}


def test_a_directory_that_others_may_write_to_is_refused(run_dir: RunDir) -> None:
    run_dir.path.mkdir()
    run_dir.path.chmod(0o777)
    with pytest.raises(NotPermittedError, match="others may write"):
        run_dir.create()


def test_a_path_too_long_for_a_socket_is_refused(run_dir: RunDir) -> None:
    with pytest.raises(UsageError, match="at most 107 bytes"):
        RunDir(run_dir.path / ("x" * 100)).create()


def test_the_run_directory_is_chosen_by_option_variable_and_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    monkeypatch.delenv("XENVIRT_RUN_DIR", raising=False)
    assert RunDir.find().path == Path("/run/user/1000/xenvirt")
    monkeypatch.setenv("XENVIRT_RUN_DIR", "/elsewhere")
    assert RunDir.find().path == Path("/elsewhere")
    assert RunDir.find("/given").path == Path("/given")
    monkeypatch.delenv("XENVIRT_RUN_DIR")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    with pytest.raises(UsageError, match="XDG_RUNTIME_DIR is not set"):
        RunDir.find()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert RunDir.find().path == Path("/run/xenvirt")


def test_a_stale_socket_is_nobody(run_dir: RunDir) -> None:
    run_dir.create()
    run_dir.listen().close()
    assert run_dir.hypervisor_socket.exists()
    with pytest.raises(NotFoundError, match="no daemon answers"):
        SyncClient(run_dir.hypervisor_socket)


def test_the_lock_lasts_until_its_last_copy_is_closed(run_dir: RunDir) -> None:
    run_dir.create()
    fd = run_dir.try_lock()
    assert fd is not None
    assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    copy = os.dup(fd)
    os.close(fd)
    assert run_dir.try_lock() is None
    os.close(copy)
    assert lock_is_free(run_dir)


def test_records_survive_and_a_bad_one_is_passed_over(run_dir: RunDir) -> None:
    run_dir.create()
    record = Record("web", netns="web", host_taps=False)
    run_dir.write_record(record)
    run_dir.domain_record("bad").write_text("{")
    assert list(run_dir.records()) == [record]
    run_dir.remove_record("web")
    run_dir.remove_record("web")
    assert list(run_dir.records()) == []
