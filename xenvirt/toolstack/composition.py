"""The daemon as an event loop: hypervisor, store and supervision put together."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from xenvirt.abi.ids import DOM0, DomId
from xenvirt.errors import HypercallError, XenvirtError
from xenvirt.hypervisor.domains import DOM0_NAME, Domain
from xenvirt.hypervisor.operations import Operations
from xenvirt.hypervisor.server import Server
from xenvirt.hypervisor.system import System
from xenvirt.toolstack.store_host import StoreHost
from xenvirt.toolstack.supervisor import End, Supervisor

if TYPE_CHECKING:
    import socket

    from xenvirt.hypervisor.caller import Identities
    from xenvirt.toolstack.rundir import Sockets

_log = logging.getLogger(__name__)


class Daemon:
    """Everything that one daemon runs; make it and call `run` on one event loop.

    It owns the sockets. Without a launcher there are domains and a store, but no ends.
    """

    def __init__(
        self,
        sockets: "Sockets",
        launcher: "socket.socket | None",
        identities: "Identities",
    ) -> None:
        self._sockets = sockets
        self._system = System(now=time.time())
        self._store = StoreHost(self._system, on_backend=self._need_backend)
        self._supervisor = (
            Supervisor(
                launcher,
                before_restart=self._before_restart,
                on_launcher_gone=self._launcher_gone,
            )
            if launcher is not None
            else None
        )
        self._server = Server(
            sockets.hypervisor,
            self._system,
            Operations(self._system, self._store, self._store, self),
            identities,
        )
        self._busy: set[DomId] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._status = 0

    async def run(self, ready: Callable[[], None]) -> int:
        """Serve until told to stop, take everything down; return the exit status.

        `ready` is called once both sockets are served and the backend is started.
        """
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sig, self._signalled, sig)
        try:
            await self._store.listen(self._sockets.xenstored)
            if self._supervisor is not None:
                await self._supervisor.start(End("backend", DOM0, DOM0_NAME, None))
            ready()
            await self._stop.wait()
        except XenvirtError as error:
            _log.error("cannot start: %s", error)
            self._status = error.exit_code
        finally:
            self._stop.set()
            await self._take_down()
        return self._status

    async def domain_create(self, name: str) -> Domain:
        """See `hypervisor.operations.Control`."""
        self._refuse_when_stopping()
        domain = self._system.create_domain(name, now=time.time())
        self._busy.add(domain.domid)
        try:
            if self._supervisor is not None:
                await self._start_frontend(self._supervisor, domain)
        except BaseException:
            self._forget(domain.domid)
            raise
        finally:
            self._busy.discard(domain.domid)
        _log.info("domain %d (%s) created", domain.domid, name)
        return domain

    async def domain_destroy(self, domid: DomId) -> None:
        """See `hypervisor.operations.Control`; EBUSY while another call is at it."""
        self._refuse_when_stopping()
        await self._destroy(domid)

    async def _destroy(self, domid: DomId) -> None:
        domain = self._system.domains.get(domid)
        if domid == DOM0:
            raise HypercallError("EINVAL", "domain 0 is the host and stays")
        if domid in self._busy:
            raise HypercallError("EBUSY", f"domain {domid} is being made or destroyed")
        self._busy.add(domid)
        try:
            if self._supervisor is not None:
                await self._stop_ends(self._supervisor, domain)
        finally:
            self._busy.discard(domid)
            self._forget(domid)
        _log.info("domain %d (%s) destroyed", domid, domain.name)

    def ends(self, domid: DomId) -> list[dict[str, object]]:
        """See `hypervisor.operations.Control`."""
        return self._supervisor.policy.report(domid) if self._supervisor else []

    def shutdown(self) -> None:
        """See `hypervisor.operations.Control`."""
        self._stop.set()

    def _forget(self, domid: DomId) -> None:
        self._server.drop_domain(domid)
        self._store.domain_dead(domid)
        self._system.destroy_domain(domid)

    async def _start_frontend(self, supervisor: Supervisor, domain: Domain) -> None:
        name = domain.name
        await supervisor.launcher.call("netns_create", name=name)
        try:
            await supervisor.start(End("frontend", domain.domid, name, name))
        except BaseException:
            await supervisor.launcher.call("netns_delete", name=name)
            raise

    async def _stop_ends(self, supervisor: Supervisor, domain: Domain) -> None:
        await asyncio.gather(
            supervisor.stop("frontend", domain.domid),
            supervisor.stop("backend", domain.domid),
        )
        await supervisor.launcher.call("netns_delete", name=domain.name)

    async def _take_down(self) -> None:
        self._server.stop_listening()
        await self._server.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        failures = await asyncio.gather(
            *(
                self._destroy(domain.domid)
                for domain in list(self._system.domains)
                if domain.domid != DOM0
            ),
            return_exceptions=True,
        )
        for failure in failures:
            if failure is not None:
                _log.error("while stopping: %s", failure)
        if self._supervisor is not None:
            await self._supervisor.stop_all("backend")
        self._server.close()
        await self._store.close()
        self._system.close()
        if self._supervisor is not None:
            self._supervisor.close()

    def _need_backend(self, domid: DomId) -> None:
        supervisor = self._supervisor
        if (
            supervisor is None
            or self._stop.is_set()
            or domid not in self._system.domains
            or domid in self._busy
            or supervisor.policy.knows("backend", domid)
        ):
            return
        name = self._system.domains.get(domid).name
        task = asyncio.get_running_loop().create_task(
            self._start_backend(supervisor, End("backend", domid, name, name))
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start_backend(self, supervisor: Supervisor, end: End) -> None:
        try:
            await supervisor.start(end)
        except HypercallError as error:
            _log.error("cannot start %s: %s", end, error)

    def _before_restart(self, end: End) -> None:
        if end.role == "frontend":
            self._store.restart_ring(end.domid)

    def _launcher_gone(self) -> None:
        if not self._stop.is_set():
            _log.error(
                "the launcher has died, and with it every end; taking down the rest"
            )
            self._status = 1
            self._stop.set()

    def _signalled(self, sig: signal.Signals) -> None:
        if not self._stop.is_set():
            _log.info("%s: stopping", sig.name)
            self._stop.set()
        elif self._supervisor is not None:
            _log.warning("%s again: killing what does not end", sig.name)
            self._supervisor.hurry()

    def _refuse_when_stopping(self) -> None:
        if self._stop.is_set():
            raise HypercallError("ESHUTDOWN", "the daemon is stopping")
