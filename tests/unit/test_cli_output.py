import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from xenvirt.abi.ids import DomId
from xenvirt.cli.logtail import LogTail, is_about
from xenvirt.cli.output import fields, print_error, print_json, table
from xenvirt.errors import StateTimeoutError

Captured = pytest.CaptureFixture[str]


@dataclass(frozen=True, slots=True)
class Inner:
    number: int


@dataclass(frozen=True, slots=True)
class Outer:
    inner: list[Inner]
    nothing: str | None = None


def test_json_names_its_schema_first(capsys: Captured) -> None:
    print_json(vif=Outer([Inner(1)]))
    text = capsys.readouterr().out
    assert list(json.loads(text)) == ["schema", "vif"]
    assert json.loads(text)["vif"] == {"inner": [{"number": 1}], "nothing": None}


def test_tables_put_numbers_to_the_right() -> None:
    rows = [("tx_packets", 5, 1000), ("x", 12, 7)]
    assert table(("counter", "front", "back"), rows) == (
        "counter     front  back\ntx_packets      5  1000\nx              12     7"
    )


def test_a_table_may_be_empty() -> None:
    assert table(("a", "b"), []) == "a  b"


def test_fields_leave_out_what_is_not_known() -> None:
    assert fields([("mtu", 1500), ("bridge", None), ("x", "y")], indent=2) == (
        "  mtu  1500\n  x    y"
    )


FORGED = "5 \x1b[2Jgone\nbackend  fine\udcff"


def test_what_a_guest_has_written_stays_in_its_place(capsys: Captured) -> None:
    shown = r"5 \x1b[2Jgone\nbackend  fine\udcff"
    assert fields([("error", FORGED)]) == f"error  {shown}"
    assert table(("error",), [(FORGED,)]) == f"error\n{shown}"
    print_error(StateTimeoutError(FORGED, cause=FORGED, hint=FORGED), as_json=False)
    assert capsys.readouterr().err == (
        f"xenvirt: {shown}\n  cause  {shown}\n  do     {shown}\n"
    )


def test_an_error_is_told_in_three_parts(capsys: Captured) -> None:
    error = StateTimeoutError("no link", cause="one; two", hint="wait")
    print_error(error, as_json=False)
    assert capsys.readouterr().err == (
        "xenvirt: no link\n  cause  one\n         two\n  do     wait\n"
    )


STAMP = "2026-11-21T02:03:33.461"
ABOUT_1 = [
    f"{STAMP} daemon[1] domain 1 (web) created",
    f"{STAMP} daemon[1] frontend of domain 1 (web) died with signal 9",
    f"{STAMP} frontend-1[5] xennet0: using RX copy mode",
    f"{STAMP} backend-0[2] xvif1i0: Initialising -> InitWait",
]
ABOUT_OTHERS = [
    f"{STAMP} daemon[1] domain 11 (web) created",
    f"{STAMP} daemon[1] ready in /run/xenvirt",
    f"{STAMP} frontend-11[5] xennet0: using RX copy mode",
    f"{STAMP} backend-0[2] xvif11i0: Initialising -> InitWait",
    "Traceback (most recent call last):",
    "",
]


def test_lines_about_a_domain_are_told_from_others() -> None:
    lines = ABOUT_1 + ABOUT_OTHERS
    assert [line for line in lines if is_about(line, DomId(1))] == ABOUT_1


def test_a_tail_shows_each_whole_line_once(tmp_path: Path, capsys: Captured) -> None:
    log = tmp_path / "log"
    log.write_text(f"{ABOUT_1[0]}\n")
    tail = LogTail(log, on=True)
    with log.open("a") as file:
        file.write(f"{ABOUT_1[1]}\n{ABOUT_OTHERS[0]}\n{ABOUT_1[2][:20]}")
    tail.show()
    assert capsys.readouterr().err == "", "nobody has said which domain"
    tail.show(DomId(1))
    assert capsys.readouterr().err == f"{ABOUT_1[1]}\n"
    with log.open("a") as file:
        file.write(f"{ABOUT_1[2][20:]}\n")
    tail.show()
    tail.show()
    assert capsys.readouterr().err == f"{ABOUT_1[2]}\n"


def test_a_tail_of_a_log_that_is_not_there_yet(
    tmp_path: Path, capsys: Captured
) -> None:
    tail = LogTail(tmp_path / "log", on=True)
    tail.show(DomId(1))
    (tmp_path / "log").write_text(f"{ABOUT_1[0]}\n")
    tail.show()
    assert capsys.readouterr().err == f"{ABOUT_1[0]}\n"


def test_a_tail_that_is_off_shows_nothing(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "log").touch()
    tail = LogTail(tmp_path / "log", on=False)
    (tmp_path / "log").write_text(f"{ABOUT_1[0]}\n")
    tail.show(DomId(1))
    assert capsys.readouterr() == ("", "")
