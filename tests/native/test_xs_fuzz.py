"""A million mutated requests through the engine: one reply each, and nothing left.

What a fuzzer sends it byte by byte is in tests/fuzz.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.xs_corpus import corpus
from tests.xs_engine import compiler_flags, sources

HERE = Path(__file__).resolve().parent
MESSAGES = 1_000_000
WITHOUT_MEMORY = 200_000
WORLD = ("xs_world.c", "xs_peer.c", "xs_no_memory.c")
WRAPPED = "-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc"


def build(program: Path) -> None:
    own = [HERE / name for name in ("mutate_xs_engine.c", *WORLD)]
    flags = (*compiler_flags(), f"-I{HERE}", WRAPPED)
    subprocess.run(["gcc", *flags, "-o", program, *own, *sources()], check=True)


def run(*command: str | Path, timeout_s: float = 240) -> str:
    """A program's output. It looks for leaks itself, as its memory is all its own."""
    env = dict(os.environ) | {
        "ASAN_OPTIONS": "abort_on_error=1",
        "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",  # or what it keeps looks used
    }
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=timeout_s
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def corpus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "messages"
    path.write_bytes(b"".join(corpus()))
    return path


@pytest.fixture(scope="module")
def mutate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("fuzz") / "mutate"
    build(program)
    return program


def test_a_million_mutated_messages_get_an_answer_each(
    mutate: Path, corpus_file: Path
) -> None:
    done = json.loads(run(mutate, corpus_file, "1", str(MESSAGES), "0"))
    assert done["messages"] > 0.98 * MESSAGES
    assert done["replies"] > 0.98 * done["messages"]
    assert 0.2 < done["errors"] / done["replies"] < 0.9
    assert done["events"] > 100_000
    assert done["upcalls"] > 10_000
    assert done["ends"] > 1_000
    assert done["left"] == 0


@pytest.mark.parametrize("one_in", [2, 20, 500])
def test_allocations_may_fail_at_any_point(
    mutate: Path, corpus_file: Path, one_in: int
) -> None:
    count, seed = str(WITHOUT_MEMORY), str(one_in)
    done = json.loads(run(mutate, corpus_file, seed, count, str(one_in)))
    assert done["failed"] > 500
    assert done["replies"] > 0.2 * WITHOUT_MEMORY
    assert done["left"] == 0
