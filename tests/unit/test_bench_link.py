"""What `scripts/bench link` searches for, reads, counts, shows, and judges."""

import json
from pathlib import Path

import pytest

from tests.perf import document, table, targets
from tests.perf.cpu import process_s, unused_s
from tests.perf.figures import DELIVERED, ROUND_TRIP, TCP, Figure, Run
from tests.perf.lossfree import LEAST, RESOLUTION, loss_free
from tests.perf.measures import p99, works
from tests.perf.traffic import Tcp, Udp, parse_ping

DOCS = Path(__file__).parents[2] / "docs"
ONE_FLOW = Figure(TCP, "1 flow to the domain, MTU 1,500, IPv4")
MANY_FLOWS = Figure(TCP, "16 flows to the domain, MTU 1,500, IPv4")
SMALL = Figure(DELIVERED, "64-byte frames from the domain")
IDLE = Figure(ROUND_TRIP, "idle, median")


def a_run(values: dict[Figure, dict[str, list[float]]]) -> Run:
    peers = list(dict.fromkeys(peer for each in values.values() for peer in each))
    return Run("a machine", 3, 1.0, peers, values)


class ALink:
    """Loses what is above its limit; `stalls` trials lose something at any rate."""

    def __init__(self, limit: float, stalls: int = 0) -> None:
        self.limit = limit
        self.stalls = stalls
        self.offered: list[float] = []

    def __call__(self, rate: float) -> float | None:
        self.offered.append(rate)
        if self.stalls:
            self.stalls -= 1
            return None
        return rate if rate <= self.limit else None


@pytest.mark.parametrize("limit", [1_500, 33_333, 499_999])
def test_the_search_ends_just_below_the_limit(limit: float) -> None:
    link = ALink(limit)
    found = loss_free(link, 1e6)
    assert limit / RESOLUTION <= found <= limit
    assert len(link.offered) < 40


def test_a_link_that_loses_nothing_is_tried_once() -> None:
    link = ALink(1e9)
    assert loss_free(link, 250_000) == 250_000
    assert link.offered == [250_000]


def test_one_stall_is_not_the_links() -> None:
    assert loss_free(ALink(1e9, stalls=1), 250_000) == 250_000
    assert loss_free(ALink(1e9, stalls=2), 250_000) < 250_000


def test_a_link_that_always_loses_has_no_rate() -> None:
    link = ALink(0)
    assert loss_free(link, 1e6) == 0
    assert min(link.offered) >= LEAST


def test_what_udp_prints_is_read() -> None:
    done = Udp.parse("1000 900 0.5 0.6\n")
    assert done.offered_s == 2000
    assert done.delivered_s == 1500
    assert Udp.parse("1000 0 0.5 0.0").delivered_s == 0


def test_both_directions_of_iperf3_are_added() -> None:
    there = {"bytes": 1000, "bits_per_second": 8000}
    back = {"bytes": 500, "bits_per_second": 4000}
    assert Tcp.parse({"sum_received": there, "sum_sent": back}) == Tcp(1000, 1000)
    both = {"sum_received": there, "sum_received_bidir_reverse": back}
    assert Tcp.parse(both) == Tcp(1500, 1500)


def test_what_ping_prints_is_read() -> None:
    text = "PING\n64 bytes from 10.0.0.2: icmp_seq=1 ttl=64 time=0.031 ms\nrtt\n"
    assert parse_ping(text) == [31]


def test_one_in_a_hundred_may_exceed_p99() -> None:
    assert p99([float(value) for value in range(1, 101)]) == 99
    assert p99([1.0, 2.0]) == 2
    assert p99([5.0]) == 5


def test_what_is_idle_waits_for_a_disk_or_is_stolen_is_not_busy() -> None:
    assert unused_s("cpu  1 2 4 100 10 16 32 7 0 0\ncpu0 0\n") == pytest.approx(1.17)


def test_the_name_of_a_process_may_hold_anything() -> None:
    fields = ["S", *["0"] * 10, "150", "50", *["0"] * 30]
    assert process_s(f"12 (a ) b) {' '.join(fields)}") == pytest.approx(2.0)


def test_no_two_rows_have_one_name_and_a_default_run_has_some() -> None:
    names = [work.name for work in works()]
    assert len(set(names)) == len(names)
    assert len([name for name in names if name.startswith("TCP")]) == 36
    by_default = [w.name for w in works() if w.default and w.name.startswith("TCP")]
    assert len(by_default) == 19


def test_a_run_survives_its_file(tmp_path: Path) -> None:
    run = a_run({ONE_FLOW: {"xenvirt": [1.0, 2.0], "veth": [3.0]}})
    run.left_out["vde"] = "there is no vde_switch"
    run.save(tmp_path / "run.json")
    assert Run.load(tmp_path / "run.json") == run


def test_another_file_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(json.dumps({"schema": "xenvirt/1"}))
    with pytest.raises(ValueError, match="no file of scripts/bench link"):
        Run.load(tmp_path / "other.json")


def test_the_table_has_medians_spread_and_ratios() -> None:
    values = {"xenvirt": [1.0, 3.0, 2.0], "relay": [4.0], "veth": [8.0]}
    lines = table.text(a_run({ONE_FLOW: values})).splitlines()
    assert lines[1].strip() == TCP
    assert lines[2].split()[-2:] == ["0.50", "0.25"]
    assert "2 (1..3)" in lines[2]
    assert lines[0].split()[-2:] == ["xenvirt/relay", "xenvirt/veth"]


def test_a_peer_that_could_not_has_an_empty_cell() -> None:
    run = a_run({ONE_FLOW: {"xenvirt": [1.0], "relay": [1.0]}})
    run.values[MANY_FLOWS] = {"xenvirt": [1.0]}
    last = table.markdown(run).splitlines()[-1]
    assert last == f"| {MANY_FLOWS.name} | 1 (1..1) | - | - |"


@pytest.mark.parametrize(
    ("figure", "ours", "reached"),
    [
        (ONE_FLOW, 1.0, True),
        (ONE_FLOW, 0.99, False),
        (SMALL, 1.5, True),
        (SMALL, 1.49, False),
        (IDLE, 1.3, True),
        (IDLE, 1.31, False),
        (Figure(ROUND_TRIP, "under TCP to the domain, p99"), 1.01, False),
    ],
)
def test_targets_against_the_relay(figure: Figure, ours: float, reached: bool) -> None:
    (verdict,) = targets.judge(a_run({figure: {"xenvirt": [ours], "relay": [1.0]}}))
    assert verdict.reached is reached


def test_a_row_that_ours_could_not_do_is_not_reached() -> None:
    run = a_run({ONE_FLOW: {"relay": [1.0]}, SMALL: {"xenvirt": [9.0]}})
    (verdict,) = targets.judge(run)
    assert (verdict.reached, verdict.ratio) == (False, None)
    assert "no figure, to reach >= 1 of relay" in targets.report(run)


def test_several_flows_have_no_target_but_to_be_ahead() -> None:
    run = a_run({MANY_FLOWS: {"xenvirt": [1.0], "relay": [2.0], "vde": [0.5]}})
    (verdict,) = targets.judge(run)
    assert (verdict.peer, verdict.reached) == ("vde", True)


def test_the_report_lists_what_is_not_reached_and_what_was_not_judged() -> None:
    values = {"xenvirt": [0.8], "relay": [1.0], "veth": [1.0]}
    report = targets.report(a_run({ONE_FLOW: values}))
    assert "1 of 2 targets reached" in report
    assert f"TCP, {ONE_FLOW.name}: 0.80, to reach >= 1 of relay" in report
    assert "Nothing was judged against qemu" in report
    assert "Nothing was judged against veth" not in report


def test_the_documents_table_is_that_of_the_saved_run() -> None:
    saved = DOCS / "performance-link.json"
    shown = (DOCS / "performance.md").read_text()
    if saved.exists():
        inner = document.section(Run.load(saved), "performance-link.svg")
        assert document.replace(shown, inner) == shown
    else:
        _, _, rest = shown.partition(document.BEGIN.format("link"))
        assert not rest.partition(document.END.format("link"))[0].strip()


def test_a_document_gets_the_table_between_its_marks() -> None:
    begin, end = document.BEGIN.format("link"), document.END.format("link")
    before = f"a\n{begin}\nold\n{end}\nb\n"
    after = document.replace(before, "new")
    assert after == f"a\n{begin}\n\nnew\n\n{end}\nb\n"
    assert document.replace(after, "new") == after
    with pytest.raises(ValueError, match="no lines"):
        document.replace("a", "new")
