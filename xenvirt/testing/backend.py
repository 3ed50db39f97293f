"""A backend that does what a script says, against a real frontend."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from xenvirt.abi.xenbus import XenbusState
from xenvirt.testing.back_rings import BackRings, TxPacket
from xenvirt.testing.bare_domain import new_name
from xenvirt.testing.played_end import TIMEOUT_S, Changes, PlayedEnd
from xenvirt.testing.slots import Extra, RxResponse, TxResponse
from xenvirt.toolstack import domains, vif_nodes, vifs, vifspec
from xenvirt.toolstack.domains import DomainInfo
from xenvirt.vif import features, front_keys
from xenvirt.vif.handshake import HOTPLUG_CONNECTED

if TYPE_CHECKING:
    from xenvirt.hypervisor.eventfds import EventfdChannel


class BackQueue(BackRings):
    """One queue's rings, mapped, and its event channels, bound."""

    def __init__(self, end: "Backend", keys: front_keys.QueueKeys) -> None:
        table = end.table
        super().__init__(
            table,
            table.map(keys.tx_ring_ref, readonly=False),
            table.map(keys.rx_ring_ref, readonly=False),
        )
        self._end = end
        ports = dict.fromkeys((keys.event_channel_tx, keys.event_channel_rx))
        frontend = end.paths.frontend_id
        self.channels: tuple[EventfdChannel, ...] = tuple(
            end.domain.bind_interdomain(frontend, port) for port in ports
        )

    def notify(self) -> None:
        """Make the frontend look at the rings."""
        for channel in self.channels:
            channel.notify()

    def receive(self, count: int = 1) -> list[TxPacket]:
        """Wait until the frontend has sent `count` frames, or has given up."""
        packets: list[TxPacket] = []

        def done() -> bool:
            self.tx.req_event = self.tx_cons + 1
            while len(packets) < count and (found := self.tx_packets()):
                packets.extend(found)
                # What is sent before this is seen is not notified: look once more.
                self.tx.req_event = self.tx_cons + 1
            return len(packets) >= count or self._end.driver.has_given_up()

        self._end.wait_until(done, f"did not send {count} frames")
        return packets

    def answer(self, *responses: TxResponse) -> None:
        """Write TX responses into the next slots, push and notify."""
        super().answer(*responses)
        self.notify()

    def respond(self, *slots: RxResponse | Extra) -> None:
        """Write RX responses into the next slots, push and notify."""
        super().respond(*slots)
        self.notify()


class Backend(PlayedEnd):
    """The backend of a new vif; `driver` is the frontend, of a domain made for it.

    `frontend` is the name or number of a domain to use instead, which stays when the
    vif goes; for the others see `PlayedEnd`. Entering it raises NotFoundError without
    that domain.

    with Backend() as back:
        queue = back.connect()
        queue.deliver(bytes(60))
    """

    side = "back"

    def __init__(
        self,
        run_dir: Path | str | None = None,
        *,
        frontend: str | None = None,
        name: str | None = None,
        vif: tuple[str, ...] = (),
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        super().__init__(run_dir, name=name, vif=vif, timeout_s=timeout_s)
        self._frontend = frontend

    def _make_vif(self, undo: ExitStack) -> DomainInfo:
        frontend = self._frontend_domain(undo)
        spec = vifspec.parse([f"backend={self.domain.info.name}", *self._words])
        self.paths = vifs.write(self.host, domains.plan_vif(self.host, frontend, spec))
        undo.callback(vifs.remove, self.host, [self.paths], forced=True)
        self.queues: list[BackQueue] = []
        self.table = self.domain.table_of(frontend.domid)
        return frontend

    def _frontend_domain(self, undo: ExitStack) -> DomainInfo:
        if self._frontend is not None:
            return domains.find(self.host, self._frontend)
        made = domains.create(self.host, new_name())
        undo.callback(domains.destroy, self.host, made, timeout_s=vifs.CLOSE_TIMEOUT_S)
        return made

    def offer(self, changes: Changes | None = None) -> None:
        """Write a good backend's keys but for `changes`, and the state InitWait."""
        self.write(
            {
                **features.back_keys(),
                **features.back_keys_apart(),
                "hotplug-status": HOTPLUG_CONNECTED,
                "state": str(int(XenbusState.INIT_WAIT)),
                **(changes or {}),
            }
        )

    def accept(self) -> BackQueue:
        """Wait until the frontend is Connected, map and bind what it has written.

        The state stays as it is. Returns the first queue.
        """
        self.driver.wait_for(XenbusState.CONNECTED, timeout_s=self.timeout_s)
        found = vif_nodes.read_frontend(self.store, self.paths)
        count = int(found.get(features.NUM_QUEUES, "1"))
        keys = {name: found.get(name) for name in front_keys.names(count)}
        parsed = front_keys.parse(keys, self.paths.frontend, count)
        self.queues = [BackQueue(self, queue) for queue in parsed.queues]
        for queue in self.queues:
            for channel in queue.channels:
                self._signs.add(channel)
        return self.queues[0]

    def connect(self, changes: Changes | None = None) -> BackQueue:
        """Offer, accept, be Connected; return the first queue. StateTimeoutError."""
        self.offer(changes)
        self.accept()
        self.write({"state": str(int(XenbusState.CONNECTED))})
        vifs.connect(self.host, self.paths, timeout_s=self.timeout_s)
        return self.queues[0]

    def _leave(self) -> None:
        # Nobody is to wait for this backend to close, if the vif is still there.
        if self.host.store.exists(self.path):
            self.write({"state": str(int(XenbusState.CLOSED)), "hotplug-status": None})
