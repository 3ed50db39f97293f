"""What runs the vifs of a process, and how it ends."""

import asyncio

import pytest

from tests.helpers_xenstore import RunningStore, run, running_store
from xenvirt.hypervisor.emulated import EmulatedHypervisor
from xenvirt.vif.main import Driver
from xenvirt.xenbus.bus import Appeared, Bus
from xenvirt.xenstore.client import Client

NODE = "device/vif/0"


class SlowVif:
    """A vif that takes its time to go."""

    def __init__(self) -> None:
        self.runs, self.going, self.may_go = (asyncio.Event() for _ in range(3))
        self.ended: list[str] = []

    async def run(self) -> None:
        self.runs.set()
        await asyncio.Event().wait()

    async def remove(self) -> None:
        self.going.set()
        await self.may_go.wait()
        self.ended.append("removed")

    async def leave(self) -> None:
        self.ended.append("left")

    def check_queues(self) -> None:
        raise AssertionError


def test_being_told_to_end_while_a_vif_goes_ends_it_after_the_vif() -> None:
    async def main(store: RunningStore) -> None:
        async with await Client.connect_unix(store.path) as client:
            await client.write(f"{NODE}/state", "1")
            vif = SlowVif()
            hypervisor = EmulatedHypervisor.__new__(EmulatedHypervisor)
            driver = Driver(
                Bus(client, "device", 1),
                hypervisor,
                lambda event: isinstance(event, Appeared),
                lambda event: vif,
                lambda ids: None,
            )
            serving = asyncio.create_task(driver.run())
            await vif.runs.wait()
            await client.rm(NODE)
            await vif.going.wait()
            serving.cancel()
            await asyncio.sleep(0)
            vif.may_go.set()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(serving, 5)
            assert vif.ended == ["removed"]

    with running_store() as store:
        run(main(store))
