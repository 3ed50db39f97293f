"""`scripts/bench ring`: its C program for a moment, and what it prints."""

import os
from pathlib import Path

import pytest

from tests.perf import memif
from tests.perf.native_program import compile_native, output
from tests.perf.ring import PROGRAM, table


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_native(tmp_path_factory.mktemp("ring"), *PROGRAM)


@pytest.mark.parametrize("mode", ["kept", "granted"])
@pytest.mark.parametrize("size", [18, 1500, 2048])
def test_all_frames_arrive(program: Path, mode: str, size: int) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    frames, seconds, *_ = output(program, mode, size, 0.02, cpus[0], cpus[-1]).split()
    assert int(frames) > 0
    assert float(seconds) > 0


@pytest.mark.parametrize("size", [17, 2049])
def test_a_size_that_no_frame_has(program: Path, size: int) -> None:
    with pytest.raises(RuntimeError, match="18 to 2048 bytes"):
        output(program, "kept", size, 1, 0, 0)


def test_medians_and_ratios() -> None:
    shown = table(
        {
            "64": {"kept": [9.0, 30.0, 40.0], "granted": [10.0], "memif": [15.0]},
            "1500": {"kept": [5.0], "granted": [4.0], "memif": [5.0]},
        }
    )
    assert shown.splitlines()[1].split() == [
        *("64-byte", "30", "(9..40)", "10", "(10..10)", "15", "(15..15)"),
        *("2.00", "0.67"),
    ]


def test_no_ratio_without_memif() -> None:
    figures = {"kept": [5.0], "granted": [4.0]}
    assert "/" not in table({"64": figures, "1500": figures}).partition("\n")[2]
    assert "memif" not in table({"64": figures, "1500": figures})


def test_a_missing_testpmd_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "package dpdk" in (memif.missing() or "")
