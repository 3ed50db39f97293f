"""A frontend that does what a script says, against a real backend."""

from contextlib import ExitStack
from typing import Final

from xenvirt.abi.xenbus import XenbusState
from xenvirt.hypervisor.eventfds import EventfdChannel
from xenvirt.testing.front_rings import FrontRings, RxFrame
from xenvirt.testing.pages import DomainPages
from xenvirt.testing.played_end import Changes, PlayedEnd
from xenvirt.testing.slots import Extra, TxRequest, TxResponse
from xenvirt.toolstack import domains, vifs, vifspec
from xenvirt.toolstack.domains import DomainInfo
from xenvirt.toolstack.vif_nodes import remove_errors
from xenvirt.vif import features, front_keys
from xenvirt.vif.front_keys import QueueKeys

CONNECTED: Final = str(int(XenbusState.CONNECTED))


class FrontQueue(FrontRings):
    """One queue's rings and event channels, of which there may be but one."""

    pages: DomainPages

    def __init__(
        self, end: "Frontend", pages: DomainPages, channels: tuple[EventfdChannel, ...]
    ) -> None:
        super().__init__(pages)
        self._end = end
        self.channels = channels

    def keys(self) -> QueueKeys:
        """Return what a frontend would write of this queue."""
        return QueueKeys(
            self.tx_page.gref,
            self.rx_page.gref,
            self.channels[0].port,
            self.channels[-1].port,
        )

    def notify(self) -> None:
        """Make the backend look at the rings."""
        for channel in self.channels:
            channel.notify()

    def push(self, *, notify: bool = True) -> None:
        """Let the backend see what was put."""
        super().push()
        if notify:
            self.notify()

    def send(self, *slots: TxRequest | Extra) -> list[TxResponse]:
        """Put, push, and return the responses, one for each slot.

        There are fewer when the backend has given up: `end.driver.closed()` says why.
        """
        self.put(*slots)
        self.push()
        return self.answered(len(slots))

    def send_frame(self, frame: bytes) -> list[TxResponse]:
        """Send one good frame of one slot."""
        return self.send(TxRequest(self.page_with(frame), size=len(frame)))

    def answered(self, count: int) -> list[TxResponse]:
        """Wait for `count` TX responses, or until the backend has given up."""
        responses: list[TxResponse] = []
        self.tx.rsp_event = self.tx_cons + count

        def done() -> bool:
            responses.extend(self.responses())
            return len(responses) >= count or self._end.driver.has_given_up()

        self._end.wait_until(done, f"did not answer {count} TX requests")
        return responses

    def post(self, count: int) -> None:
        """Post `count` empty buffers and notify."""
        super().post(count)
        self.notify()

    def receive(self, count: int = 1) -> list[RxFrame]:
        """Wait for `count` frames; for fewer if the backend has given up."""
        frames: list[RxFrame] = []

        def done() -> bool:
            self.rx.rsp_event = self.rx_cons + 1
            while len(frames) < count and (found := self.rx_frames()):
                frames.extend(found)
                # What is sent before this is seen is not notified: look once more.
                self.rx.rsp_event = self.rx_cons + 1
            return len(frames) >= count or self._end.driver.has_given_up()

        self._end.wait_until(done, f"did not send {count} frames")
        return frames


class Frontend(PlayedEnd):
    """The frontend of a new vif; `driver` is the backend, by default domain 0's.

    with Frontend() as front:
        queue = front.connect()
        queue.send_frame(bytes(60))
    """

    side = "front"

    def _make_vif(self, undo: ExitStack) -> DomainInfo:
        info = self.domain.info
        spec = vifspec.parse(self._words)
        self.paths = vifs.write(self.host, domains.plan_vif(self.host, info, spec))
        self.pages = self.domain.pages(self.paths.backend_id)
        self.queues: list[FrontQueue] = []
        return info

    def make_queues(self, count: int = 1, *, split: bool = True) -> list[FrontQueue]:
        """Make so many queues anew; `split`: with an event channel for each ring."""
        backend = self.paths.backend_id
        self.queues = []
        for _ in range(count):
            channels = tuple(
                self.domain.alloc_unbound(backend) for _ in range(1 + split)
            )
            self.queues.append(FrontQueue(self, self.pages, channels))
            for channel in channels:
                self._signs.add(channel)
        return self.queues

    def good_keys(self) -> dict[str, str]:
        """Return what a good frontend with these queues would write, but its state."""
        keys = front_keys.write([queue.keys() for queue in self.queues])
        if len(self.queues) > 1:
            keys[features.NUM_QUEUES] = str(len(self.queues))
        return keys | features.front_keys()

    def offer(self, changes: Changes | None = None) -> None:
        """Write a good frontend's keys but for `changes`, then the state Connected.

        It waits for InitWait first, and makes a queue if there is none. What the
        backend makes of it is to be seen in `driver`.
        """
        self.driver.wait_for(XenbusState.INIT_WAIT, timeout_s=self.timeout_s)
        if not self.queues:
            self.make_queues()
        keys = self.good_keys()
        earlier: Changes = dict.fromkeys(front_keys.others(keys))
        self.write({**earlier, **keys, "state": CONNECTED, **(changes or {})})

    def connect(self, changes: Changes | None = None) -> FrontQueue:
        """Offer, wait until both ends are Connected, and return the first queue.

        StateTimeoutError, or XenvirtError with the backend's error node.
        """
        self.offer(changes)
        vifs.connect(self.host, self.paths, timeout_s=self.timeout_s)
        return self.queues[0]

    def start_over(self) -> None:
        """Be a frontend that begins again, after it crashed or had an error.

        Returns when the backend is at InitWait; the queues of before are gone, and
        what either end had left as its error.
        """
        self.host.store.transact(lambda nodes: remove_errors(nodes, self.paths))
        self.write({"state": str(int(XenbusState.INITIALISING))})
        self.driver.wait_for(XenbusState.INIT_WAIT, timeout_s=self.timeout_s)
        for queue in self.queues:
            for channel in queue.channels:
                self.domain.close_channel(channel)
        self.queues = []
