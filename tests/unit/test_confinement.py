from pathlib import Path

import pytest

from xenvirt.errors import UsageError
from xenvirt.toolstack import confinement


def filters() -> str:
    (line,) = [
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("Seccomp:")
    ]
    return line


def test_it_is_on_unless_it_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(confinement.SECCOMP_VARIABLE, raising=False)
    assert confinement.is_filtering()
    for value, on in (("on", True), ("off", False)):
        monkeypatch.setenv(confinement.SECCOMP_VARIABLE, value)
        assert confinement.is_filtering() is on


def test_another_value_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(confinement.SECCOMP_VARIABLE, "no")
    with pytest.raises(UsageError, match="XENVIRT_SECCOMP=no"):
        confinement.is_filtering()


def test_off_leaves_the_process_as_it_is_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = filters()
    monkeypatch.setenv(confinement.SECCOMP_VARIABLE, "off")
    confinement.filter_end()
    confinement.filter_daemon()
    assert filters() == before
    assert caplog.messages == ["runs without a seccomp filter: XENVIRT_SECCOMP=off"] * 2
