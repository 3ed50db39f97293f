"""What `scripts/bench many` counts, shows, and judges."""

import os
from pathlib import Path

import pytest

from tests.perf import document
from tests.perf.figures import FAIR, IDLE, Figure, Run
from tests.perf.many.__main__ import around
from tests.perf.many.busy import jain
from tests.perf.many.limits import (
    ALL_IDLE,
    ALONE,
    BOTH_ENDS,
    JAIN,
    Verdict,
    busy,
    judge,
    nth,
    section,
)
from tests.perf.many.processes import cpu_ns, family, private_kib, shared_of

DOCS = Path(__file__).parents[2] / "docs"


def a_run(values: dict[Figure, dict[str, list[float]]]) -> Run:
    peers = ["xenvirt", "veth"]
    return Run("a machine", 1, 1.0, peers, values, benchmark="many")


def only(values: dict[Figure, dict[str, list[float]]]) -> Verdict:
    (verdict,) = judge(a_run(values))
    return verdict


def test_private_memory_is_clean_and_dirty() -> None:
    text = "Private_Clean:  4 kB\nPrivate_Dirty: 12 kB\nPrivate_Hugetlb: 1 kB\n"
    assert private_kib(f"Rss: 100 kB\n{text}Pss: 3 kB\n") == 16


def test_a_page_that_two_hold_is_counted_once() -> None:
    fd = os.memfd_create("test")
    try:
        before = shared_of([os.getpid()])
        os.pwrite(fd, b"x" * 8192, 0)
        assert shared_of([os.getpid(), os.getpid()]) == before + 8
    finally:
        os.close(fd)


def test_a_process_uses_time_and_belongs_to_a_family() -> None:
    before = cpu_ns([os.getpid()])
    sum(range(1_000_000))
    assert cpu_ns([os.getpid()]) > before
    assert {os.getpid(), os.getppid()} <= set(family(os.getpid()))


def test_the_median_of_an_attach_is_of_those_around_it() -> None:
    took = [float(number) for number in range(1, 101)]
    assert around(took, 1) == [1]
    assert around(took, 10) == [float(number) for number in range(2, 19)]
    assert around(took, 100)[0] == 92
    assert around(took, 100)[-1] == 100


def test_an_attach_that_grows_too_much_is_not_reached() -> None:
    values = {
        nth(1): {"xenvirt": [90.0]},
        nth(10): {"xenvirt": [10.0]},
        nth(1000): {"xenvirt": [15.0]},
    }
    assert only(values).reached
    values[nth(1000)] = {"xenvirt": [15.1]}
    assert not only(values).reached


@pytest.mark.parametrize(
    ("figure", "value", "reached"),
    [
        (BOTH_ENDS, 100.0, True),
        (BOTH_ENDS, 100.1, False),
        (ALL_IDLE, 1.0, True),
        (ALL_IDLE, 1.1, False),
        (Figure(FAIR, f"4 busy, {JAIN}"), 0.95, True),
        (Figure(FAIR, f"4 busy, {JAIN}"), 0.94, False),
    ],
)
def test_limits_of_one_figure(figure: Figure, value: float, reached: bool) -> None:
    assert only({figure: {"xenvirt": [value]}}).reached is reached


@pytest.mark.parametrize(("ours", "reached"), [(9.5, True), (9.4, False)])
def test_a_busy_one_gets_as_much_as_one_that_is_alone(
    ours: float, reached: bool
) -> None:
    values = {
        busy("before", "to"): {"xenvirt": [1.0], ALONE: [10.0]},
        busy("before", "from"): {"xenvirt": [1.0], ALONE: [10.0]},
        busy("beside 9 idle", "to"): {"xenvirt": [ours], ALONE: [10.0]},
        busy("beside 9 idle", "from"): {"xenvirt": [10.0], ALONE: [10.0]},
    }
    to, other = judge(a_run(values))
    assert to.reached is reached
    assert other.reached


def test_one_that_has_all_is_not_fair() -> None:
    assert jain([5, 5, 5, 5]) == 1
    assert jain([20, 0, 0, 0]) == 0.25
    assert jain([0, 0]) == 0


def test_a_run_survives_its_file_and_is_no_other_benchmarks(tmp_path: Path) -> None:
    run = a_run({Figure(IDLE, "all of them"): {"xenvirt": [0.1]}})
    run.save(tmp_path / "run.json")
    assert Run.load(tmp_path / "run.json", "many") == run
    with pytest.raises(ValueError, match="no file of scripts/bench link"):
        Run.load(tmp_path / "run.json")


def test_the_documents_table_is_that_of_the_saved_run() -> None:
    saved = DOCS / "performance-many.json"
    shown = (DOCS / "performance.md").read_text()
    inner = section(Run.load(saved, "many")) if saved.exists() else ""
    assert document.replace(shown, inner, "many").split() == shown.split()
