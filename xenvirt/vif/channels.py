"""A queue's event channels: one for both rings, or one for each."""

from collections.abc import Awaitable, Iterable
from contextlib import AsyncExitStack

from xenvirt.hypervisor.interface import EventChannel, Hypervisor


async def open_channels(
    hypervisor: Hypervisor,
    opening: Iterable[Awaitable[EventChannel]],
    undo: AsyncExitStack,
) -> tuple[EventChannel, ...]:
    """Await each one; `undo` closes those that were had, if the next is refused too."""
    channels = []
    for each in opening:
        channel = await each
        undo.push_async_callback(hypervisor.close_channel, channel)
        channels.append(channel)
    return tuple(channels)
