"""xenvirt xenstore serve, as a process: how it starts, what it serves, how it ends."""

import json
import os
import select
import shlex
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.helpers_xenstore import listening
from xenvirt.cli.main import run
from xenvirt.xenstore.errors import (
    StoreAccessError,
    StoreConnectionError,
    StoreInvalidError,
    StoreNotSupportedError,
)
from xenvirt.xenstore.sync_client import SyncClient

COMMAND = [sys.executable, "-m", "xenvirt.cli.main"]
ROOT = Path(__file__).parents[2]

Serve = Callable[..., "Served"]


class Served:
    """The process, ready."""

    def __init__(
        self, arguments: tuple[object, ...], options: Sequence[str], fds: Sequence[int]
    ) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *options, "xenstore", "serve", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=fds,
        )
        assert self.process.stdout is not None
        self.said = [self.process.stdout.readline()]
        while self.said[-1] != "ready\n" and '"ready": true' not in self.said[-1]:
            assert self.said[-1], self.process.communicate()
            self.said.append(self.process.stdout.readline())

    def end(self, number: int = signal.SIGTERM) -> str:
        """End it, and return what it logged."""
        self.process.send_signal(number)
        _, log = self.process.communicate(timeout=20)
        return log


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts one with arguments; whatever a test leaves is ended."""
    with ExitStack() as stack:

        def start(
            *arguments: object,
            options: Sequence[str] = (),
            pass_fds: Sequence[int] = (),
        ) -> Served:
            served = Served(arguments, options, pass_fds)
            stack.enter_context(served.process)
            stack.callback(served.process.kill)
            return served

        yield start


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_is_ready_serves_and_ends_cleanly(
    serve: Serve, tmp_path: Path, number: int
) -> None:
    path, guest_path = tmp_path / "socket", tmp_path / "guest"
    trace = tmp_path / "trace"
    arguments = ("--socket", path, "--domain", f"5={guest_path}")
    served = serve(*arguments, "--trace-socket", trace)
    assert served.said == [
        f"# as domain 5: export XENSTORED_PATH={guest_path}\n",
        f"export XENSTORED_PATH={path}\n",
        "ready\n",
    ]
    with SyncClient(str(path)) as dom0:
        assert dom0.ls("/") == ["tool"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert served.end(number) == ""
    assert served.process.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_its_domains_are_introduced_guests(serve: Serve, tmp_path: Path) -> None:
    path, guest_path = tmp_path / "socket", tmp_path / "guest"
    serve("--socket", path, "--domain", f"5={guest_path}")
    with SyncClient(str(path)) as dom0, SyncClient(str(guest_path)) as guest:
        assert dom0.is_domain_introduced(5)
        dom0.write({"/local/domain/5": ""})
        dom0.set_perms("/local/domain/5", ["n5"])
        guest.write({"data": "v"})
        assert dom0.read("/local/domain/5/data") == "v"
        with pytest.raises(StoreAccessError):
            guest.read("/tool")
        with pytest.raises(StoreAccessError):
            guest.control("help")
        dom0.introduce(5, 1, 1)
        dom0.release(5)
        assert not dom0.is_domain_introduced(5)


def test_there_is_no_hypervisor_for_other_domains(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    served = serve("--socket", path)
    with SyncClient(str(path)) as dom0:
        with pytest.raises(StoreInvalidError):
            dom0.introduce(7, 1, 1)
        with pytest.raises(StoreNotSupportedError):
            dom0.control("live-update", "-s")
        assert dom0.ls("/") == ["tool"]
    log = served.end()
    assert "INTRODUCE 7 refused: there is no hypervisor here" in log
    assert "live-update refused" in log


def test_readiness_is_told_by_a_descriptor(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as told:
        served = serve("--socket", path, "--ready-fd", writer, pass_fds=[writer])
        os.close(writer)
        # It is closed after that, although the process goes on.
        for expected in (b"READY=1\n", b""):
            assert select.select([told], [], [], 10)[0]
            assert told.read(100) == expected
        assert served.process.poll() is None
        with SyncClient(str(path)) as dom0:
            assert dom0.exists("/tool")


def test_json_tells_what_to_export(serve: Serve, tmp_path: Path) -> None:
    path, guest = tmp_path / "socket", tmp_path / "guest"
    arguments = ("--socket", path, "--domain", f"5={guest}")
    (line,) = serve(*arguments, options=("--json",)).said
    assert json.loads(line) == {
        "schema": "xenvirt/1",
        "ready": True,
        "env": {"XENSTORED_PATH": str(path)},
        "domains": {"5": str(guest)},
        "trace": None,
    }


def test_it_needs_neither_root_nor_a_home() -> None:
    # It leaves root itself: nobody may not be able to read this Python.
    code = (
        "import os, sys, xenvirt.cli.store_serve; from xenvirt.cli.main import run\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "sys.exit(run(sys.argv[1:]))"
    )
    with tempfile.TemporaryDirectory() as directory:
        if os.geteuid() == 0:
            os.chown(directory, 65534, 65534)
        command = ["xenstore", "serve", "--socket", f"{directory}/socket"]
        environment = {k: v for k, v in os.environ.items() if k != "HOME"}
        with subprocess.Popen(
            [sys.executable, "-c", code, *command],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("export")
            assert process.stdout.readline() == "ready\n"
            with SyncClient(f"{directory}/socket") as dom0:
                assert dom0.exists("/tool")
            process.terminate()
            assert process.wait(20) == 0


def test_nodes_survive_a_kill_with_a_state_file(serve: Serve, tmp_path: Path) -> None:
    path, guest = tmp_path / "socket", tmp_path / "guest"
    arguments = ("--socket", path, "--domain", f"5={guest}")
    kept = (*arguments, "--state", tmp_path / "state")
    served = serve(*kept)
    with SyncClient(str(path)) as dom0:
        dom0.write({"/a": "v"})
        dom0.set_perms("/a", ["n5"])
        served.end(signal.SIGKILL)
        with pytest.raises(StoreConnectionError):
            dom0.read("/a")
    assert path.exists()
    serve(*kept)
    with SyncClient(str(path)) as dom0:
        assert dom0.read("/a") == "v"
        assert [str(perm) for perm in dom0.get_perms("/a")] == ["n5"]
        assert dom0.is_domain_introduced(5)


def test_without_a_state_file_nothing_is_kept(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    served = serve("--socket", path)
    with SyncClient(str(path)) as dom0:
        dom0.write({"/a": "v"})
    served.end()
    serve("--socket", path)
    with SyncClient(str(path)) as dom0:
        assert not dom0.exists("/a")


def test_a_store_is_not_taken_over(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, state = tmp_path / "socket", tmp_path / "state"
    serve("--socket", path, "--state", state)
    assert run(["xenstore", "serve", "--socket", str(path)]) == 1
    assert "another store serves there" in capsys.readouterr().err
    other = ["--socket", str(tmp_path / "other"), "--state", str(state)]
    assert run(["xenstore", "serve", *other]) == 1
    assert "another store uses it" in capsys.readouterr().err
    with SyncClient(str(path)) as dom0:
        assert dom0.exists("/tool")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["socket", "state"]


def test_the_sockets_of_a_dead_one_are_replaced(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listening(str(path)).close()
    serve("--socket", path)
    with SyncClient(str(path)) as dom0:
        assert dom0.exists("/tool")


def test_a_name_that_somebody_else_has_taken_since_stays(
    serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "socket"
    served = serve("--socket", path)
    path.unlink()
    with listening(str(path)):
        served.end()
        assert path.exists()


def test_a_damaged_state_file_is_refused_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    state.write_bytes(b"nonsense" * 1000)
    arguments = ["--socket", str(tmp_path / "socket"), "--state", str(state)]
    assert run(["xenstore", "serve", *arguments]) == 1
    assert "damaged" in capsys.readouterr().err
    assert state.read_bytes() == b"nonsense" * 1000


@pytest.mark.parametrize(
    ("arguments", "status", "what"),
    [
        ([], 2, "--socket"),
        (["--socket", "{}/none/socket"], 1, "No such file or directory"),
        (["--socket", "{}/file"], 1, "a file is there"),
        (["--socket", "{}/" + "n" * 110], 2, "too long for a socket"),
        (["--socket", "{}/s", "--domain", "5"], 2, "5 is not N=PATH"),
        (["--socket", "{}/s", "--domain", "=p"], 2, "=p is not N=PATH"),
        (["--socket", "{}/s", "--domain", "x={}/p"], 2, "is not N=PATH"),
        (["--socket", "{}/s", "--domain", "0={}/p"], 2, "0 is not 1..32751"),
        (["--socket", "{}/s", "--domain", "32752={}/p"], 2, "is not 1..32751"),
        (["--socket", "{}/s", "--domain", "5={}/s"], 2, "is named twice"),
        (
            ["--socket", "{}/s", "--domain", "5={}/p", "--domain", "5={}/q"],
            2,
            "domain 5 is named twice",
        ),
        (["--socket", "{}/s", "--ready-fd", "1000"], 2, "1000 is not open"),
        (["--socket", "{}/s", "--state", "{}/none/state"], 1, "cannot use the state"),
        (["--socket", "{}/s", "--domain", "5={}/none/p"], 1, "No such file"),
    ],
)
def test_what_cannot_be_served_is_said_and_nothing_is_left(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    what: str,
) -> None:
    (tmp_path / "file").write_text("precious")
    line = [argument.replace("{}", str(tmp_path)) for argument in arguments]
    assert run(["xenstore", "serve", *line]) == status
    assert what in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "precious"


def test_signals_and_descriptors_are_as_before_afterwards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    before = len(os.listdir("/proc/self/fd"))
    assert run(["xenstore", "serve", "--socket", str(tmp_path / "none" / "s")]) == 1
    assert len(os.listdir("/proc/self/fd")) == before
    now = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    assert now == handlers


def test_other_commands_reach_it_by_its_socket_and_by_xens_variable(
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    serve("--socket", one)
    serve("--socket", two)
    monkeypatch.delenv("XENVIRT_RUN_DIR", raising=False)
    monkeypatch.setenv("XENSTORED_PATH", one)
    assert run(["xenstore", "write", "/name", "one"]) == 0
    assert run(["xenstore", "--socket", two, "write", "/name", "two"]) == 0
    assert run(["xenstore", "read", "/name"]) == 0
    assert run(["xenstore", "--socket", two, "read", "/name"]) == 0
    assert run(["xenstore", "--socket", two, "env"]) == 0
    said = capsys.readouterr().out
    assert said == f"one\ntwo\nexport XENSTORED_PATH={two}\n"
    # Whoever names a run directory means the daemon's.
    assert run(["--run-dir", str(tmp_path), "xenstore", "read", "/name"]) == 3


def test_the_script_of_the_page_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "xenstore-alone.md").read_text()
    after = page.split("In a shell script:\n\n", 1)[1]
    script = textwrap.dedent(after.split("\n\n", 1)[0]) + '\nwait "$pid"\n'
    script = script.replace("make check", "xenvirt xenstore ls; pid=$STORE_PID")
    command = tmp_path / "xenvirt"
    command.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.stdout == 'tool = ""\n xenstored = ""\n'
    assert (done.returncode, done.stderr) == (0, "")


def test_a_store_that_is_not_there_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "none")
    assert run(["xenstore", "--socket", path, "ls"]) == 3
    assert f"no store listens at {path}" in capsys.readouterr().err
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    assert run(["-j", "xenstore", "--socket", path, "ls"]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["cause"] == "Connection refused"
    assert "xenvirt xenstore serve" in error["do"]
