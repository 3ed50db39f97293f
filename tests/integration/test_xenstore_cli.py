"""`xenvirt xenstore` beside Debian's xenstore-*: the same output, status and nodes.

Both run on the same store: ours (a privileged socket and a domain's), and C xenstored
where it is installed. What is compared is standard output, byte by byte, the exit
status, and all nodes and permissions afterwards. On standard error each names itself,
so there only whether anything is said is compared. Misuse has a status of its own here,
and an option that does not exist is refused, not passed over.
"""

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.helpers_xenstore import running_store
from tests.peers import xenstored
from xenvirt.cli.main import run
from xenvirt.xenstore import snapshot
from xenvirt.xenstore.sync_client import SyncClient

TOOLS = ("ls", "list", "read", "write", "rm", "exists", "chmod", "watch")
MISSING = [tool for tool in TOOLS if shutil.which(f"xenstore-{tool}") is None]
NO_C_XENSTORED = xenstored.missing()

pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"xenstore-utils: no xenstore-{'/'.join(MISSING)}"
)

NODES = {
    "/t": b"",
    "/t/a": b"one",
    "/t/b": b"",
    "/t/b/c": b"x" * 100,
    "/t/b/c/d": b'quote " back \\ tab \t nul \0 high \xff new \n line',
    "/t/b/e": "grün".encode(),
    "/t/long" + "n" * 70: b"v",
    "/t/none": b"",
    "/t/only/child": b"",
    "/t/valued/child": b"",
}
PERMS = {"/t/a": ["n1", "r2"], "/t/b/c": ["b0"], "/t/none": ["n2"]}
CHMODDED = "/t/b/c/d"

CASES = [
    "ls",
    "ls /",
    "ls /t",
    "ls -f /t",
    "ls -p /t",
    "ls -fp /t",
    "ls -f -p /t/b",
    "ls --flat --prefix /t/b",
    "ls -s /t/b",
    "ls /t/b /t/only",
    "ls /t/a",
    "ls /none",
    "ls /t/b /none",
    "ls data",
    "ls -f data",
    "ls /t/",
    "read /t/a",
    "read -p /t/a",
    "read --prefix /t/a /t/b/c",
    "read /t/b/c/d",
    "read -R /t/b/c/d",
    "read --raw -p /t/b/c/d /t/a",
    "read /t/b",
    "read -R /t/b",
    "read /t/b/e",
    "read /none",
    "read -p /t/a /none /t/b",
    "read /t/none",
    "read data/x",
    "read -s /t/a",
    "read a//b",
    "write /t/new value",
    "write /t/new value /t/a other",
    "write /t/new/deep/er v",
    'write /t/new back\\\\slash\\ttab\\x41\\101\\"',
    "write -R /t/new back\\\\slash\\ttab\\x41",
    "write --raw /t/new v",
    "write /t/new v a//b v",
    "write /t/new v /t/new w",
    "write -s data/x 1",
    "write /t/none v",
    "rm /t/a",
    "rm /t/b",
    "rm /t/a /t/b",
    "rm -t /t/only/child",
    "rm --tidy /t/valued/child",
    "rm -t /t/b/e",
    "rm -s /t/none",
    "rm /t/missing",
    "rm /none/missing",
    "rm -t /none/missing",
    "rm /t/a /none/missing",
    "rm -t data/x",
    "rm /",
    "list /t",
    "list -p /t",
    "list --prefix /t/b /t/only",
    "list /t/a",
    "list /none",
    "list /t/b /none",
    "list -s data",
    "list -p data",
    "exists /t/a",
    "exists /t/a /t/b",
    "exists /t/a /none",
    "exists /none",
    "exists /t/none",
    "exists -s data",
    "chmod /t/a n1",
    "chmod /t/a b0 r1 w2 n0",
    "chmod -r /t/b r0",
    "chmod --recurse /t/b r0 w1",
    "chmod -u /t/b/c/d n0",
    "chmod --upto -r /t/b/c r0",
    "chmod -u /t/b/c r0 -r",
    "chmod -s /t/a n1",
    "chmod /none n0",
    "chmod -u -r data/x n0",
    "chmod -u data n0",
    "chmod -r data n1",
    "chmod /t/a n0 r777",
]

USAGE_ERRORS = [
    "read",
    "write",
    "write /t/a",
    "rm",
    "list",
    "exists",
    "chmod",
    "watch",
    "chmod /t/a x0",
    "write -t /t/a v",
    "rm -p /t/a",
    "ls -t",
]


class Peer(NamedTuple):
    """A store: where its dom0 connects, and where the client under test does."""

    dom0: str
    path: str


class Outcome(NamedTuple):
    """What a command did."""

    status: int
    output: bytes
    complained: bool
    nodes: str


@pytest.fixture(
    params=[
        "ours",
        "ours, from a domain",
        pytest.param(
            "C xenstored",
            marks=pytest.mark.skipif(
                NO_C_XENSTORED is not None, reason=str(NO_C_XENSTORED)
            ),
        ),
    ],
    scope="module",
)
def peer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Peer]:
    """A store of some kind."""
    directory = tmp_path_factory.mktemp("store")
    if request.param == "C xenstored":
        theirs = xenstored.Xenstored(directory)
        for domid in (1, 2):
            theirs.create_domain(domid)
        yield Peer(theirs.socket, theirs.socket)
        theirs.close()
        return
    with running_store() as store:
        path = store.path
        if request.param != "ours":
            path = str(directory / "domain")
            store.listen(path, 1)
        yield Peer(store.path, path)


@pytest.fixture
def environment(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What leads both kinds of command to the store, which holds NODES."""
    monkeypatch.setenv("XENSTORED_PATH", peer.path)
    monkeypatch.delenv("XENVIRT_RUN_DIR", raising=False)
    reset(peer)
    return dict(os.environ)


def home(peer: Peer) -> str:
    """Where relative paths of the client under test begin."""
    return f"/local/domain/{0 if peer.path == peer.dom0 else 1}"


def reset(peer: Peer) -> None:
    """Make the store what it is before each command."""
    with SyncClient(peer.dom0) as dom0:
        for name in dom0.ls("/"):
            dom0.rm(f"/{name}")
        dom0.set_perms("/", ["n0"])
        dom0.write(NODES)
        base = home(peer)
        dom0.write({f"{base}/data/x": "1", f"{base}/data/y": "2"})
        for path in (base, f"{base}/data", f"{base}/data/x", f"{base}/data/y"):
            dom0.set_perms(path, ["n1"])
        for path in (*NODES, "/t/only", "/t/valued"):
            dom0.set_perms(path, PERMS.get(path, ["n1" if path != "/t" else "r1"]))
        dom0.write({"/t/valued": "v"})


def nodes(peer: Peer) -> str:
    with SyncClient(peer.dom0) as dom0:
        return snapshot.dump(snapshot.take(dom0, "/"))


def debian(peer: Peer, line: str) -> Outcome:
    """What xenstore-* does with a command line."""
    name, *arguments = line.split(" ")
    done = subprocess.run(
        [f"xenstore-{name}", *arguments], capture_output=True, timeout=20
    )
    return Outcome(done.returncode, done.stdout, bool(done.stderr), nodes(peer))


def ours(peer: Peer, line: str, capfdbinary: pytest.CaptureFixture[bytes]) -> Outcome:
    """What xenvirt xenstore does with a command line."""
    status = run(["xenstore", *line.split(" ")])
    sys.stdout.flush()
    output, errors = capfdbinary.readouterr()
    return Outcome(status, output, bool(errors), nodes(peer))


@pytest.mark.parametrize("line", CASES)
@pytest.mark.usefixtures("environment")
def test_it_does_what_xenstore_tools_do(
    peer: Peer, line: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    expected = debian(peer, line)
    reset(peer)
    found = ours(peer, line, capfdbinary)
    if "exists" in line:
        # Both are silent about it.
        assert not found.complained
    assert found == expected


@pytest.mark.parametrize("line", USAGE_ERRORS)
@pytest.mark.usefixtures("environment")
def test_what_is_misused_there_is_misused_here(
    peer: Peer, line: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    expected = debian(peer, line)
    found = ours(peer, line, capfdbinary)
    assert (expected.status, found.status) == (1, 2)
    assert found[1:] == expected[1:]


@pytest.mark.parametrize("columns", [200, 80, 40, 12])
@pytest.mark.parametrize("options", ["", "-p", "-f", "-fp"])
def test_a_tree_fits_the_terminal_as_there(
    peer: Peer, environment: dict[str, str], columns: int, options: str
) -> None:
    options_given = options.split()
    theirs = on_terminal(["xenstore-ls", *options_given, "/t"], columns, environment)
    python = [sys.executable, "-m", "xenvirt.cli.main", "xenstore", "ls"]
    mine = on_terminal([*python, *options_given, "/t"], columns, environment)
    assert mine == theirs
    assert len(mine[1]) > 20


def on_terminal(
    command: list[str], columns: int, environment: dict[str, str]
) -> tuple[int, bytes]:
    """What a command prints on a terminal of that width, and how it ends."""
    ours_fd, its_fd = os.openpty()
    fcntl.ioctl(its_fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        command,
        env=environment,
        stdout=its_fd,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(its_fd)
        output = b""
        # EIO: the last one has closed the terminal.
        with contextlib.suppress(OSError):
            while data := os.read(ours_fd, 65536):
                output += data
        os.close(ours_fd)
        return process.wait(20), output


@pytest.mark.parametrize("arguments", ["-n 6 data", "-n 6 data data/x", "-n 1 data"])
def test_a_watch_prints_the_same_events(
    peer: Peer, environment: dict[str, str], arguments: str
) -> None:
    theirs = watched(["xenstore-watch", *arguments.split()], peer, environment)
    python = [sys.executable, "-m", "xenvirt.cli.main", "xenstore", "watch"]
    assert watched([*python, *arguments.split()], peer, environment) == theirs
    assert len(theirs.splitlines()) == int(arguments.split()[1])


def watched(command: list[str], peer: Peer, environment: dict[str, str]) -> str:
    """What a watching command prints while nodes change one after the other."""
    paths = [word for word in command if word.startswith("data")]
    left = int(command[command.index("-n") + 1])
    with (
        SyncClient(peer.dom0) as dom0,
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in paths]
        for name in ("x", "x", "y/z", "y", "x", "y"):
            dom0.write({f"{home(peer)}/data/{name}": "v"})
            # A server may merge equal events, so let each be seen.
            for path in paths:
                if f"data/{name}".startswith(path) and len(lines) < left:
                    lines.append(process.stdout.readline())
        assert process.stdout.read() == ""
        assert process.wait(20) == 0
    return "".join(lines)


def test_a_watch_of_no_event_ends_at_once(
    peer: Peer, environment: dict[str, str], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert debian(peer, "watch -n 0 /t") == ours(peer, "watch -n 0 /t", capfdbinary)


def test_a_watch_that_is_refused_fails_as_there(
    peer: Peer, environment: dict[str, str], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    for line in ("watch -n 1 a//b", "watch -n 3 /t /t"):
        expected = debian(peer, line)
        assert ours(peer, line, capfdbinary) == expected
        assert expected.status == 1


def test_depth_is_passed_on() -> None:
    python = [sys.executable, "-m", "xenvirt.cli.main", "xenstore"]
    with (
        running_store() as store,
        SyncClient(store.path) as dom0,
        subprocess.Popen(
            [*python, "--socket", store.path, *["watch", "-n", "4", "-d", "1", "/w"]],
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "/w\n"
        for path in ("/w/a", "/w/a/deep", "/w/b", "/w"):
            dom0.write({path: "v"})
        assert process.stdout.read() == "/w/a\n/w/b\n/w\n"
