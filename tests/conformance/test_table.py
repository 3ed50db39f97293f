"""The table of protocol.md 5.2 to 5.7 against every server that is here.

    ours, by socket   StoreServer in this process, domains connected by socket
    ours, by ring     the same, domains connected by ring page
    ours, served      `xenvirt xenstore serve`, domains connected by socket
    C xenstored       Debian's 4.17, domains connected by ring page

One test is one row. What C xenstored does otherwise, and why, is in its row;
docs/xenstore-conformance.md is made of that.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance.ours import OurStore
from tests.conformance.rows_all import SECTIONS
from tests.conformance.runner import Run
from tests.conformance.served import ServedStore
from tests.conformance.servers import CXenstored, Server, World
from tests.conformance.table import Differs, NotAsked, Row
from tests.peers import xenstored

MISSING = xenstored.missing()


def _rows(asked: Callable[[Row], bool]) -> list[object]:
    return [
        pytest.param(row, id=f"{section}: {row.name}")
        for section, table in SECTIONS.items()
        for row in table
        if asked(row)
    ]


def _hold(server: Server, row: Row, directory: Path, *, on_c_417: bool) -> None:
    world = World(server)
    try:
        Run(world, directory).row(row, on_c_417=on_c_417)
    finally:
        world.close()


@pytest.mark.parametrize("row", _rows(lambda row: not row.ring))
def test_ours_by_socket(row: Row, tmp_path: Path) -> None:
    _hold(OurStore(rings=False), row, tmp_path, on_c_417=False)


@pytest.mark.parametrize("row", _rows(lambda row: True))
def test_ours_by_ring(row: Row, tmp_path: Path) -> None:
    _hold(OurStore(rings=True), row, tmp_path, on_c_417=False)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedStore]:
    store = ServedStore(tmp_path_factory.mktemp("served"))
    yield store
    store.stop()


@pytest.mark.parametrize("row", _rows(lambda row: not (row.ring or row.hypervisor)))
def test_ours_served(row: Row, served: ServedStore, tmp_path: Path) -> None:
    _hold(served, row, tmp_path, on_c_417=False)


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_c_xenstored_runs_here(tmp_path: Path) -> None:
    CXenstored(tmp_path).close()


@pytest.mark.parametrize(
    "row",
    _rows(lambda row: MISSING is None and not isinstance(row.c_417, NotAsked)),
)
def test_c_xenstored(row: Row, tmp_path: Path) -> None:
    directory = tmp_path / "xenstored"
    directory.mkdir()
    _hold(CXenstored(directory), row, tmp_path, on_c_417=True)


def test_a_listed_difference_is_one() -> None:
    for section in SECTIONS.values():
        for row in section:
            if isinstance(row.c_417, Differs):
                ours = (row.expect, row.events, row.events_after)
                theirs = (row.c_417.expect, row.c_417.events, row.c_417.events_after)
                assert any(
                    there is not None and here != there
                    for here, there in zip(ours, theirs, strict=True)
                ), row.name
