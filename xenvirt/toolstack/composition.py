"""The daemon as an event loop: hypervisor, store and supervision put together."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xenvirt.abi.ids import DOM0, DomId
from xenvirt.errors import HypercallError, XenvirtError
from xenvirt.hypervisor.domains import DOM0_NAME, Domain
from xenvirt.hypervisor.operations import Operations
from xenvirt.hypervisor.server import Server
from xenvirt.hypervisor.system import System
from xenvirt.toolstack.live_update import LiveUpdates
from xenvirt.toolstack.store_host import StoreHost
from xenvirt.toolstack.supervisor import End, Supervisor

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from xenvirt.hypervisor.caller import Identities
    from xenvirt.hypervisor.keeper import Keeper
    from xenvirt.toolstack.inheritance import Inheritance
    from xenvirt.toolstack.launcher_client import LauncherClient
    from xenvirt.toolstack.live_update import HandOver, Image

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a daemon is given; it owns the sockets.

    `store` are the listening sockets of the store and of its trace, none if the store
    has them already. Without a `launcher` there are domains and a store, but no
    ends. `from_disk` says that it is not the launcher's own code that runs.
    """

    hypervisor: "socket.socket"
    store: "tuple[socket.socket, ...]"
    launcher: "LauncherClient | None"
    keeper: "Keeper"
    identities: "Identities"
    journal: "Path"
    image: "Image"
    from_disk: bool


class Daemon:
    """Everything that one daemon runs; make it and call `run` on one event loop.

    It goes on with what it has `inherited`, if anything; `handed` is what an earlier
    image of this very process has left.
    """

    def __init__(
        self,
        given: Surroundings,
        inherited: "Inheritance",
        handed: "HandOver | None" = None,
    ) -> None:
        self._given = given
        self._inherited = inherited
        self._handed = handed
        self._launcher = given.launcher
        self._system = System.restore(inherited.records, given.keeper)
        self._store = StoreHost(
            self._system,
            journal=given.journal,
            state_fd=handed.store_fd if handed is not None else None,
            on_backend=self._need_backend,
            on_update=self._update_wanted,
        )
        self._kept_ends = (0, 0)
        self._supervisor = self._supervise()
        self._server = Server(
            given.hypervisor,
            self._system,
            Operations(self._system, self._store, self._store, self),
            given.identities,
        )
        self._updates = LiveUpdates(
            self._server,
            self._store,
            given.image,
            hold_still=self._hold_still,
            announce=self._tell_updating,
            move_on=self._tell_ready,
        )
        self._namespaces = set(inherited.namespaces)
        self._busy: set[DomId] = set()
        self._dying: dict[DomId, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Future[None]] = set()
        self._stop = asyncio.Event()
        self._status = 0

    async def run(self, ready: Callable[[], None]) -> int:
        """Serve until told to stop, take everything down; return the exit status.

        `ready` is called once all sockets are served and the backend is started.
        """
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sig, self._signalled, sig)
        try:
            await self._begin()
            ready()
            self._tell_ready()
            await self._stop.wait()
        except XenvirtError as error:
            _log.error("cannot start: %s", error)
            self._status = error.exit_code
        finally:
            self._stop.set()
            await self._take_down()
        return self._status

    async def domain_create(
        self, name: str, domain_uuid: str | None, bare: bool
    ) -> Domain:
        """See `hypervisor.operations.Control`."""
        self._refuse_when_stopping()
        made = self._system.domains.named(name)
        if made is not None and made.uuid == domain_uuid and not self._is_busy(made):
            return made
        domain = self._system.create_domain(
            name, now=time.time(), domain_uuid=domain_uuid, bare=bare
        )
        self._busy.add(domain.domid)
        try:
            self._store.domain_created(domain.domid)
            if self._supervisor is not None and not bare:
                await self._start_frontend(self._supervisor, domain)
        except BaseException:
            self._forget(domain.domid)
            raise
        finally:
            self._busy.discard(domain.domid)
        self._system.keep_domain(domain.domid)
        _log.info("domain %d (%s) created", domain.domid, name)
        return domain

    async def domain_destroy(self, domid: DomId) -> None:
        """See `hypervisor.operations.Control`; EBUSY while it is being made."""
        self._refuse_when_stopping()
        await self._destroy(domid)

    async def _destroy(self, domid: DomId) -> None:
        """Take a domain down, or wait for who does."""
        domain = self._system.domains.get(domid)
        if domid == DOM0:
            raise HypercallError("EINVAL", "domain 0 is the host and stays")
        if domid in self._busy:
            raise HypercallError("EBUSY", f"domain {domid} is being made")
        if domid not in self._dying:
            self._system.mark_dying(domid)
            loop = asyncio.get_running_loop()
            self._dying[domid] = loop.create_task(self._take_domain_down(domain))
        await asyncio.shield(self._dying[domid])

    async def _take_domain_down(self, domain: Domain) -> None:
        try:
            if self._supervisor is not None:
                await self._stop_ends(self._supervisor, domain)
        finally:
            del self._dying[domain.domid]
            self._forget(domain.domid)
        _log.info("domain %d (%s) destroyed", domain.domid, domain.name)

    def ends(self, domid: DomId) -> list[dict[str, object]]:
        """See `hypervisor.operations.Control`."""
        return self._supervisor.policy.report(domid) if self._supervisor else []

    def shutdown(self) -> int:
        """See `hypervisor.operations.Control`."""
        self._stop.set()
        return self._inherited.launcher_pid or os.getpid()

    # Beginning, and beginning again.

    def _supervise(self) -> Supervisor | None:
        if self._launcher is None:
            return None
        supervisor = Supervisor(
            self._launcher,
            before_restart=self._before_restart,
            on_launcher_gone=self._launcher_gone,
        )
        supervisor.adopt(
            self._inherited.records,
            self._inherited.ends,
            self._system.domains,
            is_dying=self._system.is_dying,
        )
        self._kept_ends = len(supervisor.policy.ends()), supervisor.policy.running()
        return supervisor

    async def _begin(self) -> None:
        """Serve, with what there is from earlier; what was not completed goes."""
        self._store.serve_known_rings()
        supervisor = self._supervisor
        for domain in list(self._system.domains):
            if self._system.is_dying(domain.domid):
                self._keep(asyncio.ensure_future(self._destroy(domain.domid)))
        if supervisor is not None:
            await supervisor.begin()
            names = {domain.name for domain in self._system.domains}
            for name in self._namespaces - names:
                await self._delete_namespace(supervisor, name)
            if not supervisor.policy.knows("backend", DOM0):
                await supervisor.start(End("backend", DOM0, DOM0_NAME, None))
        await self._store.start(self._given.store)
        if self._handed is not None:
            for connection in self._handed.connections:
                self._server.take_over(connection)
        self._server.start()
        self._say_what_there_is()
        if self._handed is not None:
            self._store.answer(self._handed.asked_by)

    def _say_what_there_is(self) -> None:
        if self._handed is not None:
            what = "the daemon is updated, and goes on"
        elif self._inherited.after is not None:
            what = f"the daemon {self._inherited.after}, and runs again"
        else:
            return
        ends, running = self._kept_ends
        _log.warning(
            "%s with %s, %s and %s; of %s %d ran on",
            what,
            _count(len(self._system.domains) - 1, "domain"),
            _count(self._store.nr_nodes(), "node"),
            _count(self._system.ports.nr_channels, "event channel"),
            _count(ends, "end"),
            running,
        )

    # Going.

    def _forget(self, domid: DomId) -> None:
        self._server.drop_domain(domid)
        self._store.domain_dead(domid)
        self._system.destroy_domain(domid)

    async def _start_frontend(self, supervisor: Supervisor, domain: Domain) -> None:
        name = domain.name
        await supervisor.launcher.call("netns_create", name=name)
        self._namespaces.add(name)
        try:
            await supervisor.start(End("frontend", domain.domid, name, name))
        except BaseException:
            await self._delete_namespace(supervisor, name)
            raise

    async def _stop_ends(self, supervisor: Supervisor, domain: Domain) -> None:
        await asyncio.gather(
            supervisor.stop("frontend", domain.domid),
            supervisor.stop("backend", domain.domid),
        )
        await self._delete_namespace(supervisor, domain.name)

    async def _delete_namespace(self, supervisor: Supervisor, name: str) -> None:
        # An earlier daemon may have done it just before it died.
        if name in self._namespaces:
            await supervisor.launcher.call("netns_delete", name=name)
            self._namespaces.discard(name)

    async def _take_down(self) -> None:
        if self._launcher is not None:
            self._launcher.tell("stopping")
        await self._updates.close()
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

    # What happens meanwhile.

    def _need_backend(self, domid: DomId) -> None:
        supervisor = self._supervisor
        if (
            supervisor is None
            or self._stop.is_set()
            or domid not in self._system.domains
            or supervisor.policy.knows("backend", domid)
        ):
            return
        domain = self._system.domains.get(domid)
        if domain.bare or self._is_busy(domain):
            return
        name = domain.name
        self._keep(
            asyncio.ensure_future(
                self._start_backend(supervisor, End("backend", domid, name, name))
            )
        )

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

    def _tell_ready(self) -> None:
        if self._launcher is not None:
            self._launcher.tell("ready", from_disk=self._given.from_disk)

    def _update_wanted(self, conn_id: int, parameters: list[str]) -> None:
        self._updates.serve(conn_id, parameters)

    def _tell_updating(self) -> None:
        if self._launcher is not None:
            self._launcher.tell("updating")

    async def _hold_still(self) -> None:
        """Let what is under way end."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._launcher is not None:
            await self._launcher.become_idle()

    def _is_busy(self, domain: Domain) -> bool:
        return domain.domid in self._busy or domain.domid in self._dying

    def _keep(self, task: "asyncio.Future[None]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _refuse_when_stopping(self) -> None:
        if self._stop.is_set():
            raise HypercallError("ESHUTDOWN", "the daemon is stopping")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
