"""What a connected frontend holds: its queues, from grants to workers."""

import logging
from dataclasses import dataclass

from xenvirt.errors import HypercallError, XenvirtError
from xenvirt.hypervisor.interface import EventChannel, GrantedPages
from xenvirt.native.queue import PeerFeatures, Queue, QueueIO, front_queue
from xenvirt.native.queue_stats import QueueStats
from xenvirt.vif.buffers import READONLY, front_buffers, rx_ring_ref, tx_ring_ref
from xenvirt.vif.channels import open_channels
from xenvirt.vif.end import End
from xenvirt.vif.front_keys import QueueKeys
from xenvirt.vif.queue_stats import StatsPages
from xenvirt.vif.undo import Undo
from xenvirt.xenbus.device import raise_refused

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _FrontQueue:
    """`channels` are the TX ring's and the RX ring's, or one for both."""

    channels: tuple[EventChannel, ...]
    pages: GrantedPages
    stats: QueueStats
    queue: Queue

    def keys(self) -> QueueKeys:
        return QueueKeys(
            tx_ring_ref(self.pages),
            rx_ring_ref(self.pages),
            self.channels[0].port,
            self.channels[-1].port,
        )


class FrontLink:
    """The queues of a connected vif, in their order, until `close`."""

    def __init__(self, end: End, queues: list[_FrontQueue], undo: Undo) -> None:
        self._label = end.label
        self._workers = end.workers
        self._queues = queues
        self._undo = undo

    @classmethod
    async def open(
        cls, end: End, peer: PeerFeatures, *, count: int, split: bool
    ) -> "FrontLink":
        """Make up to `count` queues and run them; fewer if no more can be had.

        `split`: an event channel for each ring. DeviceFatalError, or another
        XenvirtError or OSError, if there is not even one; nothing is held then.
        """
        async with Undo() as undo:
            queues: list[_FrontQueue] = []
            shown = StatsPages(end.label)
            undo.add(shown.close)
            while len(queues) < count:
                try:
                    stats = shown.of_queue(len(queues))
                    queues.append(
                        await _open_queue(end, len(queues), peer, split, stats, undo)
                    )
                except (XenvirtError, OSError) as error:
                    if not queues:
                        raise
                    log.warning(
                        "%s: only created %d queues: %s", end.label, len(queues), error
                    )
                    break
            end.interface.set_queues(len(queues))
            await end.interface.set_peer(peer)
            for number in range(len(queues)):
                await end.hypervisor.publish(
                    end.hypervisor.domid, end.devid, "front", number, shown.fd
                )
            running = [queue.queue for queue in queues]
            end.workers.add(running, end.hypervisor.domid + end.devid)
            undo.add(end.workers.remove, running)
            link = cls(end, queues, undo.take_all())
            log.info("%s: using event channel %s", end.label, link._ports())
            log.info("%s: using RX copy mode", end.label)
            return link

    async def settle(self) -> None:
        """Take no more frames from the domain; have those on the rings moved.

        A backend that does not take them in time is not waited for.
        """
        if not await self._workers.settle([each.queue for each in self._queues]):
            log.info("%s: the backend has not taken what is on the rings", self._label)

    async def close(self) -> None:
        """Let go of everything, last made first."""
        await self._undo.run()

    def keys(self) -> list[QueueKeys]:
        """What the backend must know of each queue."""
        return [queue.keys() for queue in self._queues]

    def broken(self) -> str | None:
        """Why one of the queues has stopped for good."""
        reasons = (queue.stats.broken() for queue in self._queues)
        return next(filter(None, reasons), None)

    def _ports(self) -> str:
        return ", ".join(
            "/".join(str(channel.port) for channel in queue.channels)
            for queue in self._queues
        )


async def _open_queue(
    end: End,
    number: int,
    peer: PeerFeatures,
    split: bool,
    stats: QueueStats,
    undo: Undo,
) -> _FrontQueue:
    """Make one queue, which no worker has yet; `undo` gets what closes it."""
    async with Undo() as own:
        if number >= len(end.interface.queue_fds):
            end.interface.set_queues(number + 1)
        channels = await open_channels(
            end.hypervisor,
            (end.hypervisor.alloc_unbound(end.otherend_id) for _ in range(1 + split)),
            own,
        )
        pages = await _grant(end)
        own.add(end.hypervisor.end, pages)
        queue = front_queue(
            QueueIO(
                end.interface.queue_fds[number], channels[0].evtchn, channels[-1].evtchn
            ),
            pages.table,
            front_buffers(pages),
            peer,
            stats,
        )
        own.add(queue.close)
        undo.take(own)
        return _FrontQueue(channels, pages, stats, queue)


async def _grant(end: End) -> GrantedPages:
    try:
        return await end.hypervisor.grant(end.otherend_id, READONLY)
    except HypercallError as error:
        raise_refused(error, "granting the rings and buffers")
