"""scripts/apart: what was made in there goes with it, whoever was killed."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.daemons import eventually, processes_with
from tests.integration.links import XENVIRT

pytestmark = pytest.mark.root

APART = Path(__file__).parents[2] / "scripts" / "apart"


@pytest.fixture
def run_dir() -> Iterator[Path]:
    # Not pytest's tmp_path: that is closed to the users that the ends run as.
    with tempfile.TemporaryDirectory(prefix="xenvirt-test-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory) / "run"


def apart(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [APART, *command], capture_output=True, text=True, input="of stdin"
    )


def test_a_command_has_its_input_output_and_status() -> None:
    done = apart("sh", "-c", "cat; ip -br link; exit 7")
    assert done.returncode == 7
    assert done.stdout.startswith("of stdin")
    assert done.stdout.count("\n") == 1, "lo alone"
    assert "UP" in done.stdout
    assert done.stderr == ""


KILLED = 128 + signal.SIGKILL


@pytest.mark.parametrize(
    ("by", "signum", "status"),
    [
        ("itself", signal.SIGKILL, KILLED),
        ("its caller", signal.SIGKILL, -signal.SIGKILL),
        ("its caller", signal.SIGTERM, KILLED),
    ],
)
def test_a_daemon_ends_with_a_command_that_is_killed(
    run_dir: Path, by: str, signum: int, status: int
) -> None:
    script = "import os, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
    script += "os.kill(os.getpid(), 9)" if by == "itself" else "input()"
    up = [str(XENVIRT), "--run-dir", str(run_dir), "up", "apart"]
    with subprocess.Popen(
        [APART, sys.executable, "-c", script, *up],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert "apart: xennet0" in running.stdout.readline()
        if by == "its caller":
            running.send_signal(signum)
        assert running.wait(30) == status
    eventually(lambda: not processes_with(str(run_dir)), "its daemon is still there")
    assert not Path("/run/netns/apart").exists()


def test_what_is_left_running_is_told() -> None:
    done = apart("sh", "-c", "setsid sleep 3600 & ip netns add xvt-left")
    assert done.returncode == 1
    assert "sleep 3600" in done.stderr
    assert "xvt-left" in done.stderr
    assert not Path("/run/netns/xvt-left").exists()


def test_it_is_apart_from_a_containers_first_process_too() -> None:
    """That it is init by its number does not say that it is within."""
    where = "/proc/self/ns/net"
    container = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    done = subprocess.run(
        [*container, APART, "readlink", where], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() != str(Path(where).readlink())
