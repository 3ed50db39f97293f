"""scripts/beside.sh: what runs beside a script's steps ends with it, in its own way."""

import os
import subprocess
import time
from pathlib import Path

import pytest

BESIDE = Path(__file__).parents[2] / "scripts" / "beside.sh"


def script(body: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run `body` as the scripts run; its temporary files go to `tmp_path`."""
    return subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n. {BESIDE}\n{body}"],
        capture_output=True,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        timeout=30,
    )


def test_a_script_that_joined_all_ends_with_its_own_status(tmp_path: Path) -> None:
    done = script("beside one echo 1; joined one; echo done", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\ndone\n", "")
    assert not list(tmp_path.iterdir())


def test_a_script_that_began_nothing_ends_with_its_own_status(tmp_path: Path) -> None:
    assert script("true", tmp_path).returncode == 0
    assert script("exit 3", tmp_path).returncode == 3


def test_the_status_of_a_command_is_had_by_joining_it(tmp_path: Path) -> None:
    done = script(
        "beside one sh -c 'echo said; exit 7'; joined one || echo $?", tmp_path
    )
    assert (done.returncode, done.stdout) == (0, "said\n7\n")


def test_one_that_has_ended_without_being_joined_does_no_harm(tmp_path: Path) -> None:
    done = script('beside one true; wait "${beside_pid[one]}"', tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_nice_counts_for_it(tmp_path: Path) -> None:
    """It does among the processes of one session (sched(7), autogroups)."""
    session = 'cut -d " " -f 6 /proc/$$/stat'
    done = script(f"beside one sh -c '{session}'; joined one; {session}", tmp_path)
    theirs, ours = done.stdout.splitlines()
    assert theirs == ours


@pytest.mark.parametrize("end", ["exit 3", "kill $$"])
def test_what_a_command_started_ends_with_the_script(tmp_path: Path, end: str) -> None:
    started = tmp_path / "started"
    body = (
        f"beside one sh -c 'sleep 60 & echo $! >{started}.new; mv {started}.new "
        f"{started}; wait'\nuntil [ -e {started} ]; do sleep 0.01; done; {end}"
    )
    done = script(body, tmp_path)
    assert done.returncode == (3 if end == "exit 3" else -15)
    process = Path("/proc", started.read_text().strip(), "stat")
    deadline = time.monotonic() + 5
    while is_alive(process):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(stat: Path) -> bool:
    """Whether a process is there and no zombie, as one nobody waits for becomes."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
