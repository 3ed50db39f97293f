"""A daemon of each module's or test's own, and nothing left of it afterwards."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.integration.links import ON_XEN, LinkMaker, tag
from tests.xen.ends import kernel_takes_no_new_vif
from xenvirt.netdev import links as netlinks
from xenvirt.netdev import namespaces

OF_THE_EMULATION: Final = {
    "test_bad_frontend": "it writes into a domain's memory, which Xen lets nobody do",
    "test_cli": "domains and their vifs are xl's on Xen",
    "test_crash": "no daemon restarts an end on Xen; tests/xen kills and starts them",
    "test_daemon": "it is about our own daemon",
    "test_diagnostics": "it is about domains of our own daemon",
    "test_launcher": "it is about our own daemon",
    "test_live_update": "it is about our own daemon",
    "test_many": "it is about a hundred domains of our own",
    "test_netdev": "it is about Linux's interfaces, as anywhere",
    "test_restart": "it is about our own daemon",
    "test_xenstore_cli": "it is about our own store",
    "test_xenstore_client_interop": "it starts its own stores, as anywhere",
    "test_xenstore_tools": "it is about our own store",
}
"""Modules that cannot run on a real Xen, and why; all others run there as they are."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say what cannot run here, instead of failing at the first TAP."""
    if ON_XEN:
        for item in items:
            why = OF_THE_EMULATION.get(item.path.stem)
            if why is not None:
                item.add_marker(pytest.mark.skip(reason=f"not on Xen: {why}"))
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root: run scripts/test, which asks for it")
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(skip)


@pytest.fixture(scope="session", autouse=ON_XEN)
def ours_are_ours() -> Iterator[None]:
    """On Xen, keep the kernel's netback from the vifs that tests make."""
    with kernel_takes_no_new_vif():
        yield


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
