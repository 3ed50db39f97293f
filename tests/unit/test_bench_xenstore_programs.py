"""The C clients of `scripts/bench xenstore`, each on a small store."""

import mmap
import os

import pytest

from tests.helpers_xenstore import event_channel, running_store, until
from tests.perf.xenstore.pipeline import BATCH, Pipeline
from tests.perf.xenstore.processes import Programs, running
from xenvirt.abi.xs_wire import XsWire
from xenvirt.xenstore.server import PAGE_SIZE


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    return Programs(tmp_path_factory.mktemp("programs"))


def test_every_operation_has_a_median_and_a_p99(programs: Programs) -> None:
    with running_store() as store:
        figures = programs.figures("roundtrips", store.path, 20)
    assert len(figures) == 2 * 6
    for name in ("read", "mkdir and rm", "transaction of 3", "watch event"):
        assert 0 < figures[f"{name}, median"] <= figures[f"{name}, p99"]


def test_one_operation_alone(programs: Programs) -> None:
    with running_store() as store:
        figures = programs.figures("roundtrips", store.path, 20, "read")
    assert [*figures] == ["read, median", "read, p99"]


def test_a_program_without_its_store_says_so(programs: Programs) -> None:
    with pytest.raises(RuntimeError, match="/nowhere: No such file"):
        programs.figures("roundtrips", "/nowhere", 20)


@pytest.mark.parametrize(("connections", "watches"), [(7, 1), (1, 7), (3, 4)])
def test_every_watch_is_waited_for(
    programs: Programs, connections: int, watches: int
) -> None:
    with running_store() as store:
        figures = programs.figures("watchers", store.path, connections, watches, 5)
    assert 0 < figures["last event, median"] <= figures["last event, p99"]


def test_every_commit_counts(programs: Programs) -> None:
    with running_store() as store:
        figures = programs.figures("conflicts", store.path, 3, 50)
        assert store.client().ask(XsWire.READ, b"/bench/counter\0") == b"50"
    assert figures["seconds"] > 0
    assert figures["retries"] >= 0


def test_a_domain_reads_by_ring(programs: Programs) -> None:
    fd = os.memfd_create("page")
    os.ftruncate(fd, 2 * PAGE_SIZE)
    memory = mmap.mmap(fd, PAGE_SIZE, offset=PAGE_SIZE)
    with running_store(domains=[1]) as store, event_channel() as (ours, theirs):
        dom0 = store.client()
        dom0.ask(XsWire.WRITE, b"/local/domain/1/name\0guest")
        dom0.ask(XsWire.SET_PERMS, b"/local/domain/1/name\0n1\0")
        store.serve_ring(1, memory, ours)
        fds = (fd, theirs.peer_fd, theirs.fd)
        ring = f"1:{theirs.peer_fd}:{theirs.fd}"
        figures = programs.figures("rings", fd, 20, ring, pass_fds=fds)
    os.close(fd)
    assert figures["all"] > 0
    assert 0 < figures["read, median"] <= figures["read, p99"]


@pytest.mark.parametrize("kind", ["obedient", "deaf"])
def test_a_flood_writes_and_lasts(programs: Programs, kind: str) -> None:
    with (
        running_store() as store,
        running(programs.command("flood", store.path, kind)) as flood,
    ):
        assert flood.stdout is not None
        assert flood.stdout.readline() == "ready: 1\n"
        client = store.client()
        client.ask(XsWire.MKDIR, b"/bench\0")
        until(lambda: client.ask(XsWire.DIRECTORY, b"/bench\0") == b"flood\0")
        assert flood.poll() is None


def test_replies_come_in_the_order_of_the_requests() -> None:
    count = 2 * BATCH + 1
    with running_store() as store, Pipeline(store.path) as pipeline:
        pipeline.ask((XsWire.WRITE, b"/n/%d\0%d" % (i, i)) for i in range(count))
        reads = [(XsWire.READ, b"/n/%d\0" % i) for i in range(count)]
        assert pipeline.ask(reads) == [b"%d" % i for i in range(count)]


def test_an_error_ends_the_pipeline() -> None:
    with (
        running_store() as store,
        Pipeline(store.path) as pipeline,
        pytest.raises(RuntimeError, match=r"missing.*ENOENT"),
    ):
        pipeline.ask([(XsWire.READ, b"/missing\0")])
