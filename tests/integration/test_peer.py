"""`xenvirt.testing.peer` against our own ends: what a script says is what happens."""

from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.links import LinkMaker
from tests.native.frames import plain
from xenvirt.errors import NotFoundError, StateTimeoutError, XenvirtError
from xenvirt.testing.peer import (
    Backend,
    Frontend,
    NetifRsp,
    RxFlags,
    RxResponse,
    TxFlags,
    TxRequest,
    TxResponse,
    XenbusState,
)
from xenvirt.xenstore.sync_client import SyncClient

pytestmark = pytest.mark.root


def test_a_played_frontend_sends_and_receives(front: Frontend) -> None:
    queue = front.connect()
    queue.post(40)
    with front.driver.tap() as tap:
        answers = queue.send(*queue.chain(plain(90), [30, 30, 30], first_id=5))
        assert answers == [TxResponse(5 + n, NetifRsp.OKAY) for n in range(3)]
        assert tap.expect(1) == [plain(90)]
        tap.send(plain(70, seed=2))
        assert [frame.data for frame in queue.receive()] == [plain(70, seed=2)]
    assert front.driver.counters()["tx_packets"] == 1
    assert front.driver.error() is None


def test_a_played_backend_sends_and_receives(back: Backend) -> None:
    queue = back.connect()
    with back.driver.tap() as tap:
        queue.deliver(plain(80))
        assert tap.expect(1) == [plain(80)]
        tap.send(plain(70, seed=2))
        (packet,) = queue.receive()
    assert queue.data(packet) == plain(70, seed=2)
    assert back.driver.error() is None


def test_a_driver_that_gives_up_says_why(front: Frontend) -> None:
    queue = front.connect()
    assert queue.send(TxRequest(queue.page_with(plain()), 4090, size=42)) == []
    reason = "Cross page boundary, txreq.offset: 4090, size: 42"
    assert front.driver.closed() == f"5 {reason}"
    assert front.driver.state() is XenbusState.CLOSING
    assert any(line.endswith(reason) for line in front.driver.log())
    assert front.driver.broken() == reason


def test_a_frontend_that_begins_again_is_served_again(front: Frontend) -> None:
    front.connect().send(TxRequest(0, 4090, size=42))
    front.driver.closed()
    front.start_over()
    queue = front.connect()
    assert [answer.status for answer in queue.send_frame(plain())] == [0]


def test_what_cannot_connect_is_told_with_the_drivers_error(front: Frontend) -> None:
    with pytest.raises(XenvirtError, match=r"reading .*/ring-ref"):
        front.connect({"tx-ring-ref": None})


def test_what_does_not_come_is_told_with_both_states(run_dir: Path) -> None:
    with Frontend(run_dir) as front:
        queue = front.connect()
        front.timeout_s = 0.1
        expected = r"did not send 1 frames .* frontend Connected, backend Connected"
        with pytest.raises(StateTimeoutError, match=expected):
            queue.receive()


def test_half_a_packet_that_is_there_ends_the_waiting_for_a_frame(
    front: Frontend, back: Backend
) -> None:
    half = "published half a packet, in slots 0 to 0"
    # Nobody else is at these rings: what is in them is the test's.
    (to_front,) = front.make_queues()
    to_front.post(1)
    to_front.rx.write(0, RxResponse(0, flags=RxFlags.MORE_DATA, status=60))
    to_front.rx.rsp_prod = 1
    with pytest.raises(XenvirtError, match=half):
        to_front.receive()
    to_back = back.connect()
    to_back.tx = front.queues[0].tx
    to_back.tx.write(0, TxRequest(8, flags=TxFlags.MORE_DATA, size=60))
    to_back.tx.req_prod = 1
    with pytest.raises(XenvirtError, match=half):
        to_back.receive()


def test_a_backend_may_have_a_domain_that_is_there(
    module_links: LinkMaker, run_dir: Path
) -> None:
    name = module_links.name("there")
    module_links.run("create", name)
    for _ in range(2):
        with Backend(run_dir, frontend=name) as back:
            queue = back.connect()
            with back.driver.tap() as tap:
                queue.deliver(plain(80))
                assert tap.expect(1) == [plain(80)]
    assert module_links.json("network-list", name)["vifs"] == []
    module_links.run("destroy", name)
    with pytest.raises(NotFoundError, match=f"no domain {name}"):
        Backend(run_dir, frontend=name).__enter__()


def test_of_a_bare_domains_driver_only_the_store_is_known(
    module_links: LinkMaker, run_dir: Path
) -> None:
    name = module_links.name("bare")
    module_links.run("create", name, "--bare")
    back = Backend(run_dir, frontend=name)
    front = Frontend(run_dir, vif=(f"backend={name}",))
    for end, side in ((back, "front"), (front, "back")):
        with end:
            expected = f"the {side}end in domain {name}"
            with pytest.raises(NotFoundError, match=f"{expected} publishes no count"):
                end.driver.counters()
            with pytest.raises(NotFoundError, match=f"{expected} has no interface"):
                end.driver.tap()
            assert end.driver.log() == []
            assert end.driver.broken() is None
            assert end.driver.state() is XenbusState.INITIALISING
            # Or the end of the vif would wait for it to close.
            end.host.store.write({f"{end.driver.path}/state": "6"})
    module_links.run("destroy", name)


def test_several_queues_have_their_own_rings(run_dir: Path) -> None:
    with Frontend(run_dir, vif=("queues=2",)) as front:
        queues = front.make_queues(2)
        front.connect()
        assert [len(queue.send_frame(plain())) for queue in queues] == [1, 1]


def test_a_peer_leaves_nothing_behind(run_dir: Path) -> None:
    with SyncClient(str(run_dir / "xenstored" / "socket")) as store:
        with Frontend(run_dir) as front, Backend(run_dir) as back:
            front.connect()
            back.connect()
            domids = front.paths.frontend_id, back.paths.frontend_id, back.domain.domid
            assert {str(domid) for domid in domids} <= {*store.ls("/local/domain")}
        assert {str(domid) for domid in domids}.isdisjoint(store.ls("/local/domain"))
        assert "vif" not in store.ls("/local/domain/0/backend")


@pytest.mark.parametrize("moment", ["before", "offered", "connected", "gave up"])
def test_a_peer_may_go_at_any_moment(run_dir: Path, moment: str) -> None:
    with Backend(run_dir) as back, Frontend(run_dir) as front:
        if moment == "offered":
            back.offer()
            front.offer()
        if moment in ("connected", "gave up"):
            back.connect()
            front.connect()
        if moment == "gave up":
            front.queues[0].tx.req_prod = 1 << 31
            front.queues[0].notify()
            front.driver.closed()


def test_a_played_end_leaves_no_event_channel_open(run_dir: Path) -> None:
    def eventfds() -> int:
        found = 0
        for path in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # That of the directory itself.
                found += "eventfd" in str(path.readlink())
        return found

    before = eventfds()
    for kind in (Frontend, Backend):
        with kind(run_dir) as end:
            end.connect()
            assert eventfds() > before
        assert eventfds() == before
