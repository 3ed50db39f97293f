"""The process of an end: a frontend or a backend, until it is told to stop.

It enters here in the domain's namespace and with the domain's user, and keeps
nothing but CAP_NET_ADMIN.
"""

import asyncio
import logging
import mmap
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, Protocol

import uvloop

from xenvirt import log as logs
from xenvirt.abi.ids import PAGE_SIZE, DevId, DomId
from xenvirt.errors import XenvirtError
from xenvirt.hypervisor.client import Client as HypervisorClient
from xenvirt.hypervisor.interface import EventChannel, StartInfo
from xenvirt.native import Worker, XsRingPage, set_name
from xenvirt.vif.backend import BackDomain, BackVif
from xenvirt.vif.buffers import Slabs
from xenvirt.vif.frontend import FrontDomain, FrontVif
from xenvirt.vif.memories import PeerMemories
from xenvirt.xenbus.bus import Appeared, Bus, Vanished
from xenvirt.xenstore.client import Client
from xenvirt.xenstore.errors import StoreConnectionError

log = logging.getLogger(__name__)

HYPERVISOR_SOCKET: Final = "hypervisor.sock"


class Vif(Protocol):
    """One vif of either end."""

    async def run(self) -> None:
        """Serve it until cancelled."""

    async def remove(self) -> None:
        """Its node is gone."""

    async def leave(self) -> None:
        """Its process is to end."""

    def check_broken(self) -> None:
        """Some queue broke."""


@dataclass(frozen=True, slots=True)
class _StoreChannel:
    """The store's event channel, as the ring transport wants it."""

    channel: EventChannel

    @property
    def fd(self) -> int:
        """Readable when the store has notified."""
        return self.channel.pending_fd

    def notify(self) -> None:
        """Wake the store."""
        self.channel.notify()


class Driver:
    """Runs a task for each vif on a bus."""

    def __init__(
        self, bus: Bus, worker: Worker, make: Callable[[Appeared], Vif]
    ) -> None:
        self._bus = bus
        self._worker = worker
        self._make = make
        self._vifs: dict[str, tuple[Vif, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Serve until cancelled, then have every vif leave in order."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._worker.broken_fd, self._some_queue_broke)
        try:
            async for event in self._bus.events():
                match event:
                    case Appeared(nodename=nodename):
                        vif = self._make(event)
                        task = asyncio.create_task(_guarded(vif.run(), nodename))
                        self._vifs[nodename] = vif, task
                    case Vanished(nodename=nodename):
                        await self._end(nodename, lambda vif: vif.remove())
        finally:
            loop.remove_reader(self._worker.broken_fd)
            await asyncio.gather(
                *(self._end(name, lambda vif: vif.leave()) for name in [*self._vifs])
            )

    async def _end(self, nodename: str, how: Callable[[Vif], Awaitable[None]]) -> None:
        vif, task = self._vifs.pop(nodename)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        with suppress(StoreConnectionError):
            await how(vif)

    def _some_queue_broke(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._worker.broken_fd)
        for vif, _ in self._vifs.values():
            vif.check_broken()


async def _guarded(work: Awaitable[None], nodename: str) -> None:
    """One vif's trouble is not the others'."""
    try:
        await work
    except StoreConnectionError:
        raise
    except XenvirtError as error:
        log.error("%s: %s", nodename, error)
    except Exception:
        log.exception("%s: unexpected error", nodename)


async def _run_frontend(hypervisor: HypervisorClient, name: str, run_dir: str) -> None:
    info = await hypervisor.start_info()
    assert info.memory is not None
    assert info.store is not None
    async with AsyncExitStack() as stack:
        stack.callback(info.close)
        store = await stack.enter_async_context(await _connect_ring(info))
        worker = Worker(f"xennet-{info.domid}")
        stack.callback(worker.close)
        slabs = Slabs(info.memory, info.store_gfn + 1)
        domain = FrontDomain(
            info.domid, name, run_dir, hypervisor, store, slabs, worker
        )

        def make(event: Appeared) -> FrontVif:
            return FrontVif(domain, event.nodename, DevId(event.ids[0]), event.state)

        await Driver(Bus(store, "device", 1), worker, make).run()


async def _connect_ring(info: StartInfo) -> Client:
    assert info.memory is not None
    assert info.store is not None
    offset = info.store_gfn * PAGE_SIZE
    mapping = mmap.mmap(info.memory.fd, offset + PAGE_SIZE)
    page = XsRingPage(mapping, offset)
    channel = _StoreChannel(info.store)

    async def same_channel() -> _StoreChannel:
        return channel

    log.info("xenbus0: using event channel %d", info.store.port)
    return await Client.connect_ring(page, channel, reconnect=same_channel)


async def _run_backend(
    hypervisor: HypervisorClient, domid: DomId, run_dir: str
) -> None:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(
            await Client.connect_socket(
                await hypervisor.open_xenbus(), reconnect=hypervisor.open_xenbus
            )
        )
        worker = Worker(f"xvif-{domid}")
        stack.callback(worker.close)
        memories = PeerMemories(hypervisor, domid)
        domain = BackDomain(domid, run_dir, hypervisor, store, worker, memories)

        def make(event: Appeared) -> BackVif:
            frontend_id, devid = event.ids
            return BackVif(
                domain, event.nodename, DomId(frontend_id), DevId(devid), event.state
            )

        await Driver(Bus(store, "backend", 2), worker, make).run()


async def _run(role: str, domid: DomId, name: str, run_dir: str) -> None:
    async with AsyncExitStack() as stack:
        hypervisor = HypervisorClient(Path(run_dir) / HYPERVISOR_SOCKET, lasting=True)
        stack.callback(hypervisor.close)
        if role == "frontend":
            serving = asyncio.create_task(_run_frontend(hypervisor, name, run_dir))
        else:
            serving = asyncio.create_task(_run_backend(hypervisor, domid, run_dir))
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sig, serving.cancel)
        gone = asyncio.create_task(hypervisor.wait_closed())
        await asyncio.wait((serving, gone), return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            _abandon(f"the {role} of domain {domid} stops: the hypervisor is gone")
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await serving


def _abandon(why: str) -> NoReturn:
    """End at once: no one is left to say goodbye to, and the kernel takes all back."""
    log.error("%s", why)
    logging.shutdown()
    os._exit(1)


def run_end(role: str, domid: int, name: str, run_dir: str) -> int:
    """Be the `frontend` or `backend` of a domain; returns the exit status."""
    process = f"{role}-{domid}"
    set_name(process)
    logs.setup(process, debug=log.isEnabledFor(logging.DEBUG))
    try:
        uvloop.run(_run(role, DomId(domid), name, run_dir))
    except XenvirtError as error:
        log.error("the %s of domain %d stops: %s", role, domid, error)
        return 1
    return 0
