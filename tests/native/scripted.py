"""A frontend and a backend that write what they like into the rings."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

from tests.native.helpers import (
    BUDGET,
    EVERYTHING,
    BackEnd,
    Channel,
    FrontEnd,
    Link,
    Page,
)
from tests.native.wire import (
    U32,
    Extra,
    Ring,
    RxRequest,
    RxResponse,
    TxRequest,
    TxResponse,
    parse,
)
from xenvirt.native import PeerFeatures


class RxFrame(NamedTuple):
    """A frame in the RX ring: its slots as they were, extras in their place."""

    data: bytes
    slots: list[RxResponse | Extra]


class ScriptedFront:
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
        self.tx_page, self.rx_page = self.link.share(), self.link.share()
        self.tx, self.rx = Ring(self.tx_page.data, 12), Ring(self.rx_page.data, 8)
        self.tx.init(start)
        self.rx.init(start)
        self.tx_prod = self.tx_cons = self.rx_prod = self.rx_cons = start
        self.posted: dict[int, Page] = {}
        refs = (self.tx_page.gref, self.rx_page.gref)
        self.end = BackEnd(stack, self.link, self.channel, refs, front_takes)

    # ---- TX: requests out, responses in ----

    def page_with(self, data: bytes, offset: int = 0) -> int:
        """The gref of a new page, granted to be read, that holds `data`."""
        page = self.link.share(readonly=True)
        page.data[offset : offset + len(data)] = data
        return page.gref

    def put(self, *slots: TxRequest | Extra) -> None:
        """Write slots without pushing them."""
        for slot in slots:
            self.tx.write(self.tx_prod, slot)
            self.tx_prod += 1

    def push(self) -> None:
        self.tx.req_prod = self.tx_prod

    def run_tx(self) -> int:
        self.end.queue.tap_ready(writable=True)
        return self.end.queue.back_tx(BUDGET)

    def send(self, *slots: TxRequest | Extra) -> list[TxResponse]:
        """Put, push, let the backend run; what it answered."""
        self.put(*slots)
        self.push()
        self.run_tx()
        return self.responses()

    def chain(
        self, frame: bytes, sizes: Sequence[int], flags: int = 0, first_id: int = 0
    ) -> list[TxRequest]:
        """Requests for a frame cut into pieces of `sizes`, each in its own page."""
        requests, at = [], 0
        for number, size in enumerate(sizes):
            gref = self.page_with(frame[at : at + size])
            more = 4 if number < len(sizes) - 1 else 0
            total = sum(sizes) if number == 0 else size
            requests.append(TxRequest(gref, 0, flags | more, first_id + number, total))
            flags, at = 0, at + size
        return requests

    def send_frame(self, frame: bytes) -> list[TxResponse]:
        """One good frame of one slot."""
        return self.send(TxRequest(self.page_with(frame), size=len(frame)))

    def responses(self) -> list[TxResponse]:
        """The responses that were not looked at before."""
        answered = []
        while self.tx_cons % U32 != self.tx.rsp_prod:
            answered.append(parse(TxResponse, self.tx.raw(self.tx_cons)))
            self.tx_cons += 1
        return answered

    # ---- RX: requests out, frames in ----

    def post(self, count: int) -> None:
        """Post `count` empty buffers; the id is the index."""
        for _ in range(count):
            self.post_page(self.link.share())

    def post_page(self, page: Page) -> None:
        self.posted[self.rx_prod] = page
        self.rx.write(self.rx_prod, RxRequest(self.rx_prod % 65536, page.gref))
        self.rx_prod += 1
        self.rx.req_prod = self.rx_prod

    def run_rx(self) -> int:
        self.end.queue.tap_ready(readable=True)
        return self.end.queue.back_rx(BUDGET)

    def rx_frames(self) -> list[RxFrame]:
        """The frames that were not looked at before."""
        frames = []
        while self.rx_cons % U32 != self.rx.rsp_prod:
            frames.append(self._rx_frame())
        return frames

    def _rx_frame(self) -> RxFrame:
        slots: list[RxResponse | Extra] = []
        data, more, extra = b"", True, False
        while more or extra:
            raw, page = self.rx.raw(self.rx_cons), self.posted[self.rx_cons]
            self.rx_cons += 1
            if extra:
                info = parse(Extra, raw)
                slots.append(info)
                extra = bool(info.flags & 1)
                continue
            response = parse(RxResponse, raw)
            extra = not slots and bool(response.flags & 8)
            more = bool(response.flags & 4)
            slots.append(response)
            start, size = response.offset, max(response.status, 0)
            data += page.data[start : start + size]
        return RxFrame(data, slots)


class ScriptedBack:
    """A backend that answers what it likes; the frontend queue on its rings is real."""

    def __init__(self, stack: ExitStack, back_takes: PeerFeatures = EVERYTHING) -> None:
        self.link = Link(stack)
        self.channel = Channel(stack)
        self.end = FrontEnd(stack, self.link, self.channel, back_takes)
        buffers = self.end.buffers
        self.tx = Ring(self.link.page(buffers.tx_ring_frame), 12)
        self.rx = Ring(self.link.page(buffers.rx_ring_frame), 8)
        self.tx_cons = self.tx_prod = self.rx_cons = self.rx_prod = 0

    # ---- TX: requests in, responses out ----

    def run_tx(self) -> int:
        self.end.queue.tap_ready(readable=True)
        return self.end.queue.front_tx(BUDGET)

    def tx_packets(self) -> list[list[TxRequest | Extra]]:
        """The slots of each frame that was not looked at before."""
        packets = []
        while self.tx_cons % U32 != self.tx.req_prod:
            packets.append(self._tx_packet())
        return packets

    def _tx_packet(self) -> list[TxRequest | Extra]:
        slots: list[TxRequest | Extra] = []
        more, extra = True, False
        while more or extra:
            raw = self.tx.raw(self.tx_cons)
            self.tx_cons += 1
            if extra:
                info = parse(Extra, raw)
                slots.append(info)
                extra = bool(info.flags & 1)
                continue
            request = parse(TxRequest, raw)
            extra = not slots and bool(request.flags & 8)
            more = bool(request.flags & 4)
            slots.append(request)
        return slots

    def data(self, packet: Sequence[TxRequest | Extra]) -> bytes:
        """The frame that the requests describe; the first one's size is the whole."""
        requests = [slot for slot in packet if isinstance(slot, TxRequest)]
        first = requests[0].size - sum(request.size for request in requests[1:])
        data = b""
        for request, size in zip(
            requests, [first, *(r.size for r in requests[1:])], strict=True
        ):
            page = self.link.peer_table.map(request.gref, readonly=True)
            data += page[request.offset : request.offset + size]
            self.link.peer_table.unmap(request.gref, readonly=True)
        return data

    def answer(self, *responses: TxResponse) -> None:
        for response in responses:
            self.tx.write(self.tx_prod, response)
            self.tx_prod += 1
        self.tx.rsp_prod = self.tx_prod

    # ---- RX: requests in, frames out ----

    def run_rx(self) -> int:
        self.end.queue.tap_ready(writable=True)
        return self.end.queue.front_rx(BUDGET)

    def request(self, index: int) -> RxRequest:
        return parse(RxRequest, self.rx.raw(index))

    def write_page(self, index: int, data: bytes, offset: int = 0) -> None:
        """Write into the buffer that the request at `index` posted."""
        gref = self.request(index).gref
        page = self.link.peer_table.map(gref, readonly=False)
        page[offset : offset + len(data)] = data
        self.link.peer_table.unmap(gref, readonly=False)

    def respond(self, *slots: RxResponse | Extra) -> None:
        """Write responses in the next slots, push them, let the frontend run."""
        for slot in slots:
            self.rx.write(self.rx_prod, slot)
            self.rx_prod += 1
        self.rx.rsp_prod = self.rx_prod
        self.run_rx()

    def deliver(self, frame: bytes, flags: int = 0) -> None:
        """One good frame of one slot."""
        self.write_page(self.rx_prod, frame)
        self.respond(RxResponse(0, flags=flags, status=len(frame)))
