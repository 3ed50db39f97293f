"""The processes of a benchmark: the C programs here, what they print, what they use."""

import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

HERE: Final = Path(__file__).parent
NATIVE: Final = HERE.parents[2] / "native"
PROGRAMS: Final = ("roundtrips", "rings", "watchers", "conflicts", "flood")
TIMEOUT_S: Final = 120


class Programs:
    """The C programs of this directory, built into another one."""

    def __init__(self, directory: Path) -> None:
        """Raises CalledProcessError when the compiler finds an error."""
        self._directory = directory
        for name in PROGRAMS:
            source, program = HERE / f"{name}.c", directory / name
            flags = ("-std=gnu11", "-O2", f"-I{NATIVE}")
            subprocess.run(["cc", *flags, "-o", program, source], check=True)

    def command(self, name: str, *arguments: object) -> list[str]:
        """How to start one."""
        return [str(self._directory / name), *map(str, arguments)]

    def figures(
        self, name: str, *arguments: object, pass_fds: Sequence[int] = ()
    ) -> dict[str, float]:
        """Run one and take what it measured."""
        return parse_figures(run(self.command(name, *arguments), pass_fds=pass_fds))


def run(
    command: Sequence[str | Path],
    *,
    env: dict[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> str:
    """Run a command and return what it printed; an error shows what it said."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=env,
        pass_fds=pass_fds,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: {done.stdout}{done.stderr}")
    return done.stdout


def parse_figures(text: str) -> dict[str, float]:
    """`NAME: NUMBER` of each line; ValueError for any other line."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(": ")
        found[name] = float(value)
    return found


@contextmanager
def running(
    command: Sequence[str | Path],
    *,
    log: IO[str] | None = None,
    pass_fds: Sequence[int] = (),
) -> Iterator[subprocess.Popen[str]]:
    """A process that is killed at the end; its output is a pipe."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        pass_fds=pass_fds,
        process_group=0,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def memory_bytes(pid: int, what: str) -> int:
    """A line of smaps_rollup: `Rss`, or `Anonymous`, which no file and no other has."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(rf"^{what}: +(\d+) kB", text, re.MULTILINE)
    assert found is not None, text
    return 1024 * int(found[1])


def cpu_s(pid: int) -> float:
    """The time that all threads of a process have run for."""
    total_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total_ns += int((task / "schedstat").read_text().split()[0])
    return total_ns / 1e9
