"""The journal of processes that are killed, replaced, in a race or out of space."""

import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.native.journal_shim import (
    HERE,
    Drop,
    Journal,
    Note,
    Perm,
    Put,
    Record,
    Touch,
    compile_parts,
)

KILLS: Final = 50
REPORT: Final = 8
FILLERS: Final = 100
ADDITIONS: Final = 300
MIB: Final = 1 << 20


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """journal_child.c, compiled."""
    program = tmp_path_factory.mktemp("child") / "journal_child"
    compile_parts(program, HERE / "journal_child.c")
    return program


def said(*command: Path | str) -> int:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout)


def commit(n: int) -> Iterator[Record]:
    """What journal_child.c says that it writes."""
    value = bytes([n % 256]) * (n % 40)
    yield Put(b"/n/%d" % n, n, (Perm(n % 8, n % 4),), value)
    yield Touch(b"/n", n)
    if n % 7 == 0:
        yield Drop(b"/n/%d" % (n - 3))


def killed(child: Path, path: Path, mode: str, after_us: int) -> int:
    """Let it be killed after some time; the last commit of which it had told, or 0."""
    command = [str(child), str(path), mode, str(after_us)]
    done = subprocess.run(command, stdout=subprocess.PIPE)
    assert done.returncode == -signal.SIGKILL
    whole = done.stdout[: len(done.stdout) // REPORT * REPORT]
    return int.from_bytes(whole[-REPORT:], "little")


def last_of_whole_commits(found: list[Record]) -> int:
    """N if these are commits and no half one, up to N."""
    base = 0
    if found and isinstance(found[0], Note):
        data = found[0].data
        base = int.from_bytes(data, "little")
        assert found[: FILLERS + 1] == [Note(1, data), *[Note(2, data)] * FILLERS]
        del found[: FILLERS + 1]
    rest = iter(found)
    last = base
    for record in rest:
        last += 1
        expected = commit(last)
        assert record == next(expected)
        for wanted in expected:
            assert next(rest, None) == wanted
    return last


@pytest.mark.parametrize(("mode", "within_us"), [("stream", 5000), ("rewrite", 500)])
def test_a_kill_leaves_whole_commits_and_all_that_were_told(
    tmp_path: Path, child: Path, mode: str, within_us: int
) -> None:
    rng = random.Random(mode)
    path = tmp_path / "journal"
    stale = total = 0
    for _ in range(KILLS):
        told = killed(child, path, mode, rng.randrange(1, within_us))
        stale += Path(f"{path}.xenvirt-new").exists()
        with Journal(path) as journal:
            last = last_of_whole_commits(journal.replay())
            assert last >= told
            total += told
            assert not Path(f"{path}.xenvirt-new").exists()
            # What is left can be gone on with.
            journal.commit(commit(last + 1))
            assert last_of_whole_commits(journal.replay()) == last + 1
        path.unlink()
    assert total > 0
    assert mode == "stream" or stale > 0, "no kill fell into a rewrite"


def test_a_kill_at_the_first_opening_leaves_nothing_in_the_way(
    tmp_path: Path, child: Path
) -> None:
    path = tmp_path / "journal"
    for after_us in range(1, 4 * KILLS, 4):
        killed(child, path, "stream", after_us)
        with Journal(path) as journal:
            last_of_whole_commits(journal.replay())
        path.unlink()


def test_a_process_that_becomes_another_finds_it_again(
    tmp_path: Path, child: Path
) -> None:
    assert said(child, tmp_path / "journal", "exec") == 100


def test_an_opening_that_meets_a_replacement_gets_the_new_journal(
    tmp_path: Path, child: Path
) -> None:
    command = [str(child), str(tmp_path / "journal"), "add"]
    adding = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    last = [int(process.communicate()[0]) for process in adding]
    assert max(last) == 2 * ADDITIONS


def test_a_full_file_system_is_used_up_and_read_again(
    tmp_path: Path, child: Path
) -> None:
    mounted = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
    script = 'mount -t tmpfs -o size=1m journal "$1" && shift && "$@"'
    tried = subprocess.run(
        [*mounted, script, "sh", tmp_path, "true"], capture_output=True
    )
    if tried.returncode != 0:
        pytest.skip("no user namespace, or no tmpfs in one")
    twice = 2 * '"$0" "$1" fill; "$0" "$1" count; ' + 'wc -c <"$1"'
    done = subprocess.run(
        [*mounted, script, "sh", tmp_path, "sh", "-ec", twice, child, tmp_path / "j"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    filled, counted, more, all_counted, size = map(int, done.stdout.split())
    assert filled == counted > 1000
    assert more < 10, "the second time only what is smaller than the last one"
    assert all_counted == filled + more
    assert size == MIB
