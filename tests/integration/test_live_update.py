"""`CONTROL live-update`: the daemon becomes the code on disk, and no client notices."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.daemons import (
    PREFIX,
    PROGRAM,
    ROOT,
    RunningDaemon,
    eventually,
    gone,
    nothing_left,
)
from tests.integration.links import Link, LinkMaker
from tests.integration.restarts import (
    CONNECTED,
    Ping,
    daemon_of,
    kill_daemon,
    snapshot,
    states,
    store_of,
)
from xenvirt.abi.ids import DomId
from xenvirt.abi.xs_wire import HEADER, XsWire
from xenvirt.hypervisor.sync_client import SyncClient as Hypercalls
from xenvirt.netdev import namespaces
from xenvirt.toolstack.rundir import RunDir
from xenvirt.xenstore.errors import (
    StoreAgainError,
    StoreBusyError,
    StoreInvalidError,
    StoreIOError,
    StoreNotFoundError,
    StoreUncertainError,
)
from xenvirt.xenstore.framing import encode
from xenvirt.xenstore.sync_client import SyncClient

NEAR, FAR = "10.214.4.1", "10.214.4.2"


@pytest.fixture
def link(links: LinkMaker) -> Link:
    return links.up("updated", "--ip", f"{FAR}/24", "--peer-ip", f"{NEAR}/24")


def update(store: SyncClient, *options: str) -> str:
    return store.control("live-update", "-s", *options)


def command_of(pid: int) -> str:
    """What a process was last execve()d as."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode()


@pytest.mark.root
def test_no_client_notices(links: LinkMaker, link: Link) -> None:
    ends, pid = links.ends(), daemon_of(links)
    path = str(links.run_dir / "xenstored" / "socket")
    watching = subprocess.Popen(
        ["xenstore-watch", "-n", "4", "/watched"],
        env=os.environ | {"XENSTORED_PATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )
    pings = Ping(FAR, seconds=4)
    try:
        with contextlib.ExitStack() as stack:
            hypervisor = stack.enter_context(
                Hypercalls(links.run_dir / "hypervisor.sock")
            )
            # It does not reconnect, so that it would notice.
            store = stack.enter_context(SyncClient(path))
            half = stack.enter_context(socket.socket(socket.AF_UNIX))
            half.connect(path)
            request = encode(XsWire.WRITE, 1, 0, b"/half\0whole")
            half.sendall(request[:20])
            assert watching.stdout is not None
            assert watching.stdout.readline() == "/watched\n"
            assert update(store) == "OK"
            assert "daemon_process" in command_of(pid)
            half.sendall(request[20:])
            answer = half.recv(HEADER.size + 3, socket.MSG_WAITALL)
            assert answer[HEADER.size :] == b"OK\0"
            assert store.read("/half") == "whole"
            store.write({"/watched/1": ""})
            before = snapshot(store)
            links.run("daemon", "live-update")
            assert snapshot(store) == before
            store.write({"/watched/2": ""})
            assert update(store) == "OK"
            store.write({"/watched/3": ""})
            assert hypervisor.domain_list()[1]["name"] == link.name
        assert watching.communicate(timeout=10)[0] == "".join(
            f"/watched/{number}\n" for number in (1, 2, 3)
        )
    finally:
        watching.kill()
        watching.wait()
    assert daemon_of(links) == pid
    assert links.ends() == ends
    assert states(links, link) == (CONNECTED, CONNECTED)
    assert "connection lost" not in links.log()
    assert links.log().count("the daemon is updated") == 3
    links.run("network-attach", link.name)
    assert pings.lost() == 0


@pytest.mark.root
def test_a_daemon_that_was_updated_is_still_started_again(
    links: LinkMaker, link: Link
) -> None:
    links.run("daemon", "live-update")
    ends = links.ends()
    with store_of(links) as store:
        before = snapshot(store)
        kill_daemon(links)
        assert snapshot(store) == before
    # The code on disk again, not what the launcher has loaded.
    assert "daemon_process" in command_of(daemon_of(links))
    assert links.ends() == ends
    links.run("daemon", "live-update")
    links.run("network-attach", link.name)
    links.down(link)


@pytest.mark.root
def test_the_command_says_what_keeps_it(links: LinkMaker) -> None:
    links.run("daemon")
    done = links.run("daemon", "--stop", "live-update", status=2)
    assert "takes neither" in done.stderr
    links.run("daemon", "live-update", "--force", "--abort", status=2)
    with store_of(links) as store, store.transaction() as nodes:
        nodes.write({"/a": "1"})
        done = links.run("--timeout", "0.1", "daemon", "live-update", status=5)
        assert "keeps a transaction open" in done.stderr
        links.run("--timeout", "0.1", "daemon", "live-update", "--force")
        with pytest.raises(StoreNotFoundError):
            nodes.read("/a")
        with pytest.raises(StoreNotFoundError):
            nodes.write({"/a": "1"})
        with contextlib.suppress(StoreNotFoundError, StoreAgainError):
            nodes.__exit__(ValueError)
    assert links.json("daemon", "live-update")["updated"] is True


# With dummy ends, and images that are not what they should be.


@pytest.fixture
def run_dir() -> Iterator[RunDir]:
    path = Path(tempfile.mkdtemp(prefix="xenvirt-"))
    path.chmod(0o755)
    yield RunDir(path / "run")
    for name in namespaces.list_names():
        if name.startswith(PREFIX):
            namespaces.delete(name)
    shutil.rmtree(path)


def with_image(image: str) -> str:
    """A daemon that takes `image` for itself, and lets `--check` pass or not."""
    return PROGRAM.replace(
        "sys.exit(daemon.run_daemon(",
        "from xenvirt.toolstack import daemon_process\n"
        f"daemon_process._PROGRAM = (sys.executable, '-c', {image!r})\n"
        "sys.exit(daemon.run_daemon(",
    )


@pytest.fixture
def daemon(run_dir: RunDir, request: pytest.FixtureRequest) -> Iterator[RunningDaemon]:
    running = RunningDaemon(run_dir, getattr(request, "param", PROGRAM))
    yield running
    running.end()
    assert nothing_left(run_dir)


def store_in(daemon: RunningDaemon, reconnect_s: float | None = None) -> SyncClient:
    path = str(daemon.run_dir.xenstored_socket)
    return SyncClient(path, reconnect_s=reconnect_s)


@pytest.mark.root
@pytest.mark.parametrize(
    "options",
    [
        (), ("-x",), ("-s", "-x"), ("-s", "-t"), ("-s", "-t", "x"), ("-s", "-t", "-1"),
        ("-s", "-t", "3601"), ("-a", "-s"), ("-c",), ("-f", "/bin/true", "-s"), ("s",),
    ],
)  # fmt: skip
def test_other_options_are_refused(
    daemon: RunningDaemon, options: tuple[str, ...]
) -> None:
    with store_in(daemon) as store, pytest.raises(StoreInvalidError):
        store.control("live-update", *options)


CONTROL = sorted(Path("/usr/lib").glob("xen-*/bin/xenstore-control"))


@pytest.mark.root
@pytest.mark.skipif(not CONTROL, reason="Debian's xen-utils are not installed")
@pytest.mark.parametrize("options", [(), ("-c", "-x -y", "-t", "3", "-F")])
def test_xens_own_command_asks_for_it(
    daemon: RunningDaemon, options: tuple[str, ...]
) -> None:
    pid = daemon.pid
    with daemon.client() as client:
        client.domain_create(f"{PREFIX}web")
        done = subprocess.run(
            [CONTROL[-1], "live-update", *options, "/usr/bin/another"],
            env=os.environ | {"XENSTORED_PATH": str(daemon.run_dir.xenstored_socket)},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(client.domain_list()) == 2
    assert daemon.pid == pid
    assert "the daemon is updated" in daemon.logged()
    assert "does not start another program" in daemon.logged()


@pytest.mark.root
def test_transactions_are_waited_for_and_a_wait_can_be_aborted(
    daemon: RunningDaemon,
) -> None:
    pid = daemon.pid
    with store_in(daemon) as store, store_in(daemon) as other:
        with pytest.raises(StoreNotFoundError):
            store.control("live-update", "-a")
        with store.transaction() as nodes:
            nodes.write({"/a": "1"})
            with pytest.raises(StoreBusyError):
                update(other, "-t", "0")
            results: list[object] = []

            def wait_for_it() -> None:
                try:
                    results.append(update(other))
                except StoreAgainError as error:
                    results.append(error)

            waiting = threading.Thread(target=wait_for_it)
            waiting.start()
            with store_in(daemon) as third:

                def aborted() -> bool:
                    try:
                        third.control("live-update", "-a")
                    except StoreNotFoundError:
                        return False
                    return True

                eventually(aborted, "no update waits")
            waiting.join(10)
            assert isinstance(results.pop(), StoreAgainError)
            waiting = threading.Thread(target=wait_for_it)
            waiting.start()
            nodes.write({"/b": "2"})
        waiting.join(15)
        assert results == ["OK"]
        assert store.read("/b") == "2"
    assert daemon.pid == pid


@pytest.mark.root
@pytest.mark.parametrize(
    "daemon", [with_image("import sys; print('no', file=sys.stderr); sys.exit(3)")],
    indirect=True,
)  # fmt: skip
def test_code_that_cannot_be_loaded_is_not_tried(daemon: RunningDaemon) -> None:
    pid = daemon.pid
    with daemon.client() as client, store_in(daemon) as store:
        client.domain_create(f"{PREFIX}web")
        with pytest.raises(StoreIOError):
            update(store)
        assert "the daemon on disk cannot be started" in daemon.logged()
        assert daemon.pid == pid
        assert [row["domid"] for row in client.domain_list()] == [0, 1]
        assert store.ls("/") == ["tool"]


@pytest.mark.root
@pytest.mark.parametrize(
    "daemon",
    [
        with_image("import sys; sys.exit('--check' not in sys.argv)"),
        with_image(
            "import os, sys\nif '--check' not in sys.argv: os.kill(os.getpid(), 9)"
        ),
    ],
    indirect=True,
)
def test_code_that_fails_once_it_runs_is_followed_by_the_old_one(
    daemon: RunningDaemon,
) -> None:
    with daemon.client() as client, store_in(daemon, 15) as store:
        client.domain_create(f"{PREFIX}web")
        eventually(lambda: len(client.ports(DomId(1))) == 2, daemon.logged())
        ends = [daemon.pid_of(0), daemon.pid_of(1)]
        store.write({"/a": "1"})
        for _ in range(2):
            pid = daemon.pid
            with pytest.raises(StoreUncertainError):
                update(store)
            assert store.read("/a") == "1"
            assert daemon.pid != pid
        assert [row["domid"] for row in client.domain_list()] == [0, 1]
        assert len(client.ports(DomId(1))) == 2
        assert [daemon.pid_of(0), daemon.pid_of(1)] == ends
    said = "does not start; going on with the old one" in daemon.logged()
    # Somebody may have killed it, for all that is known.
    assert said != ("died with signal 9" in daemon.logged())


@pytest.mark.root
@pytest.mark.parametrize(
    "daemon",
    [PROGRAM.replace("sys.exit(daemon", """
from xenvirt.toolstack import daemon_process
daemon_process._PROGRAM = ("/nowhere/python",)
original = daemon_process.Image
def image(check, environment, become):
    return original(["/bin/true"], environment, become)
daemon_process.Image = image
sys.exit(daemon""")],
    indirect=True,
)  # fmt: skip
def test_a_program_that_is_gone_leaves_everything_as_it_was(
    daemon: RunningDaemon,
) -> None:
    pid = daemon.pid
    with daemon.client() as client, store_in(daemon) as store:
        store.write({"/a": "1"})
        with pytest.raises(StoreIOError):
            update(store)
        # Neither of the two has been disconnected.
        assert store.read("/a") == "1"
        assert client.start_info()["domid"] == 0
    assert daemon.pid == pid
    # And it is not taken for one that fails.
    daemon.kill()
    assert "does not start" not in daemon.logged()


ROOTLESS = """
import os, sys
from pathlib import Path
from xenvirt.toolstack.daemon import ensure_daemon
from xenvirt.toolstack.rundir import RunDir
from xenvirt.xenstore.sync_client import SyncClient
run_dir = RunDir(Path(sys.argv[1]))
with ensure_daemon(run_dir) as client:
    store = SyncClient(str(run_dir.xenstored_socket))
    pid = run_dir.lock_holder()
    made = client.domain_create("rootless")
    _, fds = client.call("alloc_unbound", remote_domid=1)
    _, (memory,) = client.call("memory", domid=1)
    os.pwrite(memory, b"kept", 4096)
    store.write({"/a": "1"})
    for _ in range(2):
        assert store.control("live-update", "-s") == "OK"
    assert b"daemon_process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert [row["name"] for row in client.domain_list()] == ["Domain-0", "rootless"]
    assert len(client.ports(0)) == 1, client.ports(0)
    _, (again,) = client.call("memory", domid=1)
    assert os.pread(again, 4, 4096) == b"kept"
    assert store.read("/a") == "1"
    client.shutdown()
    print(pid)
"""

KILLED = """
import os, sys
from pathlib import Path
from xenvirt.errors import HypercallError
from xenvirt.toolstack.daemon import ensure_daemon
from xenvirt.toolstack.rundir import RunDir
from xenvirt.xenstore.sync_client import SyncClient
run_dir = RunDir(Path(sys.argv[1]))
def client_and_store():
    return ensure_daemon(run_dir), SyncClient(str(run_dir.xenstored_socket))
client, store = client_and_store()
made = client.domain_create("rootless")
assert made["domid"] == 1
store.write({"/local/domain/1/name": "rootless", "/kept": "1", "/libxl/1/type": "pv"})
store.set_perms("/local/domain/1", ["n1"])
store.set_perms("/kept", ["n0", "r1"])
store.introduce(1, made["store_gfn"], made["store_port"])
os.kill(run_dir.lock_holder(), 9)
try:
    client.start_info()
except HypercallError:
    pass
else:
    raise AssertionError("somebody started it again")
client, store = client_and_store()
assert [row["domid"] for row in client.domain_list()] == [0]
assert store.read("/kept") == "1"
# The domain went with its daemon, and with the domain what was its own.
assert not store.exists("/local/domain/1"), store.ls("/local/domain")
assert not store.exists("/libxl/1")
client.shutdown()
print(run_dir.lock_holder())
"""


@pytest.mark.parametrize("script", [ROOTLESS, KILLED], ids=["updated", "killed"])
def test_without_root_too(run_dir: RunDir, script: str) -> None:
    for path in (Path(sys.executable), Path(sys.executable).resolve(), ROOT):
        if not all(parent.stat().st_mode & 0o001 for parent in path.parents):
            pytest.skip(f"another user cannot reach {path}")
    user = 65534 if os.geteuid() == 0 else None
    run_dir.path.mkdir()
    if user is not None:
        os.chown(run_dir.path, user, user)
    done = subprocess.run(
        [sys.executable, "-c", script, str(run_dir.path)],
        cwd=ROOT,
        user=user,
        group=user,
        extra_groups=[] if user else None,
        capture_output=True,
        text=True,
        timeout=60,
    )
    left_behind = run_dir.lock_holder() if done.returncode else None
    if left_behind is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(left_behind, signal.SIGKILL)
    log = run_dir.log.read_text()
    assert done.returncode == 0, done.stderr + log
    assert gone(int(done.stdout))
    assert "Traceback" not in log
    assert not run_dir.journal.exists()
