"""What a domain's process holds of the emulation, and lets go of."""

import asyncio
import contextlib
import os

from xenvirt.abi.ids import Port
from xenvirt.hypervisor.emulated import EmulatedHypervisor
from xenvirt.hypervisor.eventfds import EventfdChannel


class Calls:
    """Hypercalls of a daemon that does not answer."""

    async def close_port(self, port: Port) -> None:
        del port
        await asyncio.Event().wait()


def test_a_channel_is_let_go_of_by_a_task_that_is_cancelled() -> None:
    """A vif may be removed while it disconnects."""
    channel = EventfdChannel(Port(1), os.eventfd(0), os.eventfd(0))

    async def work() -> None:
        hypervisor = EmulatedHypervisor.__new__(EmulatedHypervisor)
        hypervisor._calls = Calls()  # type: ignore[assignment]
        closing = asyncio.create_task(hypervisor.close_channel(channel))
        await asyncio.sleep(0)
        closing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await closing

    asyncio.run(work())
    assert channel.fd == -1
