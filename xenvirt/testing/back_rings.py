"""The backend's side of a queue's two rings: it answers what it is told.

TX is frontend to backend, RX backend to frontend.
"""

from collections.abc import Sequence

from xenvirt.errors import XenvirtError
from xenvirt.native.gnttab import PeerTable
from xenvirt.testing.packets import check_within_page, take
from xenvirt.testing.ring import Ring
from xenvirt.testing.slots import (
    RX_SLOT_SIZE,
    TX_SLOT_SIZE,
    Extra,
    RxRequest,
    RxResponse,
    TxRequest,
    TxResponse,
    parse,
)

TxPacket = list[TxRequest | Extra]
"""The slots of one frame, extras in their place."""


class BackRings:
    """Both rings, on pages that the frontend granted; `table` has all its grants.

    `tx` and `rx` are the shared pages, every word of which may be written. The others,
    `tx_cons` (requests taken), `tx_prod` (responses written) and so on, are the
    backend's own and are not reduced modulo 2**32; a script may set them too.
    """

    def __init__(
        self, table: PeerTable, tx_page: memoryview, rx_page: memoryview
    ) -> None:
        self.table = table
        self.tx = Ring(tx_page, TX_SLOT_SIZE)
        self.rx = Ring(rx_page, RX_SLOT_SIZE)
        self.tx_cons = self.tx_prod = self.tx.rsp_prod
        self.rx_cons = self.rx_prod = self.rx.rsp_prod

    # ---- TX: requests in, responses out ----

    def tx_packets(self) -> list[TxPacket]:
        """Return each frame's slots that were not looked at before.

        XenvirtError if the next one is not all there; its slots stay to be looked at,
        and so they do if there are frames before it, which are returned.
        """
        prod = self.tx.req_prod
        packets: list[TxPacket] = []
        while waiting := self.tx.waiting(prod, self.tx_cons):
            try:
                packet = take(self.tx, TxRequest, self.tx_cons, waiting)
            except XenvirtError:
                if packets:
                    break
                raise
            self.tx_cons += len(packet)
            packets.append(packet)
        return packets

    def data(self, packet: Sequence[TxRequest | Extra]) -> bytes:
        """Return the frame that the slots describe; the first one's size is its.

        XenvirtError for a slot that crosses its page, and for sizes that exceed the
        frame's; GrantError for a page that cannot be mapped.
        """
        requests = [slot for slot in packet if isinstance(slot, TxRequest)]
        first = requests[0].size - sum(request.size for request in requests[1:])
        if first < 0:
            raise XenvirtError(
                f"the driver sent a frame of {requests[0].size} bytes",
                cause=f"its other slots have {requests[0].size - first}",
            )
        data = b""
        for request, size in zip(
            requests, [first, *(r.size for r in requests[1:])], strict=True
        ):
            check_within_page(request.offset, size)
            page = self.table.map(request.gref, readonly=True)
            data += page[request.offset : request.offset + size]
            self.table.unmap(request.gref, readonly=True)
        return data

    def answer(self, *responses: TxResponse) -> None:
        """Write TX responses into the next slots and push them."""
        for response in responses:
            self.tx.write(self.tx_prod, response)
            self.tx_prod += 1
        self.tx.rsp_prod = self.tx_prod

    # ---- RX: requests in, frames out ----

    def request(self, index: int) -> RxRequest:
        """Return the buffer that was posted at an index."""
        return parse(RxRequest, self.rx.raw(index))

    def write_page(self, index: int, data: bytes, offset: int = 0) -> None:
        """Write into the buffer that the request at `index` posted."""
        gref = self.request(index).gref
        page = self.table.map(gref, readonly=False)
        page[offset : offset + len(data)] = data
        self.table.unmap(gref, readonly=False)

    def respond(self, *slots: RxResponse | Extra) -> None:
        """Write RX responses into the next slots and push them."""
        for slot in slots:
            self.rx.write(self.rx_prod, slot)
            self.rx_prod += 1
        self.rx.rsp_prod = self.rx_prod

    def deliver(self, frame: bytes, flags: int = 0) -> None:
        """Send the frontend one good frame of one slot."""
        self.write_page(self.rx_prod, frame)
        self.respond(RxResponse(0, flags=flags, status=len(frame)))
