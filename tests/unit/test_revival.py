"""When a daemon that died is started again."""

import signal

import pytest

from xenvirt.toolstack.revival import GIVE_UP_AFTER, Revival

SEGV, KILL = signal.SIGSEGV, signal.SIGKILL


def delays(revival: Revival, count: int, sig: int) -> list[float | None]:
    found = [revival.died(sig, served_s=None) for _ in range(count)]
    return [delay if delay is None else round(delay, 3) for delay in found]


@pytest.mark.parametrize("sig", [0, SEGV])
def test_one_that_keeps_failing_waits_ever_longer_and_is_given_up(sig: int) -> None:
    revival = Revival()
    assert delays(revival, 10, sig) == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, None]
    assert revival.failures == GIVE_UP_AFTER


def test_one_that_served_for_a_moment_has_failed_too() -> None:
    revival = Revival()
    assert [revival.died(SEGV, served_s=9.9) for _ in range(10)][-1] is None


def test_one_that_served_for_ten_seconds_begins_from_the_start() -> None:
    revival = Revival()
    delays(revival, 8, SEGV)
    assert revival.died(SEGV, served_s=10.0) == 0.0
    assert revival.failures == 1


def test_one_that_somebody_killed_has_not_failed() -> None:
    revival = Revival()
    delays(revival, 8, SEGV)
    assert [revival.died(KILL, served_s=0.0) for _ in range(100)] == [0.0] * 100
    assert delays(revival, 100, KILL) == [0.1] * 100
    assert revival.failures == 8
