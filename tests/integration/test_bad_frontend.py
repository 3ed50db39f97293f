"""What a frontend may write, and must not: its vif closes, and says why.

The frontend is a played one, and begins anew after each case. Other links go on.
"""

import os
import select
import struct
import time
from collections.abc import Iterator

import pytest

from tests.integration.links import Link, LinkMaker
from tests.integration.witness import answers
from tests.native.frames import plain
from xenvirt.abi.ids import PAGE_SIZE
from xenvirt.hypervisor.memory import STORE_GFN
from xenvirt.testing.peer import Frontend, XenbusState

pytestmark = pytest.mark.root

OTHER = "10.216.2.2"
WAIT_S = 10
STORE_PORT = 1


@pytest.fixture(scope="module")
def other(module_links: LinkMaker) -> Link:
    return module_links.up("good", "--ip", f"{OTHER}/24", "--peer-ip", "10.216.2.1/24")


@pytest.fixture
def queues() -> int:
    """How many queues the vif has."""
    return 1


@pytest.fixture
def front(module_links: LinkMaker, other: Link, queues: int) -> Iterator[Frontend]:
    with Frontend(module_links.run_dir, vif=(f"queues={queues}",)) as front:
        front.make_queues(queues)
        yield front
        front.start_over()
        queue = front.connect()
        assert [answer.status for answer in queue.send_frame(plain())] == [0]
        assert answers(other, OTHER)


Changes = dict[str, str | None]


def is_refused(front: Frontend, changes: Changes, expected: str) -> None:
    """The vif closes, with `expected` at the start of the error node.

    In changes and text, {key} is what a good frontend would write, and {front} its
    directory.
    """
    names = {"front": front.paths.frontend, **front.good_keys()}
    front.offer({k: v and v.format_map(names) for k, v in changes.items()})
    assert front.driver.closed().startswith(expected.format_map(names))
    assert front.driver.state() is XenbusState.CLOSING
    ports = front.host.hypervisor.ports(front.domain.domid)
    bound = [port["port"] for port in ports if port["state"] == "interdomain"]
    assert [port for port in bound if port != STORE_PORT] == []


RING_REFS: dict[str, tuple[Changes, str]] = {
    "out of range": (
        {"tx-ring-ref": "4294967295"},
        "14 mapping shared-frames 4294967295/{rx-ring-ref}",
    ),
    "a grant that is not there": (
        {"rx-ring-ref": "32000"}, "14 mapping shared-frames {tx-ring-ref}/32000",
    ),
    "beyond 32 bits": ({"tx-ring-ref": "4294967296"}, "22 reading {front}/ring-ref"),
    "no number": ({"rx-ring-ref": "zz"}, "22 reading {front}/ring-ref"),
    "missing": ({"tx-ring-ref": None}, "2 reading {front}/ring-ref"),
}  # fmt: skip


@pytest.mark.parametrize("case", RING_REFS)
def test_xsa_361_362_a_ring_that_is_no_grant(front: Frontend, case: str) -> None:
    is_refused(front, *RING_REFS[case])


def test_xsa_362_a_ring_that_may_only_be_read(front: Frontend) -> None:
    ref = front.pages.share(readonly=True).gref
    is_refused(front, {"tx-ring-ref": str(ref)}, f"14 mapping shared-frames {ref}/")


PORTS: dict[str, tuple[Changes, str]] = {
    "0": ({"event-channel-tx": "0"}, "22 binding event channel 0"),
    "out of range": (
        {"event-channel-rx": "70000"}, "22 binding event channel 70000",
    ),
    "XenStore's": ({"event-channel-tx": "1"}, "22 binding event channel 1"),
    "missing": ({"event-channel-tx": None}, "2 reading {front}/event-channel(-tx/rx)"),
}  # fmt: skip


@pytest.mark.parametrize("case", PORTS)
def test_a_port_that_is_none_of_the_frontends(front: Frontend, case: str) -> None:
    is_refused(front, *PORTS[case])


@pytest.mark.parametrize("count", ["0", "-1", "4294967296", "abc", "", "2"])
def test_zero_queues_or_as_many_as_were_not_offered(
    front: Frontend, count: str
) -> None:
    is_refused(
        front,
        {"multi-queue-num-queues": count},
        f"22 guest requested {count} queues, but valid range is 1 - 1.",
    )


BAD_QUEUES: dict[str, tuple[Changes, str]] = {
    "none": (
        {"multi-queue-num-queues": "0"},
        "22 guest requested 0 queues, but valid range is 1 - 2.",
    ),
    "more than offered": (
        {"multi-queue-num-queues": "3"},
        "22 guest requested 3 queues, but valid range is 1 - 2.",
    ),
    "one, and its keys are not there": (
        {"multi-queue-num-queues": "1"}, "2 reading {front}/event-channel(-tx/rx)",
    ),
    "one without a ring": (
        {"queue-1/tx-ring-ref": None}, "2 reading {front}/queue-1/ring-ref",
    ),
    "a ring of another queue": (
        {"queue-1/tx-ring-ref": "{queue-0/tx-ring-ref}"},
        "22 mapping shared-frames {queue-0/tx-ring-ref}/{queue-1/rx-ring-ref} "
        "port tx {queue-1/event-channel-tx} rx {queue-1/event-channel-rx}",
    ),
    "both rings in one page": (
        {"queue-0/rx-ring-ref": "{queue-0/tx-ring-ref}"},
        "22 mapping shared-frames {queue-0/tx-ring-ref}/{queue-0/tx-ring-ref} port",
    ),
    "a port of another queue": (
        {"queue-1/event-channel-rx": "{queue-0/event-channel-tx}"},
        "22 mapping shared-frames {queue-1/tx-ring-ref}/{queue-1/rx-ring-ref} "
        "port tx {queue-1/event-channel-tx} rx {queue-0/event-channel-tx}",
    ),
    # The first queue is mapped and bound already, and must be let go of.
    "a ring that is no grant": (
        {"queue-1/rx-ring-ref": "32000"}, "14 mapping shared-frames ",
    ),
    "a port that is not there": (
        {"queue-1/event-channel-rx": "70000"}, "22 binding event channel 70000",
    ),
}  # fmt: skip


@pytest.mark.parametrize("queues", [2])
@pytest.mark.parametrize("case", BAD_QUEUES)
def test_bad_keys_of_several_queues(front: Frontend, case: str) -> None:
    is_refused(front, *BAD_QUEUES[case])


@pytest.mark.parametrize("queues", [2])
def test_a_queue_that_is_left_out(front: Frontend) -> None:
    changes: Changes = {k: None for k in front.good_keys() if k.startswith("queue-1/")}
    is_refused(front, changes, "2 reading {front}/queue-1/event-channel(-tx/rx)")


@pytest.mark.parametrize("state", ["2", "7", "8"])
def test_a_state_that_no_frontend_may_show(front: Frontend, state: str) -> None:
    front.connect()
    front.write({"state": state})
    assert front.driver.closed() == f"22 saw state {state} at frontend"


def test_a_malformed_store_ring_is_shut_and_nothing_else(front: Frontend) -> None:
    req_prod, error = 2052, 2072
    page = STORE_GFN * PAGE_SIZE
    front.connect()
    _, fds = front.host.hypervisor.call("start_info", **{"as": front.domain.domid})
    memory = front.pages.memory
    struct.pack_into("<I", memory, page + req_prod, 0x40000000)
    os.eventfd_write(fds[-1], 1)
    deadline = time.monotonic() + WAIT_S
    while struct.unpack_from("<I", memory, page + error) != (2,):
        assert time.monotonic() < deadline
        select.select([fds[1]], [], [], 0.01)
    for fd in fds:
        os.close(fd)
    assert len(front.queues[0].send_frame(plain())) == 1
