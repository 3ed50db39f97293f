"""Which CPUs the workers get, and what the environment may say of it."""

import os

import pytest

from xenvirt.errors import UsageError
from xenvirt.vif.placement import Placement, choose


@pytest.fixture
def cpus(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(request.param))


@pytest.mark.parametrize(
    ("cpus", "peer_is_here", "environ", "chosen"),
    [
        ({5}, True, {}, Placement((5,), 0)),
        ({3, 1}, True, {}, Placement((1, 3), 0)),
        ({1, 3}, False, {}, Placement((), 50)),
        ({1, 2, 3}, True, {}, Placement((), 50)),
        (
            range(20),
            True,
            {"XENVIRT_WORKER_CPUS": "paired"},
            Placement((*range(8),), 0),
        ),
        ({1, 2}, True, {"XENVIRT_WORKER_CPUS": "free"}, Placement((), 50)),
        ({1, 2}, True, {"XENVIRT_POLL_US": "20"}, Placement((1, 2), 20)),
    ],
    indirect=["cpus"],
)
@pytest.mark.usefixtures("cpus")
def test_what_is_chosen(
    peer_is_here: bool, environ: dict[str, str], chosen: Placement
) -> None:
    assert choose(peer_is_here=peer_is_here, environ=environ) == chosen


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("XENVIRT_WORKER_CPUS", "both"),
        ("XENVIRT_POLL_US", "-1"),
        ("XENVIRT_POLL_US", "1000001"),
        ("XENVIRT_POLL_US", "\N{ARABIC-INDIC DIGIT ONE}"),
    ],
)
def test_a_variable_that_cannot_be(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=name) as caught:
        choose(peer_is_here=True, environ={name: value})
    assert caught.value.hint
