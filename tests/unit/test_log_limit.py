"""What a peer can have logged: ten lines of a kind in five seconds, each one line."""

import io
import logging

import pytest

from xenvirt import log as logs
from xenvirt.log_limit import BURST, INTERVAL_S, KINDS_MAX, LogLimit


def admitted(limit: LogLimit, kind: str, times: int, now: float) -> int:
    return sum(limit.admits(kind, kind, now) for _ in range(times))


def test_ten_of_a_kind_and_then_how_many_more() -> None:
    limit = LogLimit()
    assert admitted(limit, "a", 1000, 100.0) == BURST
    assert admitted(limit, "b", 3, 101.0) == 3
    assert list(limit.ended(104.9)) == []
    assert list(limit.ended(105.0)) == [("a", 1000 - BURST)]
    assert admitted(limit, "a", 1000, 105.0) == BURST


def test_a_steady_flood_is_logged_at_a_steady_rate() -> None:
    limit, logged, told = LogLimit(), 0, 0
    for tick in range(100_000):
        now = tick / 1000
        told += sum(count for _, count in limit.ended(now))
        logged += limit.admits("a", "a", now)
    assert logged == BURST * 100 / INTERVAL_S
    told += sum(count for _, count in limit.ended(float("inf")))
    assert logged + told == 100_000


def test_kinds_without_end_take_bounded_memory_and_share_a_limit() -> None:
    limit = LogLimit()
    logged = sum(admitted(limit, str(kind), 2, 0.0) for kind in range(3 * KINDS_MAX))
    assert logged == 2 * KINDS_MAX + BURST
    assert list(limit.ended(INTERVAL_S)) == [("others", 4 * KINDS_MAX - BURST)]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a process that has set up its log writes."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(logs, "_is_file", lambda fd: False)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    logs.setup("test")
    return stream


def lines(written: io.StringIO) -> list[str]:
    return written.getvalue().splitlines()


def test_a_flood_about_one_vif_leaves_room_for_another(written: io.StringIO) -> None:
    log = logging.getLogger("xenvirt.test")
    for number in range(1000):
        log.error("%s: %s", "xvif1i0", f"bad {number}")
    log.error("%s: %s", "xvif2i0", "bad")
    assert len(lines(written)) == BURST + 1
    assert lines(written)[-1].endswith("xvif2i0: bad")
    logging.getLogger().handlers[0].close()
    assert lines(written)[-1].endswith(f"xvif1i0: {1000 - BURST} callbacks suppressed")


def test_what_a_peer_wrote_is_one_line_and_has_no_control_characters(
    written: io.StringIO,
) -> None:
    logging.getLogger("xenvirt.test").error(
        "%s: %s is not a valid mac address",
        "xennet0",
        "zz\n2030-01-01T00:00:00.000 daemon[1] \x1b[2J\r\u2028all is well\x00",
    )
    (line,) = written.getvalue().split("\n")[:-1]
    assert line.isprintable()
    assert r"zz\n2030-01-01" in line


def test_a_traceback_keeps_its_lines(written: io.StringIO) -> None:
    try:
        raise ValueError("a\nb\x1b[2J")
    except ValueError:
        logging.getLogger("xenvirt.test").exception("%s: unexpected error", "xvif1i0")
    assert len(lines(written)) > 3
    assert "\x1b" not in written.getvalue()
