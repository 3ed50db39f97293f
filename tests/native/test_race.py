"""A peer's thread rewrites rings, grants and payload while a hop works (tests/fuzz).

A second for each hop, under ASan and UBSan; scripts/fuzz --mutate for longer.
"""

import json
from pathlib import Path
from typing import Final

import pytest

from tests.fuzz.build import NATIVE, Builder, Kind
from tests.fuzz.races import CASES, race
from tests.fuzz.seeds import ALL, Features

SECONDS: Final = 1

HEADERS_TWICE: Final = (
    "count = append_rest(frame, header_len, iov, 1);",
    "iov[0].iov_len = sizeof(head.vnet); count = append_rest(frame, 0, iov, 1);",
)
"""In queue.c: headers go to the TAP from the peer's page, not as they were checked."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    builder = Builder(tmp_path_factory.mktemp("race"), Kind.RACE)
    return builder.build(["race"])["race"]


@pytest.mark.parametrize(("hop", "features"), CASES)
def test_a_peer_that_rewrites_memory_does_no_harm(
    program: Path, hop: str, features: Features
) -> None:
    done = race(program, hop, features, SECONDS)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    counts = json.loads(done.stdout)
    assert counts["slots"] >= 1000
    assert counts["writes"] > 1000


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = (NATIVE / "queue.c").read_text()
    assert text.count(HEADERS_TWICE[0]) == 1
    instead = {"queue.c": text.replace(*HEADERS_TWICE)}
    builder = Builder(tmp_path_factory.mktemp("faulty"), Kind.RACE, instead)
    return builder.build(["race"])["race"]


@pytest.mark.slow
@pytest.mark.parametrize("hop", ["back_tx", "front_rx"])
def test_headers_that_are_read_twice_are_seen(faulty: Path, hop: str) -> None:
    done = race(faulty, hop, ALL, 60)
    assert done.returncode != 0
    assert "fuzz: " in done.stderr
