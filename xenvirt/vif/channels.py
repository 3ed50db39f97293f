"""A queue's event channels: one for both rings, or one for each."""

from collections.abc import Awaitable, Iterable

from xenvirt.hypervisor.interface import EventChannel, Hypervisor
from xenvirt.vif.undo import Undo


async def open_channels(
    hypervisor: Hypervisor,
    opening: Iterable[Awaitable[EventChannel]],
    undo: Undo,
) -> tuple[EventChannel, ...]:
    """Await each one; `undo` closes those that were had, if the next is refused too."""
    channels = []
    for each in opening:
        channel = await each
        undo.add(hypervisor.close_channel, channel)
        channels.append(channel)
    return tuple(channels)
