"""The pages of a frontend's queue: two rings, and 256 buffers for each direction.

They are granted once for the life of the queue. TX is frontend to backend.
"""

from typing import Final

from xenvirt.abi.ids import Gref
from xenvirt.abi.netif import NET_RX_RING_SIZE, NET_TX_RING_SIZE
from xenvirt.hypervisor.interface import GrantedPages
from xenvirt.native.queue import FrontBuffers

NR_RINGS: Final = 2
QUEUE_PAGES: Final = NR_RINGS + NET_TX_RING_SIZE + NET_RX_RING_SIZE

_TX: Final = slice(NR_RINGS, NR_RINGS + NET_TX_RING_SIZE)
_RX: Final = slice(NR_RINGS + NET_TX_RING_SIZE, QUEUE_PAGES)

READONLY: Final = tuple(_TX.start <= n < _TX.stop for n in range(QUEUE_PAGES))
"""Which of a queue's pages the backend may only read."""


def tx_ring_ref(pages: GrantedPages) -> Gref:
    """The TX ring's page."""
    return pages.grefs[0]


def rx_ring_ref(pages: GrantedPages) -> Gref:
    """The RX ring's page."""
    return pages.grefs[1]


def front_buffers(pages: GrantedPages) -> FrontBuffers:
    """The pages as the queue wants them."""
    return FrontBuffers(
        tx_ring_frame=pages.frames[0],
        rx_ring_frame=pages.frames[1],
        tx_grefs=pages.grefs[_TX],
        tx_frames=pages.frames[_TX],
        rx_grefs=pages.grefs[_RX],
        rx_frames=pages.frames[_RX],
    )
