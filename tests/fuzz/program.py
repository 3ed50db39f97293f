"""A harness's program, run: on inputs, for a while, and what it says of it."""

import os
import re
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

LEN_MAX: Final = 4096
TIMEOUT_S: Final = 20
"""For one input; a hop takes far less, on the slowest machine."""

SETTINGS: Final = {
    "ASAN_OPTIONS": "abort_on_error=1",
    "UBSAN_OPTIONS": "abort_on_error=1:print_stacktrace=1",
    # xs_engine looks for leaks itself: what malloc's cache keeps looks used.
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",
}

COVERAGE: Final = re.compile(r"\bcov: (\d+)")
ARTIFACT: Final = re.compile(r"Test unit written to (.+)")


class Counts(NamedTuple):
    """harness.h's struct fuzz_counts."""

    inputs: int = 0
    slots: int = 0
    edges: int = 0


class Failure(NamedTuple):
    """What ended a program: the input, and what was said of it."""

    data: bytes
    report: str


@dataclass
class Program:
    """One harness, built; `directory` is for what it leaves."""

    path: Path
    directory: Path

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._counts = self.directory / "counts"
        self._counts.write_bytes(bytes(24))
        self._log = self.directory / "log"
        self._log.touch()
        self._coverage = 0
        self._process: subprocess.Popen[bytes] | None = None

    def counts(self) -> Counts:
        """All that it has done since it was built, also while it runs."""
        counts = Counts(*struct.unpack("<3Q", self._counts.read_bytes()))
        said = COVERAGE.findall(self._log.read_text(errors="replace"))
        self._coverage = int(said[-1]) if said else self._coverage
        return counts._replace(edges=max(counts.edges, self._coverage))

    def start(self, corpus: Path, *options: str) -> None:
        """Fuzz from a directory, which gets what reaches new code."""
        limits = (f"-max_len={LEN_MAX}", f"-timeout={TIMEOUT_S}")
        prefix = f"-artifact_prefix={self.directory}/"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [self.path, prefix, *limits, *options, corpus],
                env=self._environment(),
                stdout=log,
                stderr=log,
            )

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def failure(self) -> Failure | None:
        """What ended it, once it does not run; None if it came to its end."""
        if self._process is None or self._process.wait() == 0:
            return None
        report = self._log.read_text(errors="replace")
        written = ARTIFACT.search(report)
        data = Path(written[1]).read_bytes() if written else b""
        return Failure(data, report)

    def replay(
        self, *files: Path, options: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Try each file once."""
        prefix = f"-artifact_prefix={self.directory}/"
        return subprocess.run(
            [self.path, prefix, f"-timeout={TIMEOUT_S}", *options, *files],
            env=self._environment(),
            capture_output=True,
            text=True,
            errors="replace",
        )

    def fails(self, data: bytes) -> bool:
        """Does this input end it?"""
        path = self.directory / "tried"
        path.write_bytes(data)
        return self.replay(path).returncode != 0

    def _environment(self) -> dict[str, str]:
        return os.environ | SETTINGS | {"XENVIRT_FUZZ_COUNTS": str(self._counts)}
