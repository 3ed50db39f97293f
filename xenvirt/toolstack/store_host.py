"""XenStore as the daemon runs it: the engine, its sockets and every domain's ring."""

import asyncio
import contextlib
import logging
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from xenvirt.abi.ids import DOM0, DomId, Gfn, Port
from xenvirt.abi.xs_wire import XsWire
from xenvirt.errors import HypercallError, StoreError
from xenvirt.hypervisor.interface import EventChannel
from xenvirt.hypervisor.memory import STORE_GFN
from xenvirt.hypervisor.system import System
from xenvirt.native import XsRingPage
from xenvirt.xenstore.engine import Engine
from xenvirt.xenstore.framing import Message, MessageDecoder
from xenvirt.xenstore.ring import RingServerTransport
from xenvirt.xenstore.asyncio_server import StoreProtocol

if TYPE_CHECKING:
    from xenvirt.hypervisor.evtchn import PortEntry

MAX_SOCKETS_PER_DOMAIN: Final = 64
"""Connections of one domain by `open_xenbus`; domain 0 has no limit."""

_LIBXL: Final = "/libxl"
_RING_INDICES: Final = slice(2048, 2064)
"""req_cons, req_prod, rsp_cons and rsp_prod in the ring page (xs_wire.h)."""

_BACKEND_PATH: Final = re.compile(rb"/local/domain/(\d{1,5})/backend/vif/.+")

_log = logging.getLogger(__name__)


class _Ring:
    """One domain's ring: domain 0's port on its channel, and the transport."""

    def __init__(
        self, system: System, engine: Engine, domid: DomId, port: Port
    ) -> None:
        self._system = system
        self._memory = system.memory(domid)
        self._entry: PortEntry = system.ports.bind_interdomain(DOM0, domid, port)
        # The port table's descriptors, which stay open until `close`.
        channel = EventChannel(
            self._entry.port, self._entry.pending_fd, self._entry.notify_fd
        )
        self._page = XsRingPage(self._memory.map, self._memory.store_offset, "server")
        self._transport = RingServerTransport(engine, domid, self._page, channel)
        self.port = port

    def close(self) -> None:
        self._transport.close()
        self._page.close()
        self._system.ports.close(DOM0, self._entry.port)

    def reset(self) -> None:
        """Empty both queues of a ring that is closed."""
        offset = self._memory.store_offset
        self._memory.map[offset + _RING_INDICES.start : offset + _RING_INDICES.stop] = (
            bytes(16)
        )


class StoreHost:
    """Owns the engine and all that is connected to it.

    It is what the engine asks about domains, what hypercalls ask about vifs, and where
    `open_xenbus` ends. `on_backend(domid)` is called when the toolstack has written
    a vif whose backend is in that domain, again for each change.
    """

    def __init__(self, system: System, *, on_backend: Callable[[DomId], None]) -> None:
        self.engine = Engine(self)
        self._system = system
        self._on_backend = on_backend
        self._rings: dict[DomId, _Ring] = {}
        self._clients: set[StoreProtocol] = set()
        self._sockets: Counter[DomId] = Counter()
        self._server: asyncio.Server | None = None
        self._decoder = MessageDecoder()
        self._watcher = self.engine.connect(DOM0, privileged=True)
        self._watcher.wake = self._woken
        self.engine.handle(
            self._watcher, Message(XsWire.WATCH, 0, 0, f"{_LIBXL}\0vifs\0".encode())
        )

    async def listen(self, listening: socket.socket) -> None:
        """Serve privileged clients on a listening socket, which it owns from now on."""

        def client() -> StoreProtocol:
            return self._client(DOM0, privileged=True)

        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(client, sock=listening)

    async def close(self) -> None:
        """Stop serving everybody."""
        for domid in list(self._rings):
            self.release(domid)
        if self._server is not None:
            self._server.close()
        for client in list(self._clients):
            client.abort()
        if self._server is not None:
            await self._server.wait_closed()

    def domain_dead(self, domid: DomId) -> None:
        """Drop a domain's connections, nodes and rights."""
        self.release(domid)
        self.engine.domain_dead(domid)

    def restart_ring(self, domid: DomId) -> None:
        """Begin anew with the empty ring of a domain whose process has died.

        Its watches and transactions go. Nothing happens if it is not introduced.
        """
        ring = self._rings.get(domid)
        if ring is not None:
            self.introduce(domid, STORE_GFN, ring.port)

    def exists(self, domid: DomId) -> bool:
        """See `xenstore.domains.Domains`."""
        return domid in self._system.domains

    def introduce(self, domid: DomId, gfn: Gfn, port: Port) -> None:
        """See `xenstore.domains.Domains`; a known domain's ring is emptied."""
        try:
            expected = self._system.store_port(domid).port
            if (gfn, port) != (STORE_GFN, expected):
                raise HypercallError(
                    "EINVAL",
                    f"the ring of domain {domid} is gfn {STORE_GFN} and port "
                    f"{expected}, not gfn {gfn} and port {port}",
                )
            known = self._rings.pop(domid, None)
            if known is not None:
                known.close()
                known.reset()
            self._rings[domid] = _Ring(self._system, self.engine, domid, port)
        except HypercallError as error:
            _log.warning("XenStore cannot introduce domain %d: %s", domid, error)
            raise StoreError(error.errno_name, "INTRODUCE", str(domid)) from error

    def release(self, domid: DomId) -> None:
        """See `xenstore.domains.Domains`."""
        ring = self._rings.pop(domid, None)
        if ring is not None:
            ring.close()

    def has_vif(self, backend_domid: DomId, frontend_domid: DomId) -> bool:
        """See `hypervisor.operations.VifRegistry`."""
        return backend_domid in self._backends_of(frontend_domid)

    async def attach(self, sock: socket.socket, domid: DomId, privileged: bool) -> None:
        """See `hypervisor.operations.XenbusPort`; ENOSPC with too many of a domain."""
        if not privileged and self._sockets[domid] >= MAX_SOCKETS_PER_DOMAIN:
            raise HypercallError(
                "ENOSPC",
                f"domain {domid} has {MAX_SOCKETS_PER_DOMAIN} connections "
                "to the store already",
            )
        self._sockets[domid] += 1
        client: StoreProtocol | None = None

        def make() -> StoreProtocol:
            nonlocal client
            client = self._client(domid, privileged=privileged)
            return client

        try:
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(make, sock)
        except BaseException:
            self._sockets[domid] -= 1
            raise

    def _client(self, domid: DomId, *, privileged: bool) -> StoreProtocol:
        def lost(client: StoreProtocol) -> None:
            self._clients.discard(client)
            self._sockets[domid] -= 1

        client = StoreProtocol(self.engine, domid, privileged=privileged, lost=lost)
        self._clients.add(client)
        return client

    def _backends_of(self, frontend_domid: DomId) -> Iterator[DomId]:
        # Only domain 0 can write there, so neither end can invent a vif.
        vifs = f"{_LIBXL}/{frontend_domid}/device/vif"
        directory = self.engine.store.get(vifs)
        for devid in directory.children if directory is not None else ():
            node = self.engine.store.get(f"{vifs}/{devid}/backend")
            match = _BACKEND_PATH.fullmatch(node.value) if node is not None else None
            if match is not None:
                yield DomId(int(match[1]))

    def _woken(self) -> None:
        # It is called from within a request of somebody else's.
        asyncio.get_running_loop().call_soon(self._read_events)

    def _read_events(self) -> None:
        events = self._decoder.feed(b"".join(self._watcher.take()))
        frontends = {
            path[2]
            for event in events
            if event.type == XsWire.WATCH_EVENT
            and len(path := event.payload.split(b"/")) > 2
        }
        for frontend in frontends:
            with contextlib.suppress(ValueError):
                for backend in self._backends_of(DomId(int(frontend))):
                    self._on_backend(backend)
