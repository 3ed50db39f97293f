"""The seeds and the corpus through each harness, under valgrind's memcheck.

What this shows beyond ASan is whether memory that was never written is looked at, or
goes out to a TAP; and it needs no Python, whose own memory would hide what is ours.
"""

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from tests.fuzz.build import HARNESSES, Builder, Kind
from tests.fuzz.campaign import known_inputs, say

FILES_MAX: Final = {"xs_engine": 20}
"""Where an input takes valgrind long; the others are tried with all of them."""

VALGRIND: Final = ("valgrind", "-q", "--error-exitcode=9", "--leak-check=full")


def checked(programs: dict[str, Path], directory: Path, harness: str) -> bool:
    """Is memcheck content with this one?"""
    known = known_inputs(harness, directory / f"inputs-{harness}")
    files = sorted(known.iterdir())[: FILES_MAX.get(harness)]
    command = [*VALGRIND, str(programs[harness]), "-timeout=0", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True)
    say(f"{harness}: {len(files)} files, {done.stdout.strip()}")
    if done.returncode:
        say(done.stderr)
    return done.returncode == 0


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="xenvirt-memcheck-") as path:
        directory = Path(path)
        programs = Builder(directory, Kind.VALGRIND).build(HARNESSES)
        with ThreadPoolExecutor(2) as pool:
            clean = [*pool.map(partial(checked, programs, directory), HARNESSES)]
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
