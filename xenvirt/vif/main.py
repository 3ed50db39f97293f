"""The process of an end: a frontend or a backend, until it is told to stop.

In the emulation the launcher has put it into the domain's namespace, with the domain's
user, and nothing but CAP_NET_ADMIN. On Xen it is whoever typed the command.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NoReturn, Protocol

import uvloop

from xenvirt import log as logs
from xenvirt.abi.ids import DevId, DomId
from xenvirt.errors import XenvirtError
from xenvirt.hypervisor.emulated import EmulatedHypervisor
from xenvirt.hypervisor.interface import Claim, Hypervisor
from xenvirt.hypervisor.xen import XenHypervisor
from xenvirt.native.process import set_name
from xenvirt.netdev.monitor import LinkMonitor
from xenvirt.vif import strays
from xenvirt.vif.backend import BackDomain, BackVif
from xenvirt.vif.buffers import QUEUE_PAGES
from xenvirt.vif.frontend import FrontDomain, FrontVif
from xenvirt.vif.placement import Placement, choose
from xenvirt.vif.threads import in_thread
from xenvirt.vif.workers import Workers
from xenvirt.xenbus.bus import Appeared, Bus, Scanned, Vanished
from xenvirt.xenstore.client import Client
from xenvirt.xenstore.errors import StoreConnectionError

log = logging.getLogger(__name__)

XEN: Final = "xen"
"""Who makes interfaces on Xen: any of our processes may take up one that is left."""

HYPERVISOR_SOCKET: Final = "hypervisor.sock"


@dataclass(frozen=True, slots=True)
class Role:
    """Which end to be, of which vifs, and what the backend waits for.

    `name` is the domain's, and `owner` who makes the interfaces, for their aliases.
    `ids` are the vifs to serve, (devid,) of a frontend and (domid, devid) of a backend;
    empty: all.
    `awaits_hotplug`: a script tells the backend that its interface is plugged in.
    """

    kind: str
    name: str
    run_dir: str
    owner: str
    ids: frozenset[tuple[int, ...]] = frozenset()
    awaits_hotplug: bool = True


class Vif(Protocol):
    """One vif of either end."""

    async def run(self) -> None:
        """Serve it until cancelled."""

    async def remove(self) -> None:
        """Its node is gone."""

    async def leave(self) -> None:
        """Its process is to end."""

    def check_queues(self) -> None:
        """Some queue broke, stalled, or is ready again."""


@dataclass(slots=True)
class _Served:
    """A vif on the bus that is ours to serve, and what its task has come to."""

    claim: Claim | None = None
    vif: Vif | None = None


class Driver:
    """Runs a task for each vif on a bus that `make` makes one of.

    A vif that somebody else serves is made when that one has ended. Before any is made
    `remove_strays` is called in a thread, with the ids of those that there are.
    """

    def __init__(
        self,
        bus: Bus,
        hypervisor: Hypervisor,
        is_ours: Callable[[Appeared], bool],
        make: Callable[[Appeared], Vif],
        remove_strays: Callable[[Collection[tuple[int, ...]]], None],
    ) -> None:
        self._bus = bus
        self._hypervisor = hypervisor
        self._is_ours = is_ours
        self._make = make
        self._remove_strays = remove_strays
        self._vifs: dict[str, tuple[_Served, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Serve until cancelled, then have every vif leave in order."""
        try:
            async for event in self._bus.events():
                match event:
                    case Scanned(ids=ids):
                        await self._tidy(ids)
                    case Appeared(nodename=nodename):
                        if self._is_ours(event):
                            served = _Served()
                            work = _guarded(self._serve(event, served), nodename)
                            self._vifs[nodename] = served, asyncio.create_task(work)
                    case Vanished(nodename=nodename):
                        removal = self._end(nodename, lambda vif: vif.remove())
                        await _to_its_end(removal)
        finally:
            await asyncio.gather(
                *(self._end(name, lambda vif: vif.leave()) for name in [*self._vifs])
            )

    async def _tidy(self, ids: Collection[tuple[int, ...]]) -> None:
        try:
            await in_thread(self._remove_strays, ids)
        except OSError as error:
            # Whoever needs a thread for a vif says what to do.
            log.warning("interfaces that were left over stay: %s", error)

    async def _serve(self, event: Appeared, served: "_Served") -> None:
        served.claim = await self._hypervisor.claim(event.nodename)
        if served.claim.waited:
            event = await self._bus.look_again(event)
        served.vif = self._make(event)
        await served.vif.run()

    async def _end(self, nodename: str, how: Callable[[Vif], Awaitable[None]]) -> None:
        if nodename not in self._vifs:
            return
        served, task = self._vifs.pop(nodename)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        with suppress(StoreConnectionError):
            if served.vif is not None:
                await how(served.vif)
        if served.claim is not None:
            served.claim.release()

    def check_queues(self) -> None:
        """Some queue of the process is not as it was: have each vif look at its own."""
        for served, _ in self._vifs.values():
            if served.vif is not None:
                served.vif.check_queues()


async def _to_its_end(work: Coroutine[None, None, None]) -> None:
    """Await `work`; a cancellation meanwhile takes effect when it is done."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


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


def _is_ours(event: Appeared, role: Role, hypervisor: Hypervisor) -> bool:
    """Whether we are to serve a vif that appeared; says why not."""
    if role.ids and event.ids not in role.ids:
        return False
    other = hypervisor.driven_by(event.nodename)
    if other is not None:
        log.error("%s: %s", event.nodename, other)
    return other is None


async def _drive(role: Role, hypervisor: Hypervisor, placement: Placement) -> None:
    """Serve vifs as `role` until cancelled, or the store is gone."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(await hypervisor.open_store())
        is_front = role.kind == "frontend"
        bus = Bus(store, "device", 1) if is_front else Bus(store, "backend", 2)
        name = f"{'xennet' if is_front else 'xvif'}-{hypervisor.domid}"
        workers = Workers(name, lambda: driver.check_queues(), placement)
        stack.callback(workers.close)
        monitor = LinkMonitor()
        stack.callback(monitor.close)
        maker = _front_maker if is_front else _back_maker
        driver = Driver(
            bus,
            hypervisor,
            lambda event: _is_ours(event, role, hypervisor),
            maker(role, hypervisor, store, workers, monitor),
            partial(_remove_strays, role),
        )
        await driver.run()


def _remove_strays(role: Role, ids: Collection[tuple[int, ...]]) -> None:
    # On Xen another process of ours may be making one just now.
    if role.owner != XEN:
        strays.remove(role.kind, role.name, role.owner, ids)


def _front_maker(
    role: Role,
    hypervisor: Hypervisor,
    store: Client,
    workers: Workers,
    monitor: LinkMonitor,
) -> Callable[[Appeared], Vif]:
    domain = FrontDomain(role.name, role.owner, hypervisor, store, workers, monitor)

    def make(event: Appeared) -> FrontVif:
        return FrontVif(domain, event)

    return make


def _back_maker(
    role: Role,
    hypervisor: Hypervisor,
    store: Client,
    workers: Workers,
    monitor: LinkMonitor,
) -> Callable[[Appeared], Vif]:
    domain = BackDomain(
        role.owner, hypervisor, store, workers, monitor, role.awaits_hotplug
    )

    def make(event: Appeared) -> BackVif:
        frontend_id, devid = event.ids
        return BackVif(
            domain, event.nodename, DomId(frontend_id), DevId(devid), event.state
        )

    return make


async def _run_emulated(role: Role, domid: DomId) -> None:
    placement = choose(peer_is_here=True)
    hypervisor = await EmulatedHypervisor.connect(
        Path(role.run_dir) / HYPERVISOR_SOCKET,
        slab_pages=QUEUE_PAGES if role.kind == "frontend" else None,
    )
    try:
        serving = asyncio.create_task(_drive(role, hypervisor, placement))
        _stop_on_signals(serving)
        gone = asyncio.create_task(hypervisor.wait_closed())
        await asyncio.wait((serving, gone), return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            _abandon(f"the {role.kind} of domain {domid} stops: the hypervisor is gone")
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await serving
    finally:
        hypervisor.close()


async def _run_on_xen(role: Role) -> None:
    placement = choose(peer_is_here=False)
    hypervisor = await XenHypervisor.open(role.kind, Path(role.run_dir))
    try:
        log.info("the %s of domain %d", role.kind, hypervisor.domid)
        serving = asyncio.create_task(_drive(role, hypervisor, placement))
        _stop_on_signals(serving)
        with suppress(asyncio.CancelledError):
            await serving
    finally:
        hypervisor.close()


def _stop_on_signals(serving: asyncio.Task[None]) -> None:
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, serving.cancel)


def _abandon(why: str) -> NoReturn:
    """End at once: no one is left to say goodbye to, and the kernel takes all back."""
    log.error("%s", why)
    logging.shutdown()
    os._exit(1)


def run_end(role: str, domid: int, name: str, run_dir: str) -> int:
    """Be the `frontend` or `backend` of an emulated domain; returns the exit status."""
    process = f"{role}-{domid}"
    set_name(process)
    logs.setup(process, debug=log.isEnabledFor(logging.DEBUG))
    try:
        uvloop.run(_run_emulated(Role(role, name, run_dir, run_dir), DomId(domid)))
    except XenvirtError as error:
        log.error("the %s of domain %d stops: %s", role, domid, error)
        return 1
    return 0


def run_on_xen(role: Role, *, debug: bool = False) -> None:
    """Be an end on Xen, in the foreground; XenvirtError when it cannot."""
    logs.setup(role.kind, debug=debug)
    uvloop.run(_run_on_xen(role))
