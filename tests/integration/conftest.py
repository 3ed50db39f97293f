"""A daemon of each module's or test's own, and nothing left of it afterwards."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.integration.daemons import GONE_WRONG, processes_with
from tests.integration.links import ON_XEN, LinkMaker, tag
from tests.xen.ends import kernel_takes_no_new_vif
from xenvirt.netdev import links as netlinks
from xenvirt.netdev import namespaces
from xenvirt.testing.peer import Backend, Frontend

OF_THE_EMULATION: Final = {
    "test_advisories": "a played end is a domain of our own daemon",
    "netdev": "it is about Linux's interfaces, as anywhere",
    "test_apart": "it starts a daemon of its own",
    "test_bad_frontend": "a played end is a domain of our own daemon",
    "test_by_hand": "it kills ends that our own launcher starts again",
    "test_cli": "domains and their vifs are xl's on Xen",
    "test_cli_model": "domains and their vifs are xl's on Xen",
    "test_crash": "no daemon restarts an end on Xen; tests/xen kills and starts them",
    "test_crowd": "it is about a hundred vifs of our own domains",
    "test_daemon": "it is about our own daemon",
    "test_diagnostics": "it is about domains of our own daemon",
    "test_guest_words": "a played end is a domain of our own daemon",
    "test_isolation": "it is about domains of our own daemon",
    "test_killed_peer": "it kills ends of our own daemon",
    "test_kills": "our own launcher starts again what it kills",
    "test_launcher": "it is about our own daemon",
    "test_least_privilege": "ends are root on Xen",
    "test_leftovers": "it is about our own daemon",
    "test_live_update": "it is about our own daemon",
    "test_many": "it is about a hundred domains of our own",
    "test_multi_queue": "it kills ends that our own launcher starts again",
    "test_order": "a played end is a domain of our own daemon",
    "test_out_of_resources": "it is about our own daemon and its ends",
    "test_peer": "a played end is a domain of our own daemon",
    "test_peer_docs": "a played end is a domain of our own daemon",
    "test_rate": "it writes the store by our own daemon",
    "test_restart": "it is about our own daemon",
    "test_rx_stall": "it stops a frontend of our own daemon",
    "test_shutdown": "our own launcher starts again what it ends",
    "test_storms": "it takes descriptors from ends of our own launcher",
    "test_user_namespaces": "it is about our own daemon's namespaces",
    "test_xenstore_cli": "it is about our own store",
    "test_xenstore_client_interop": "it starts its own stores, as anywhere",
    "test_xenstore_tools": "it is about our own store",
}
"""What cannot run on a real Xen, and why; all other modules run there as they are."""

_MEMORY: Final = "a sanitizer keeps memory"

OF_A_PLAIN_BUILD: Final = {
    "test_crowd.py::test_an_idle_one_takes_little_private_memory": _MEMORY,
    "test_launcher.py::test_a_daemon_that_keeps_dying_is_given_up": (
        "a sanitizer makes another signal of SIGSEGV"
    ),
    "test_least_privilege.py::test_a_process_has_nothing_else_open": (
        "there is no filter then, and libuv has an io_uring"
    ),
    "test_rx_stall.py::test_xsa_392_a_guest_without_buffers": _MEMORY,
    "test_storms.py::test_a_flood_of_requests_to_the_store": _MEMORY,
    "test_storms.py::test_xsa_349": _MEMORY,
    "test_storms.py::test_xsa_350": _MEMORY,
    "test_storms.py::test_xsa_43": _MEMORY,
}
"""What says nothing under a sanitizer (scripts/sanitize), and why."""

_A_THREAD: Final = "TSan has a thread of its own"

OF_ONE_THREAD: Final = {
    "test_isolation.py": _A_THREAD,
    "test_launcher.py": "a process that is forked and has threads hangs under TSan",
    "test_least_privilege.py": _A_THREAD,
    "test_many.py::test_eight_links_come_up_at_once": "it takes longer than `up` waits",
    "test_user_namespaces.py": f"{_A_THREAD}, and with one none can be entered",
}
"""What says nothing under TSan either, and why."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Have an option for where everything takes long."""
    parser.addoption(
        "--sample",
        action="store_true",
        help="only the first and the last case of each test in tests/integration",
    )


def _leave_a_sample(config: pytest.Config, items: list[pytest.Item]) -> None:
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if Path(__file__).parent in item.path.parents:
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    others = {item for each in cases.values() for item in each[1:-1]}
    config.hook.pytest_deselected(items=list(others))
    items[:] = [item for item in items if item not in others]


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Say what cannot run here, instead of failing at the first TAP."""
    if config.getoption("--sample", default=False):
        _leave_a_sample(config, items)
    if ON_XEN:
        for item in items:
            names = item.path.stem, item.path.parent.name
            why = next(filter(None, map(OF_THE_EMULATION.get, names)), None)
            if why is not None:
                item.add_marker(pytest.mark.skip(reason=f"not on Xen: {why}"))
    if preloaded := os.environ.get("XENVIRT_PRELOAD"):
        others = OF_ONE_THREAD if "tsan" in preloaded else {}
        for item in items:
            for name, why in (OF_A_PLAIN_BUILD | others).items():
                if item.nodeid.rpartition("/")[2].startswith(name):
                    item.add_marker(pytest.mark.skip(reason=f"sanitized: {why}"))
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
        assert processes_with(str(maker.run_dir)) == {}, log
        assert not GONE_WRONG.findall(log), log


@pytest.fixture
def links() -> Iterator[LinkMaker]:
    """Makes links with a daemon of this test's own."""
    yield from _maker()


@pytest.fixture(scope="module")
def module_links() -> Iterator[LinkMaker]:
    """Makes links with a daemon that the tests of a module share."""
    yield from _maker()


@pytest.fixture(scope="module")
def run_dir(module_links: LinkMaker) -> Path:
    """The run directory of that daemon, which runs."""
    module_links.run("daemon")
    return module_links.run_dir


@pytest.fixture
def front(run_dir: Path) -> Iterator[Frontend]:
    """A played frontend, of a vif and a domain of its own."""
    with Frontend(run_dir) as front:
        yield front


@pytest.fixture
def back(run_dir: Path) -> Iterator[Backend]:
    """A played backend, likewise."""
    with Backend(run_dir) as back:
        yield back
