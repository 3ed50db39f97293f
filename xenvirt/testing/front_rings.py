"""The frontend's side of a queue's two rings: it writes what it is told.

TX is frontend to backend, RX backend to frontend.
"""

from collections.abc import Sequence
from typing import NamedTuple

from xenvirt.abi.netif import TxFlags
from xenvirt.errors import XenvirtError
from xenvirt.testing.packets import check_within_page, take
from xenvirt.testing.pages import Page, Pages
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


class RxFrame(NamedTuple):
    """A frame in the RX ring: its slots as they were, extras in their place."""

    data: bytes
    slots: list[RxResponse | Extra]


class FrontRings:
    """Both rings on pages of `pages`; all indices begin at `start`.

    `tx` and `rx` are the shared pages, every word of which may be written. The others,
    `tx_prod` (requests written), `tx_cons` (responses taken) and so on, are the
    frontend's own and are not reduced modulo 2**32; a script may set them too.
    """

    def __init__(self, pages: Pages, *, start: int = 0) -> None:
        self.pages = pages
        self.tx_page, self.rx_page = pages.share(), pages.share()
        self.tx = Ring(self.tx_page.data, TX_SLOT_SIZE)
        self.rx = Ring(self.rx_page.data, RX_SLOT_SIZE)
        self.tx.init(start)
        self.rx.init(start)
        self.tx_prod = self.tx_cons = self.rx_prod = self.rx_cons = start
        self.posted: dict[int, Page] = {}

    # ---- TX: requests out, responses in ----

    def page_with(self, data: bytes, offset: int = 0) -> int:
        """Return the gref of a new page, granted to be read, that holds `data`."""
        page = self.pages.share(readonly=True)
        page.data[offset : offset + len(data)] = data
        return page.gref

    def chain(
        self, frame: bytes, sizes: Sequence[int], flags: int = 0, first_id: int = 0
    ) -> list[TxRequest]:
        """Return requests for a frame cut into pieces of `sizes`, a page for each.

        `flags` are the first one's; more_data is set in all but the last.
        """
        requests, at = [], 0
        for number, size in enumerate(sizes):
            gref = self.page_with(frame[at : at + size])
            more = TxFlags.MORE_DATA if number < len(sizes) - 1 else 0
            total = sum(sizes) if number == 0 else size
            requests.append(TxRequest(gref, 0, flags | more, first_id + number, total))
            flags, at = 0, at + size
        return requests

    def put(self, *slots: TxRequest | Extra) -> None:
        """Write TX slots without pushing them."""
        for slot in slots:
            self.tx.write(self.tx_prod, slot)
            self.tx_prod += 1

    def push(self) -> None:
        """Let the backend see what was put."""
        self.tx.req_prod = self.tx_prod

    def responses(self) -> list[TxResponse]:
        """Return the TX responses that were not looked at before."""
        prod = self.tx.rsp_prod
        answered = []
        while self.tx.waiting(prod, self.tx_cons):
            answered.append(parse(TxResponse, self.tx.raw(self.tx_cons)))
            self.tx_cons += 1
        return answered

    # ---- RX: requests out, frames in ----

    def post(self, count: int) -> None:
        """Post `count` empty buffers; the id is the index."""
        for _ in range(count):
            self.post_page(self.pages.share())

    def post_page(self, page: Page) -> None:
        """Post this one."""
        self.posted[self.rx_prod] = page
        self.rx.write(self.rx_prod, RxRequest(self.rx_prod % 65536, page.gref))
        self.rx_prod += 1
        self.rx.req_prod = self.rx_prod

    def rx_frames(self) -> list[RxFrame]:
        """Return the frames that were not looked at before.

        XenvirtError if the next one is not all there, crosses a page, or is where no
        buffer was posted; its slots stay to be looked at, and so they do if there are
        frames before it, which are returned.
        """
        prod = self.rx.rsp_prod
        frames: list[RxFrame] = []
        while waiting := self.rx.waiting(prod, self.rx_cons):
            try:
                frame = self._rx_frame(waiting)
            except XenvirtError:
                if frames:
                    break
                raise
            self.rx_cons += len(frame.slots)
            frames.append(frame)
        return frames

    def _rx_frame(self, waiting: int) -> RxFrame:
        slots = take(self.rx, RxResponse, self.rx_cons, waiting)
        data = b""
        for index, slot in enumerate(slots, self.rx_cons):
            page = self.posted.get(index)
            if page is None:
                raise XenvirtError(
                    f"the driver answered in RX slot {index}",
                    cause="no buffer was posted there",
                )
            if isinstance(slot, RxResponse):
                size = max(slot.status, 0)
                check_within_page(slot.offset, size)
                data += page.data[slot.offset : slot.offset + size]
        return RxFrame(data, slots)
