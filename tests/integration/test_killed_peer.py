"""R29: peers that are killed at random moments; test_crash.py has more of it."""

import os
import random
import signal
import time
from collections.abc import Iterator

import pytest

from tests.integration.daemons import eventually
from tests.integration.links import Link, LinkMaker
from tests.integration.witness import answers
from tests.native.frames import plain
from tests.native.processes import forked
from xenvirt.abi.gnttab import GRANT_ENTRY_SIZE, GrantFlags
from xenvirt.testing.peer import Frontend, XenbusState
from xenvirt.toolstack import domains, vifs
from xenvirt.toolstack.host import Host, connect
from xenvirt.toolstack.rundir import RunDir

pytestmark = pytest.mark.root

OTHER = "10.222.2.2"


@pytest.fixture(scope="module")
def other(module_links: LinkMaker) -> Link:
    return module_links.up("good", "--ip", f"{OTHER}/24", "--peer-ip", "10.222.2.1/24")


@pytest.fixture
def host(module_links: LinkMaker, other: Link) -> Iterator[Host]:
    with connect(RunDir(module_links.run_dir)) as host:
        yield host
    assert answers(other, OTHER)


def kill_backend(links: LinkMaker, before: int | None = None) -> int:
    """Kill domain 0's backend when it is not `before` any more; its process."""
    found: list[int] = []

    def there_is_one() -> bool:
        pid = links.ends()["backend", 0]
        found.append(pid)
        return pid not in {before, None}

    eventually(there_is_one, "there is no backend")
    os.kill(found[-1], signal.SIGKILL)
    return found[-1]


@pytest.mark.parametrize("seed", range(20))
def test_r29_a_frontend_that_is_killed_is_taken_down_in_order(
    module_links: LinkMaker, host: Host, seed: int
) -> None:
    name = module_links.name(f"killed{seed}")
    backend = module_links.ends()["backend", 0]
    begun, begun_in_child = os.pipe()

    def send_for_ever() -> None:
        with Frontend(module_links.run_dir, name=name) as front:
            os.write(begun_in_child, b"x")
            queue = front.connect()
            while True:
                queue.send_frame(plain())

    with forked(send_for_ever):
        os.read(begun, 1)
        time.sleep(random.Random(seed).random() * 0.03)
    os.close(begun)
    os.close(begun_in_child)
    domains.destroy(host, domains.find(host, name), timeout_s=vifs.CLOSE_TIMEOUT_S)
    assert host.store.ls("/local/domain/0/backend/vif") == ["1"]
    assert module_links.ends()["backend", 0] == backend


def test_r29_a_frontend_outlives_backends_that_are_killed(
    module_links: LinkMaker, host: Host
) -> None:
    with Frontend(module_links.run_dir) as front:
        queue = front.connect()
        killed = None
        for seed in range(5):
            queue.put(*queue.chain(plain(), [30, 30]))
            queue.push()
            time.sleep(random.Random(seed).random() * 0.005)
            killed = kill_backend(module_links, killed)
            assert len(queue.answered(2)) == 2
            assert front.driver.state() is XenbusState.CONNECTED
        front.write({"state": "6"})
        front.driver.wait_for(XenbusState.CLOSED)
        used = GrantFlags.READING | GrantFlags.WRITING
        entries = front.pages.memory[: 64 * 4096 : GRANT_ENTRY_SIZE]
        held = [gref for gref, flags in enumerate(entries) if flags & used]
        assert held == [], module_links.log()
