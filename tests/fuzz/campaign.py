"""Fuzzing one harness after the other, until each has done what was asked for."""

import hashlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fuzz.build import HERE, ROOT
from tests.fuzz.minimise import minimised
from tests.fuzz.program import Counts, Failure, Program
from tests.fuzz.seeds import SEEDS

CORPUS: Final = HERE / "corpus"

SLICE_S: Final = 60
"""How long a process runs: libFuzzer's grow, and a new one reads the corpus again."""

PROGRESS_S: Final = 10


@dataclass
class Result:
    """What became of a harness."""

    harness: str
    seconds: float
    counts: Counts
    found: Path | None = None

    def as_json(self) -> dict[str, object]:
        return {
            "harness": self.harness,
            "seconds": round(self.seconds, 1),
            **self.counts._asdict(),
            "found": None if self.found is None else str(self.found),
        }


def known_inputs(harness: str, directory: Path) -> Path:
    """A directory with the seeds and the corpus of a harness."""
    directory.mkdir(parents=True)
    for name, data in SEEDS[harness]().items():
        (directory / f"seed-{name}").write_bytes(data)
    for path in corpus_of(harness):
        shutil.copy(path, directory)
    return directory


def corpus_of(harness: str) -> list[Path]:
    """The files that are kept for a harness."""
    return sorted((CORPUS / harness).glob("*"))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Campaign:
    """Runs programs; work is a directory for all that comes of it."""

    def __init__(self, work: Path, enough: Callable[[Counts, float], bool]) -> None:
        self.work = work
        self.enough = enough

    def fuzz(self, harness: str, program: Program, *options: str) -> Result:
        """Until it is enough, or something is found."""
        corpus = known_inputs(harness, self.work / f"corpus-{harness}")
        begin = time.monotonic()
        seed = 1
        while True:
            program.start(
                corpus, f"-max_total_time={SLICE_S}", f"-seed={seed}", *options
            )
            self._watch(harness, program, begin)
            seconds = time.monotonic() - begin
            if not program.running():
                failure = program.failure()
                if failure is not None:
                    found = self._keep(harness, program, failure)
                    return Result(harness, seconds, program.counts(), found)
            if self.enough(program.counts(), seconds):
                program.stop()
                return Result(harness, seconds, program.counts())
            seed += 1

    def _watch(self, harness: str, program: Program, begin: float) -> None:
        """Say how it goes on, until it ends or it is enough."""
        told = time.monotonic()
        while program.running():
            time.sleep(0.2)
            now = time.monotonic()
            counts = program.counts()
            if self.enough(counts, now - begin):
                return
            if now - told >= PROGRESS_S:
                told = now
                say(f"{harness}: {now - begin:.0f} s, {described(counts)}")

    def _keep(self, harness: str, program: Program, failure: Failure) -> Path:
        """Put what was found, shortened, where the tests find it."""
        say(failure.report[-6000:])
        data = failure.data
        if program.fails(data):
            say(f"{harness}: making {len(data)} bytes fewer")
            data = minimised(data, program.fails)
        name = f"found-{hashlib.sha256(data).hexdigest()[:12]}"
        path = CORPUS / harness / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        shown = path.relative_to(ROOT)
        say(f"{harness}: {len(data)} bytes in {shown}")
        say(f"Again: scripts/fuzz --replay {shown} {harness}")
        say("Tests fail until it is mended; keep the file then, it is a test.")
        return path


def described(counts: Counts) -> str:
    return (
        f"{counts.inputs:,} inputs, {counts.slots:,} slots, coverage {counts.edges:,}"
    )


def keep_what_reaches_more(harness: str, program: Program, work: Path) -> int:
    """Add to a harness's corpus what reaches more code than it. Return: how many.

    `program` is built with runner.c; `work` has inputs, the shortest of which do.
    """
    kept = CORPUS / harness
    kept.mkdir(parents=True, exist_ok=True)
    before = len(corpus_of(harness))
    with tempfile.TemporaryDirectory() as directory:
        seeds = known_inputs(harness, Path(directory) / "known")
        by_size = Path(directory) / "by-size"
        by_size.mkdir()
        inputs = sorted(work.iterdir(), key=lambda path: path.stat().st_size)
        for number, path in enumerate(inputs):
            shutil.copy(path, by_size / f"{number:06}")
        known = {path.name for path in seeds.iterdir()}
        program.replay(seeds, by_size, options=("-merge=1",))
        for path in seeds.iterdir():
            if path.name not in known:
                shutil.copy(path, kept)
    return len(corpus_of(harness)) - before
