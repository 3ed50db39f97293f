"""XenStore as the daemon runs it: the store, its sockets and every domain's ring."""

import asyncio
import errno
import logging
import os
import re
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Final

from xenvirt.abi.ids import DOM0, DOMID_FIRST_RESERVED, DomId, Gfn, Port
from xenvirt.errors import HypercallError
from xenvirt.hypervisor.memory import STORE_GFN
from xenvirt.hypervisor.system import System
from xenvirt.xenstore.client import Client
from xenvirt.xenstore.errors import (
    RequestError,
    StoreConnectionError,
    StoreNotFoundError,
)
from xenvirt.xenstore.server import StoreServer, Upcall, UpcallKind

MAX_SOCKETS_PER_DOMAIN: Final = 64
"""Connections of one domain by `open_xenbus`; domain 0 has no limit."""

_LIBXL: Final = "/libxl"
_BACKEND_PATH: Final = re.compile(r"/local/domain/(\d{1,5})/backend/vif/.+", re.ASCII)
_VIF_NODE: Final = re.compile(r"/libxl/\d+/device/vif/\d+/backend", re.ASCII)

_log = logging.getLogger(__name__)

OnUpdate = Callable[[int, list[str]], None]
"""Takes the id of the connection that asks, and the parameters."""


class _Ring:
    """Domain 0's end of a domain's ring, until `close`.

    `was_bound`: an earlier daemon has had that end.
    """

    def __init__(self, system: System, domid: DomId) -> None:
        self._system = system
        theirs = system.store_port(domid)
        self.was_bound = theirs.remote_port is not None
        self.entry = (
            system.ports.bind_interdomain(DOM0, domid, theirs.port)
            if theirs.remote_port is None
            else system.ports.get(DOM0, theirs.remote_port)
        )
        self.page = system.memory(domid).store_page()

    def close(self) -> None:
        self.page.release()
        self._system.ports.close(DOM0, self.entry.port)


class StoreHost:
    """Owns the store and all that is connected to it.

    It does what the store cannot do by itself (upcalls), is what hypercalls ask about
    vifs, and where `open_xenbus` ends. `on_backend(domid)` is called when the
    toolstack has written a vif whose backend is in that domain, again for each
    change; `on_update` gets each request for a live update, to be answered.
    """

    def __init__(
        self,
        system: System,
        *,
        journal: Path,
        state_fd: int | None,
        on_backend: Callable[[DomId], None],
        on_update: OnUpdate,
    ) -> None:
        if state_fd is None:
            self._store = StoreServer(journal)
        else:
            self._store = StoreServer.restore(state_fd, journal)
            os.close(state_fd)
        self._goes_on = state_fd is not None
        self._system = system
        self._on_backend = on_backend
        self._on_update = on_update
        self._rings: dict[DomId, _Ring] = {}
        self._dead: set[DomId] = set()
        self._stack = AsyncExitStack()
        self._client: Client
        self._loop = asyncio.get_running_loop()

    def serve_known_rings(self) -> None:
        """Take up what an earlier daemon served; what is of domains that are gone goes.

        A domain finds that it has to connect again, but after a live update.
        """
        for domid in map(DomId, self._store.domains()):
            if domid not in self._system.domains and domid < DOMID_FIRST_RESERVED:
                if self._store.is_introduced(domid):
                    self._dead.add(domid)
                self._store.domain_dead(domid)
        for domain in self._system.domains:
            self._store.domain_created(domain.domid)
            if domain.domid != DOM0 and self._store.is_introduced(domain.domid):
                self._serve_ring(domain.domid)
        # From now on they are rings that a dead daemon may have served.
        self._goes_on = False

    async def start(self, listening: Sequence[socket.socket]) -> None:
        """Serve clients of two sockets, privileged ones and readers of the trace.

        None are given if the store has them already; they are the store's now.
        """
        ours, theirs = socket.socketpair()
        self._store.adopt(theirs, DOM0, privileged=True)
        self._client = await self._stack.enter_async_context(
            await Client.connect_socket(ours)
        )
        for domid in self._dead.union(await self._recorded()):
            if domid not in self._system.domains:
                await self._remove_nodes(domid)
        watching = self._loop.create_task(self._watch_vifs())
        self._stack.push_async_callback(_cancelled, watching)
        self._loop.add_reader(self._store.upcall_fd, self._take_upcalls)
        self._stack.callback(self._loop.remove_reader, self._store.upcall_fd)
        if listening:
            clients, readers = listening
            self._store.listen(clients)
            self._store.trace(readers)

    async def close(self) -> None:
        """Stop serving everybody."""
        await self._stack.aclose()
        for domid in list(self._rings):
            self._release(domid)
        self._store.close()

    def save(self, *, force: bool) -> int:
        """Stop, and leave everything to the next image; see `StoreServer.save`."""
        return self._store.save(force=force)

    def resume(self) -> None:
        """Go on after `save`."""
        self._store.resume()

    def answer(self, conn_id: int, error: int = 0) -> None:
        """Let a request for a live update end; see `StoreServer.answer`."""
        self._store.answer(conn_id, error)

    def nr_nodes(self) -> int:
        """Return how many nodes there are."""
        return self._store.nodes()

    def domain_created(self, domid: DomId) -> None:
        """There is such a domain from now on."""
        self._store.domain_created(domid)

    def domain_dead(self, domid: DomId) -> None:
        """Drop a domain's connections, nodes and rights."""
        self._release(domid)
        self._store.domain_dead(domid)

    def restart_ring(self, domid: DomId) -> None:
        """Begin anew with the empty ring of a domain whose process has died.

        Its watches and transactions go. Nothing happens if it is not introduced.
        """
        if domid in self._rings:
            self._store.reset_ring(domid)

    async def has_vif(self, backend_domid: DomId, frontend_domid: DomId) -> bool:
        """See `hypervisor.operations.VifRegistry`."""
        async for backend in self._backends_of(frontend_domid):
            if backend == backend_domid:
                return True
        return False

    def attach(self, sock: socket.socket, domid: DomId, privileged: bool) -> None:
        """See `hypervisor.operations.XenbusPort`; ENOSPC with too many of a domain."""
        if not privileged and self._store.sockets_of(domid) >= MAX_SOCKETS_PER_DOMAIN:
            raise HypercallError(
                "ENOSPC",
                f"domain {domid} has {MAX_SOCKETS_PER_DOMAIN} connections "
                "to the store already",
            )
        self._store.adopt(sock, domid, privileged=privileged)

    # What the store asks for.

    def _take_upcalls(self) -> None:
        while (upcall := self._store.next_upcall()) is not None:
            if upcall.kind is UpcallKind.LIVE_UPDATE:
                self._on_update(upcall.conn_id, upcall.parameters)
            else:
                self._loop.create_task(self._serve_upcall(upcall))

    async def _serve_upcall(self, upcall: Upcall) -> None:
        error = 0
        domid = DomId(upcall.domid)
        try:
            if upcall.kind is UpcallKind.INTRODUCE:
                self._introduce(domid, Gfn(upcall.gfn), Port(upcall.evtchn))
            else:
                self._release(domid)
        except HypercallError as refused:
            _log.warning(
                "XenStore cannot %s domain %d: %s",
                upcall.kind.name.lower(), domid, refused,
            )  # fmt: skip
            error = getattr(errno, refused.errno_name, errno.EINVAL)
        except OSError as failed:
            _log.error("XenStore cannot serve domain %d: %s", domid, failed)
            error = failed.errno or errno.EIO
        await self._system.keeper.settle()
        self._store.answer(upcall.conn_id, error)

    def _introduce(self, domid: DomId, gfn: Gfn, port: Port) -> None:
        """Serve a ring; a known domain's is emptied."""
        expected = self._system.store_port(domid).port
        if (gfn, port) != (STORE_GFN, expected):
            raise HypercallError(
                "EINVAL",
                f"the ring of domain {domid} is gfn {STORE_GFN} and port "
                f"{expected}, not gfn {gfn} and port {port}",
            )
        if domid in self._rings:
            self._store.reset_ring(domid)
        else:
            self._serve_ring(domid)

    def _serve_ring(self, domid: DomId) -> None:
        ring = _Ring(self._system, domid)
        try:
            self._store.add_ring(
                domid,
                ring.page,
                ring.entry.pending_fd,
                ring.entry.notify_fd,
                served=ring.was_bound and not self._goes_on,
            )
        except OSError:
            ring.close()
            raise
        self._rings[domid] = ring

    def _release(self, domid: DomId) -> None:
        ring = self._rings.pop(domid, None)
        if ring is not None:
            self._store.remove_ring(domid)
            ring.close()

    # What the toolstack has written.

    async def _watch_vifs(self) -> None:
        with suppress(StoreConnectionError):
            async with self._client.watch(_LIBXL) as changes:
                async for path in changes:
                    # Of the many nodes of a vif just one says whose it is.
                    if path.endswith("/backend"):
                        await self._look_at(path)
                    elif path == _LIBXL:
                        await self._look_at_all()

    async def _remove_nodes(self, domid: DomId) -> None:
        """Remove what the toolstack had for a domain that died with its hypervisor."""
        own = f"/local/domain/{domid}"
        paths = [own, f"{_LIBXL}/{domid}"]
        with suppress(StoreNotFoundError):
            paths.append(await self._client.read(f"{own}/vm"))
        for backend in await self._children("/local/domain"):
            kinds = f"/local/domain/{backend}/backend"
            paths += [f"{kinds}/{k}/{domid}" for k in await self._children(kinds)]
        for path in paths:
            with suppress(RequestError):
                await self._client.rm(path)

    async def _recorded(self) -> list[DomId]:
        """The domains of which the toolstack has a record, whether they are or not."""
        names = await self._children(_LIBXL)
        return [DomId(int(n)) for n in names if n.isascii() and n.isdigit()]

    async def _look_at_all(self) -> None:
        for frontend in await self._recorded():
            async for backend in self._backends_of(frontend):
                self._on_backend(backend)

    async def _look_at(self, node: str) -> None:
        if _VIF_NODE.fullmatch(node):
            backend = await self._backend_in(node)
            if backend is not None:
                self._on_backend(backend)

    async def _backends_of(self, frontend_domid: DomId) -> AsyncIterator[DomId]:
        """The backend of each of a domain's vifs, which may be the same."""
        # Only domain 0 can write there, so neither end can invent a vif.
        vifs = f"{_LIBXL}/{frontend_domid}/device/vif"
        for devid in await self._children(vifs):
            backend = await self._backend_in(f"{vifs}/{devid}/backend")
            if backend is not None:
                yield backend

    async def _backend_in(self, node: str) -> DomId | None:
        try:
            match = _BACKEND_PATH.fullmatch(await self._client.read(node))
        except StoreNotFoundError:
            return None
        return None if match is None else DomId(int(match[1]))

    async def _children(self, path: str) -> list[str]:
        try:
            return await self._client.ls(path)
        except StoreNotFoundError:
            return []


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
