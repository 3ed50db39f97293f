"""What a connected backend holds: the frontend's queues, mapped, bound and run."""

import errno
from dataclasses import dataclass

from xenvirt.abi.ids import Port
from xenvirt.errors import HypercallError
from xenvirt.hypervisor.interface import EventChannel
from xenvirt.native.gnttab import PeerTable
from xenvirt.native.queue import PeerFeatures, Queue, QueueIO, back_queue
from xenvirt.native.queue_stats import QueueStats
from xenvirt.vif.channels import open_channels
from xenvirt.vif.end import End
from xenvirt.vif.front_keys import FrontKeys, QueueKeys
from xenvirt.vif.queue_stats import StatsPages
from xenvirt.vif.rate import Credit
from xenvirt.vif.undo import Undo
from xenvirt.vif.workers import Workers
from xenvirt.xenbus.device import DeviceFatalError, raise_refused


@dataclass(frozen=True, slots=True)
class _BackQueue:
    """`channels` are the TX ring's and the RX ring's, or one for both."""

    channels: tuple[EventChannel, ...]
    stats: QueueStats
    queue: Queue


class BackLink:
    """The queues of a connected vif, in their order, until `close`.

    `stalled`: the frontend had posted no RX buffers for too long, when last looked.
    """

    def __init__(self, queues: list[_BackQueue], workers: Workers, undo: Undo) -> None:
        self._queues = queues
        self._workers = workers
        self._undo = undo
        self.stalled = False

    @classmethod
    async def open(
        cls, end: End, keys: FrontKeys, credit: Credit, rx_timeouts: tuple[int, int]
    ) -> "BackLink":
        """Bind and map all that `keys` says, and run it, each queue with its limits.

        DeviceFatalError, or another XenvirtError or OSError, if any of it cannot be;
        nothing is held then.
        """
        async with Undo() as undo:
            table = await _acquire_table(end)
            undo.add(end.hypervisor.release_table, end.otherend_id)
            shown = StatsPages(end.label)
            undo.add(shown.close)
            end.interface.set_queues(len(keys.queues))
            queues = [
                await _open_queue(
                    end, number, its, table, keys.peer, shown.of_queue(number), undo
                )
                for number, its in enumerate(keys.queues)
            ]
            await end.interface.set_peer(keys.peer)
            for number in range(len(queues)):
                await end.hypervisor.publish(
                    end.otherend_id, end.devid, "back", number, shown.fd
                )
            running = [queue.queue for queue in queues]
            for each in running:
                each.set_credit(credit.nr_bytes, credit.usec)
                each.set_rx_timeouts(*rx_timeouts)
            end.workers.add(running, end.otherend_id + end.devid)
            undo.add(end.workers.remove, running)
            return cls(queues, end.workers, undo.take_all())

    async def close(self) -> None:
        """Let go of everything, last made first."""
        await self._undo.run()

    async def settle(self, *, held: bool) -> None:
        """Take no more frames from the host; have the requests on the rings moved.

        With `held` also a frame that waits for slots. What is not moved in time stays.
        """
        await self._workers.settle([each.queue for each in self._queues], held=held)

    def set_credit(self, credit: Credit) -> None:
        """Limit what the frontend sends from now on, in each queue."""
        running = [queue.queue for queue in self._queues]
        self._workers.set_credit(running, credit.nr_bytes, credit.usec)

    def notify(self) -> None:
        """Make every event channel pending at the frontend."""
        for queue in self._queues:
            for channel in queue.channels:
                channel.notify()

    def stall_changed(self) -> bool:
        """Look whether one of the queues is stalled, and whether that is new."""
        was = self.stalled
        self.stalled = any(queue.stats.rx_stalled() for queue in self._queues)
        return self.stalled != was

    def broken(self) -> str | None:
        """Why one of the queues has stopped for good."""
        reasons = (queue.stats.broken() for queue in self._queues)
        return next(filter(None, reasons), None)


async def _acquire_table(end: End) -> PeerTable:
    try:
        return await end.hypervisor.acquire_table(end.otherend_id)
    except HypercallError as error:
        raise_refused(error, f"mapping memory of domain {end.otherend_id}")


async def _open_queue(
    end: End,
    number: int,
    keys: QueueKeys,
    table: PeerTable,
    peer: PeerFeatures,
    stats: QueueStats,
    undo: Undo,
) -> _BackQueue:
    """Bind and map one queue, which no worker has yet; `undo` gets what closes it."""
    ports = dict.fromkeys((keys.event_channel_tx, keys.event_channel_rx))
    channels = await open_channels(
        end.hypervisor, (_bind(end, port) for port in ports), undo
    )
    io = QueueIO(
        end.interface.queue_fds[number], channels[0].evtchn, channels[-1].evtchn
    )
    try:
        queue = back_queue(io, table, keys.tx_ring_ref, keys.rx_ring_ref, peer, stats)
    except OSError as error:
        raise DeviceFatalError(error.errno or errno.EIO, keys.mapping) from error
    undo.add(queue.close)
    return _BackQueue(channels, stats, queue)


async def _bind(end: End, port: Port) -> EventChannel:
    try:
        return await end.hypervisor.bind_interdomain(end.otherend_id, port)
    except HypercallError as error:
        raise_refused(error, f"binding event channel {port}")
