"""The clients on C xenstored: they are for every XenStore, not for ours alone."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers_xenstore import run
from tests.peers import xenstored
from xenvirt.xenstore import snapshot
from xenvirt.xenstore.client import Client, Transaction
from xenvirt.xenstore.errors import (
    StoreInvalidError,
    StoreNotFoundError,
    StoreNotSupportedError,
)
from xenvirt.xenstore.sync_client import SyncClient

pytestmark = pytest.mark.skipif(
    xenstored.missing() is not None, reason=str(xenstored.missing())
)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    peer = xenstored.Xenstored(tmp_path)
    peer.create_domain(1)
    yield peer.socket
    peer.close()


def test_the_asynchronous_client(path: str) -> None:
    async def main() -> None:
        async with await Client.connect_unix(path) as store:
            names = [f"{'n' * 60}{i}" for i in range(200)]
            await asyncio.gather(*(store.write(f"/d/{n}", n) for n in names))
            assert sorted(await store.ls("/d")) == sorted(names)
            await store.set_perms("/d", ["n0", "r1"])
            assert [str(p) for p in await store.get_perms("/d")] == ["n0", "r1"]
            with pytest.raises(StoreNotFoundError):
                await store.read("/none")
            with pytest.raises(StoreNotSupportedError):
                await store.get_features()
            await store.write("/count", "0")
            await asyncio.gather(*(store.transact(increment) for _ in range(20)))
            assert await store.read("/count") == "20"
            async with store.watch("/w") as events:
                await store.write("/w/x", "v")
                assert [await anext(events), await anext(events)] == ["/w", "/w/x"]
            with pytest.raises(StoreInvalidError):
                await anext(store.watch("/w", depth=1))
            assert await store.domain_path(1) == "/local/domain/1"
            await store.introduce(1, 1, 17)
            assert await store.is_domain_introduced(1)
            await store.release(1)

    run(main())


async def increment(transaction: Transaction) -> None:
    value = int(await transaction.read("/count"))
    await transaction.write("/count", str(value + 1))


def test_the_blocking_client_and_its_snapshots(path: str) -> None:
    with SyncClient(path) as store:
        store.write({f"/t/{n}/x": bytes([n]) * n for n in range(100)})
        store.set_perms("/t/5", ["n0", "b1"])
        taken = store.transact(lambda nodes: snapshot.take(nodes, "/t"))
        store.transact(lambda nodes: snapshot.restore(nodes, taken, "/u"))
        assert snapshot.take(store, "/u").nodes == taken.nodes
        assert store.wait_for("/t/5/x", lambda value: value == "\5" * 5, timeout_s=5)
