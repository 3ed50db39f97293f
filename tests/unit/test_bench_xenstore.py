"""What `scripts/bench xenstore` reads, what it counts, and what it judges."""

import os
from pathlib import Path

import pytest

from tests.perf.xenstore import debian, nodes
from tests.perf.xenstore.part import Bench, Part
from tests.perf.xenstore.placement import Placement, running_on
from tests.perf.xenstore.processes import (
    Programs,
    cpu_s,
    memory_bytes,
    parse_figures,
    run,
    running,
)
from tests.perf.xenstore.results import (
    REFERENCE,
    Figures,
    Measure,
    Results,
    as_json,
    judge,
    latency,
    ratio,
    table,
)
from tests.perf.xenstore.stores import DURABLE, PLAIN, STORES

OUTPUT = """\
read 1    : avg: 22304 ns (15904 ns .. 61521 ns)
write 2000: avg: 24909 ns (19389 ns .. 72037 ns)
dir       : avg: 39117 ns (16284 ns .. 4306218 ns)
ta empty x: avg: 82555 ns (35653 ns .. 5298733 ns)
"""
FAILURE = "rm dir    : failed (ret = 2, stage run)\n"
ONCE = "read 1    : 26520 ns\n"


def test_the_averages_of_test_xenstore_are_read() -> None:
    assert debian.parse(OUTPUT) == {
        "read 1": 22304,
        "write 2000": 24909,
        "dir": 39117,
        "ta empty x": 82555,
    }


@pytest.mark.parametrize("text", [OUTPUT + FAILURE, ONCE, ""])
def test_an_operation_that_failed_is_no_figure(text: str) -> None:
    with pytest.raises(ValueError, match="test-xenstore"):
        debian.parse(text)


def test_what_a_program_prints_is_read() -> None:
    text = "ls of 100, median: 9.775\nls of 100, p99: 14.001\n"
    figures = parse_figures(text)
    assert figures == {"ls of 100, median": 9.775, "ls of 100, p99": 14.001}
    assert latency("list", figures, "ls of 100") == {
        Measure("list, median", "us"): 9.775,
        Measure("list, p99", "us"): 14.001,
    }
    with pytest.raises(ValueError, match="float"):
        parse_figures("recv: Connection reset by peer\n")


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="No such file"):
        run(["cat", "/nowhere"])


WRITE = Measure("write", "us", ratio_limit=1.0)
FLOOD = Measure("beside / before", "", limit=2.0)
FREE = Measure("ls", "s")


def results(ours: list[float], theirs: list[float]) -> Results:
    return {WRITE: {PLAIN: ours, REFERENCE: theirs}}


def test_the_ratio_is_that_of_the_medians() -> None:
    by_store = {PLAIN: [1.0, 3.0, 100.0], REFERENCE: [4.0, 4.0, 1.0]}
    assert ratio(by_store, PLAIN) == 0.75
    assert ratio(by_store, DURABLE) is None
    assert ratio({PLAIN: [1.0], REFERENCE: [0.0]}, PLAIN) is None


def test_a_ratio_of_one_is_within_the_limit_and_a_little_more_is_not() -> None:
    assert not judge({"part": results([5.0], [5.0])}).broken
    verdict = judge({"part": results([5.01], [5.0])})
    assert verdict.broken == [f"part: write, {PLAIN}: 1.002 > 1"]
    assert "1 of 1 not within the limits" in str(verdict)


def test_one_slow_round_of_three_breaks_no_limit() -> None:
    assert not judge({"part": results([4.0, 4.0, 50.0], [5.0, 5.0, 5.0])}).broken


def test_a_ratio_without_a_reference_is_not_within_the_limit() -> None:
    verdict = judge({"part": {WRITE: {PLAIN: [1.0]}}})
    assert verdict.broken == [f"part: write, {PLAIN}: no {REFERENCE} to compare with"]


def test_both_of_ours_are_judged_and_the_reference_is_not() -> None:
    values = {PLAIN: [1.9], DURABLE: [2.1], REFERENCE: [9.0]}
    verdict = judge({"part": {FLOOD: values, FREE: {PLAIN: [7.0]}}})
    assert verdict.judged == 2
    assert verdict.broken == [f"part: beside / before, {DURABLE}: 2.100 > 2"]


def test_what_has_no_limit_is_said_to_have_none() -> None:
    verdict = judge({"part": {FREE: {PLAIN: [7.0], REFERENCE: [1.0]}}})
    assert not verdict.broken
    assert str(verdict) == "nothing here has a limit"


def test_the_table_has_medians_spreads_and_ratios() -> None:
    sections = {
        "times": {WRITE: {PLAIN: [10.0, 30.0, 20.0], REFERENCE: [40.0, 40.0, 1500.0]}},
        "memory": {FREE: {DURABLE: [0.25]}},
    }
    lines = [line.split("  ") for line in table(sections, [*STORES]).splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells == [
        [*STORES, f"{PLAIN}/{REFERENCE}", f"{DURABLE}/{REFERENCE}"],
        ["times"],
        ["write, us", "20 (10..30)", "-", "40 (40..1,500)", "0.50", "-"],
        ["memory"],
        ["ls, s", "-", "0.25 (0.25..0.25)", "-", "-", "-"],
    ]


def test_json_has_every_value() -> None:
    (row,) = as_json(results([1.0, 2.0], [3.0]))
    assert row["name"] == "write"
    assert row["ratio_limit"] == 1.0
    assert row["values"] == {PLAIN: [1.0, 2.0], REFERENCE: [3.0]}


def test_the_stores_take_turns_within_each_round(tmp_path: Path) -> None:
    turns: list[str] = []

    def measure(bench: Bench, name: str) -> Figures:
        turns.append(name)
        return {FREE: len(turns)}

    part = Part("a part", measure, Placement.FREE, rounds=2)
    found = part.run(Programs(tmp_path), [PLAIN, REFERENCE])
    assert turns == [PLAIN, REFERENCE, PLAIN, REFERENCE]
    assert found == {FREE: {PLAIN: [1, 3], REFERENCE: [2, 4]}}
    part.run(Programs(tmp_path), [PLAIN], 1)
    assert turns[4:] == [PLAIN]


def test_a_placement_names_the_cpus_of_the_store_and_of_its_clients() -> None:
    assert Placement.FREE.cpus({2, 5, 7}) == ({2, 5, 7}, {2, 5, 7})
    assert Placement.ONE_CPU.cpus({2, 5, 7}) == ({2}, {2})
    assert Placement.TWO_CPUS.cpus({2, 5, 7}) == ({2}, {5, 7})


def test_what_is_started_elsewhere_runs_there_and_this_process_comes_back() -> None:
    before = os.sched_getaffinity(0)
    with running_on({max(before)}):
        shown = run(["taskset", "-pc", str(os.getpid())])
    assert shown.rstrip().endswith(f": {max(before)}")
    assert os.sched_getaffinity(0) == before


def test_a_hundred_thousand_leaves_and_the_directories_they_are_in() -> None:
    leaves = list(nodes.paths())
    assert len(set(leaves)) == nodes.LEAVES
    assert nodes.count() == 100_000 + 1_000 + 10 + 1


def test_memory_and_time_of_a_process_are_seen() -> None:
    spin = "x = bytearray(50 << 20)\nprint('ready', flush=True)\nwhile True: pass"
    with running(["python3", "-c", spin]) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert memory_bytes(process.pid, "Anonymous") > 50 << 20
        used = cpu_s(process.pid)
        while cpu_s(process.pid) == used:
            pass
    assert process.returncode is not None
