"""A frontend and a backend that write what they like, against one real queue."""

from contextlib import ExitStack

from tests.native.helpers import BUDGET, EVERYTHING, BackEnd, Channel, FrontEnd, Link
from xenvirt.native.queue import PeerFeatures
from xenvirt.testing.back_rings import BackRings
from xenvirt.testing.front_rings import FrontRings
from xenvirt.testing.slots import Extra, RxResponse, TxRequest, TxResponse


class ScriptedFront(FrontRings):
    """A frontend that writes what it likes; the backend queue on its rings is real.

    `start` is where all ring indices begin, `end` the real one.
    """

    def __init__(
        self,
        stack: ExitStack,
        front_takes: PeerFeatures = EVERYTHING,
        *,
        start: int = 0,
    ) -> None:
        self.takes = front_takes
        self.link = Link(stack)
        self.channel = Channel(stack)
        super().__init__(self.link, start=start)
        refs = (self.tx_page.gref, self.rx_page.gref)
        self.end = BackEnd(stack, self.link, self.channel, refs, front_takes)

    def run_tx(self) -> int:
        self.end.queue.tap_ready(writable=True)
        return self.end.queue.back_tx(BUDGET)

    def send(self, *slots: TxRequest | Extra) -> list[TxResponse]:
        """Put, push, let the backend run; what it answered."""
        self.put(*slots)
        self.push()
        self.run_tx()
        return self.responses()

    def send_frame(self, frame: bytes) -> list[TxResponse]:
        """One good frame of one slot."""
        return self.send(TxRequest(self.page_with(frame), size=len(frame)))

    def run_rx(self) -> int:
        self.end.queue.tap_ready(readable=True)
        return self.end.queue.back_rx(BUDGET)


class ScriptedBack(BackRings):
    """A backend that answers what it likes; the frontend queue on its rings is real."""

    def __init__(self, stack: ExitStack, back_takes: PeerFeatures = EVERYTHING) -> None:
        self.link = Link(stack)
        self.channel = Channel(stack)
        self.end = FrontEnd(stack, self.link, self.channel, back_takes)
        buffers = self.end.buffers
        tx_page, rx_page = buffers.tx_ring_frame, buffers.rx_ring_frame
        super().__init__(
            self.link.peer_table, self.link.page(tx_page), self.link.page(rx_page)
        )

    def run_tx(self) -> int:
        self.end.queue.tap_ready(readable=True)
        return self.end.queue.front_tx(BUDGET)

    def run_rx(self) -> int:
        self.end.queue.tap_ready(writable=True)
        return self.end.queue.front_rx(BUDGET)

    def respond(self, *slots: RxResponse | Extra) -> None:
        """Write responses in the next slots, push them, let the frontend run."""
        super().respond(*slots)
        self.run_rx()
