"""A frontend and a backend that do exactly what a script says, slot by slot.

They use the real rings, grants, event channels and store of a running daemon, so that
what is on the other side is the driver under test: ours, or any that connects to it.

    with Frontend() as front:
        queue = front.connect()
        frame = bytes(60)
        queue.send(*queue.chain(frame, [14, 46]))

docs/testing-peer.md has more. TX is frontend to backend, RX backend to frontend.
"""

from xenvirt.abi.netif import ExtraType, GsoType, NetifRsp, RxFlags, TxFlags
from xenvirt.abi.xenbus import XenbusState
from xenvirt.testing.back_rings import BackRings, TxPacket
from xenvirt.testing.backend import Backend, BackQueue
from xenvirt.testing.driver import Driver
from xenvirt.testing.front_rings import FrontRings, RxFrame
from xenvirt.testing.frontend import Frontend, FrontQueue
from xenvirt.testing.pages import DomainPages, Page
from xenvirt.testing.rewriting import rewriting
from xenvirt.testing.ring import RING_SIZE, U32, Ring
from xenvirt.testing.slots import (
    Extra,
    RxRequest,
    RxResponse,
    TxRequest,
    TxResponse,
    gso,
    pack,
    parse,
)
from xenvirt.testing.wire import Tap

__all__ = [
    "RING_SIZE",
    "U32",
    "BackQueue",
    "BackRings",
    "Backend",
    "DomainPages",
    "Driver",
    "Extra",
    "ExtraType",
    "FrontQueue",
    "FrontRings",
    "Frontend",
    "GsoType",
    "NetifRsp",
    "Page",
    "Ring",
    "RxFlags",
    "RxFrame",
    "RxRequest",
    "RxResponse",
    "Tap",
    "TxFlags",
    "TxPacket",
    "TxRequest",
    "TxResponse",
    "XenbusState",
    "gso",
    "pack",
    "parse",
    "rewriting",
]
