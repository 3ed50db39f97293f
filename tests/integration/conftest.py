"""A daemon of each module's or test's own, and nothing left of it afterwards."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.links import LinkMaker, tag
from xenvirt.netdev import links as netlinks
from xenvirt.netdev import namespaces


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without root, say so instead of failing at the first TAP."""
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root: run scripts/test, which asks for it")
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(skip)


def _processes(run_dir: Path) -> list[str]:
    done = subprocess.run(
        ["pgrep", "-af", str(run_dir)], capture_output=True, text=True
    )
    return done.stdout.splitlines()


def _maker() -> Iterator[LinkMaker]:
    # Not pytest's tmp_path: that is closed to the users that the ends run as.
    with tempfile.TemporaryDirectory(prefix="xenvirt-test-") as directory:
        Path(directory).chmod(0o755)
        yield from _links_in(Path(directory))


def _links_in(directory: Path) -> Iterator[LinkMaker]:
    maker = LinkMaker(directory, tag())
    try:
        yield maker
    finally:
        maker.close()
        log = maker.log() if (maker.run_dir / "log").exists() else ""
        assert netlinks.owned(str(maker.run_dir)) == [], log
        ours = [name for name in namespaces.list_names() if name.startswith(tag())]
        assert ours == [], log
        assert _processes(maker.run_dir) == [], log
        assert "Traceback" not in log, log


@pytest.fixture
def links() -> Iterator[LinkMaker]:
    """Makes links with a daemon of this test's own."""
    yield from _maker()


@pytest.fixture(scope="module")
def module_links() -> Iterator[LinkMaker]:
    """Makes links with a daemon that the tests of a module share."""
    yield from _maker()
