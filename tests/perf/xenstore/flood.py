"""A small client's reads while another client writes as fast as it can."""

from typing import Final

from tests.perf.xenstore.part import Bench
from tests.perf.xenstore.processes import memory_bytes, running
from tests.perf.xenstore.results import Figures, Measure, latency
from tests.perf.xenstore.stores import Store

SAMPLES: Final = 3000
LIMIT: Final = 2.0
FLOODS: Final = {"obedient": "flood that reads", "deaf": "flood that never reads"}


def measure(bench: Bench, name: str) -> Figures:
    """Alone, then beside the flood, for either kind with a store of its own."""
    found: Figures = {}
    for kind, title in FLOODS.items():
        with bench.store(name) as store:
            alone = _reads(bench, store)
            weight = memory_bytes(store.pid, "Rss")
            beside = _reads_beside(bench, store, kind)
            grown = memory_bytes(store.pid, "Rss") - weight
        found |= latency(f"before a {title}", alone, "read")
        found |= latency(f"beside a {title}", beside, "read")
        ratio = beside["read, median"] / alone["read, median"]
        found[Measure(f"beside / before a {title}", "", limit=LIMIT)] = ratio
        found[Measure(f"store's RSS gained by a {title}", "KiB")] = grown / 1024
    return found


def _reads_beside(bench: Bench, store: Store, kind: str) -> dict[str, float]:
    with running(bench.programs.command("flood", store.socket, kind)) as flood:
        assert flood.stdout is not None
        assert flood.stdout.readline() == "ready: 1\n"
        reads = _reads(bench, store)
        assert flood.poll() is None, "the flood has ended"
        return reads


def _reads(bench: Bench, store: Store) -> dict[str, float]:
    return bench.programs.figures("roundtrips", store.socket, SAMPLES, "read")
