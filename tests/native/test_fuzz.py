"""Each harness of tests/fuzz for a fixed budget: nothing is found (docs/fuzzing.md).

Under ASan and UBSan, whichever way the other tests run. With gcc and our own mutator,
as everywhere; libFuzzer, where it is, only shows that it runs. Longer: scripts/fuzz.
"""

from pathlib import Path
from typing import Final

import pytest

from tests.fuzz.build import HARNESSES, NATIVE, Builder, Kind, has_libfuzzer
from tests.fuzz.campaign import known_inputs
from tests.fuzz.program import Failure, Program

RUNS: Final = {"xs_engine": 300, "offload": 100_000, "ring_page": 1500}
RUNS_OF_A_HOP: Final = 500

FAULTS: Final = {
    "back_rx": (
        "back_rx.c",
        "prod - rx->ring.req_cons < rx->mapped_prod - rx->ring.req_cons",
        "false",
        "timeout",
    ),
    "back_tx": (
        "tx_packet.c",
        "(uint32_t)first->offset + first->size > 4096",
        "false",
        "use-after-poison",
    ),
    "front_rx": (
        "queue.c",
        "count = append_rest(frame, header_len, iov, 1);",
        "iov[0].iov_len = sizeof(head.vnet); count = append_rest(frame, 0, iov, 1);",
        "a blank checksum",
    ),
}
"""By harness: a check of native/ that is left out, and how the harness tells."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return Builder(tmp_path_factory.mktemp("fuzz"), Kind.RUNNER).build(HARNESSES)


def fuzzed(
    path: Path, directory: Path, *options: str
) -> tuple[Program, Failure | None]:
    program = Program(path, directory)
    program.start(known_inputs(path.name, directory / "corpus"), "-seed=1", *options)
    return program, program.failure()


@pytest.mark.parametrize("harness", HARNESSES)
def test_nothing_is_found(built: dict[str, Path], tmp_path: Path, harness: str) -> None:
    runs = RUNS.get(harness, RUNS_OF_A_HOP)
    program, failure = fuzzed(built[harness], tmp_path, f"-runs={runs}")
    assert failure is None, failure.report[-6000:]
    counts = program.counts()
    print(counts)
    assert counts.inputs > runs
    assert counts.slots > runs
    assert counts.edges > 100


@pytest.mark.slow
@pytest.mark.parametrize("harness", FAULTS)
def test_a_missing_check_is_found(tmp_path: Path, harness: str) -> None:
    source, check, instead, told = FAULTS[harness]
    text = (NATIVE / source).read_text()
    assert text.count(check) == 1
    faulty = {source: text.replace(check, instead)}
    builder = Builder(tmp_path / "built", Kind.RUNNER, faulty)
    program = builder.build([harness])[harness]
    _, failure = fuzzed(program, tmp_path, "-runs=20000", "-timeout=2")
    assert failure is not None
    assert told in failure.report


@pytest.mark.skipif(not has_libfuzzer(), reason="libFuzzer comes with clang")
def test_libfuzzer_runs_them(tmp_path: Path) -> None:
    path = Builder(tmp_path / "built", Kind.LIBFUZZER).build(["offload"])["offload"]
    program, failure = fuzzed(path, tmp_path, "-runs=50000")
    assert failure is None, failure.report[-6000:]
    assert program.counts().inputs >= 50_000
