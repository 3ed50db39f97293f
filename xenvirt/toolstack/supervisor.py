"""Which ends should run, and what to do when one does not.

`Policy` decides and does no I/O; `Supervisor` carries out what it decides through the
launcher.
"""

import asyncio
import contextlib
import logging
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from xenvirt.abi.ids import DomId
from xenvirt.errors import HypercallError
from xenvirt.toolstack.launcher_client import LauncherClient, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from xenvirt.hypervisor.keeper import Records
    from xenvirt.hypervisor.wire import Packet
    from xenvirt.toolstack.inheritance import RunningEnd

Role = Literal["frontend", "backend"]

FIRST_BACKOFF_S: Final = 0.1
MAX_BACKOFF_S: Final = 5.0
STABLE_S: Final = 10.0
"""An end that lived this long is started again at once when it dies."""

TERM_TIMEOUT_S: Final = 5.0
"""From SIGTERM to SIGKILL."""

KILL_TIMEOUT_S: Final = 5.0
"""From SIGKILL to giving up: the kernel does not let go of the process."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class End:
    """A process that should run: one end of all vifs of a domain."""

    role: Role
    domid: DomId
    name: str
    netns: str | None

    def __str__(self) -> str:
        return f"{self.role} of domain {self.domid} ({self.name})"


@dataclass(slots=True)
class _Run:
    end: End
    pid: int | None = None
    started: float = 0.0
    due: float | None = None
    failures: int = 0
    restarts: int = 0
    wanted: bool = True
    starting: bool = True


def describe_exit(status: int) -> str:
    """Say how a process ended, from its wait status."""
    if os.WIFSIGNALED(status):
        sig = os.WTERMSIG(status)
        why = " (SIGSYS: a forbidden system call)" if sig == signal.SIGSYS else ""
        return f"died with signal {sig}{why}"
    return f"exited with status {os.waitstatus_to_exitcode(status)}"


def _was_killed(status: int) -> bool:
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


class Policy:
    """The ends that should run; times are in seconds of one monotonic clock.

    An end that got SIGKILL has not failed, and is started again however often that
    happens, at most ten times a second.
    """

    def __init__(self) -> None:
        self._runs: dict[tuple[Role, DomId], _Run] = {}

    def want(self, end: End) -> None:
        """From now on `end` should run; the caller starts it. EEXIST if it is known."""
        key = (end.role, end.domid)
        if key in self._runs:
            raise HypercallError("EEXIST", f"there is a {end} already")
        self._runs[key] = _Run(end)

    def adopt(self, end: End, pid: int | None, restarts: int, now: float) -> None:
        """Take over an end of an earlier daemon; one without a process died since."""
        run = _Run(end, pid, started=now, restarts=restarts, starting=False)
        self._runs[end.role, end.domid] = run
        if pid is None:
            self._schedule(run, now)
            _log.warning("%s died while the daemon was gone; starting it again", end)

    def running(self) -> int:
        """Return how many ends have a process."""
        return sum(1 for run in self._runs.values() if run.pid is not None)

    def restarts(self, end: End) -> int:
        """Return how often the end was started again."""
        return self._runs[end.role, end.domid].restarts

    def knows(self, role: Role, domid: DomId) -> bool:
        """Return whether such an end should run, or still does."""
        return (role, domid) in self._runs

    def wants(self, role: Role, domid: DomId) -> bool:
        """Return whether such an end should run."""
        run = self._runs.get((role, domid))
        return run is not None and run.wanted

    def forget_all(self) -> None:
        """Nothing runs any more, and nothing should."""
        self._runs.clear()

    def unwant(self, role: Role, domid: DomId) -> None:
        """Do not start the end again; it is forgotten once it has exited."""
        run = self._runs.get((role, domid))
        if run is None:
            return
        run.wanted = False
        run.due = None
        if run.pid is None and not run.starting:
            del self._runs[role, domid]

    def started(self, end: End, pid: int, now: float) -> None:
        """Note that the process of `end` runs."""
        run = self._runs[end.role, end.domid]
        run.pid, run.started, run.starting = pid, now, False

    def not_started(self, end: End, why: str, now: float) -> None:
        """Note that a start failed; it is tried again if the end is still wanted."""
        run = self._runs[end.role, end.domid]
        run.starting = False
        delay_s = self._schedule(run, now)
        if delay_s is None:
            del self._runs[end.role, end.domid]
            return
        _log.error("cannot start %s: %s; again in %.1f s", end, why, delay_s)

    def exited(self, pid: int, status: int, now: float) -> End | None:
        """Note that a process ended; return which end it was."""
        run = next((run for run in self._runs.values() if run.pid == pid), None)
        if run is None:
            return None
        run.pid = None
        lived_s = now - run.started
        if lived_s >= STABLE_S:
            run.failures = 0
        delay_s = self._schedule(run, now, killed=_was_killed(status), lived_s=lived_s)
        if delay_s is None:
            del self._runs[run.end.role, run.end.domid]
            _log.info("%s %s", run.end, describe_exit(status))
        elif delay_s:
            _log.warning(
                "%s %s; starting it again in %.2g s",
                run.end, describe_exit(status), delay_s,
            )  # fmt: skip
        else:
            _log.warning("%s %s; starting it again", run.end, describe_exit(status))
        return run.end

    def take_due(self, now: float) -> list[End]:
        """Return the ends to start now; each is returned once."""
        ends = []
        for run in self._runs.values():
            if run.due is not None and run.due <= now:
                run.due, run.starting = None, True
                run.restarts += 1
                ends.append(run.end)
        return ends

    def next_due(self) -> float | None:
        """Return when `take_due` has something, None if nothing waits."""
        return min(
            (r.due for r in self._runs.values() if r.due is not None), default=None
        )

    def pid(self, role: Role, domid: DomId) -> int | None:
        """Return the end's process, None while it has none."""
        run = self._runs.get((role, domid))
        return run.pid if run is not None else None

    def ends(self, role: Role | None = None) -> list[End]:
        """Return the ends that should run or still do."""
        return [r.end for r in self._runs.values() if role in (None, r.end.role)]

    def report(self, domid: DomId) -> list[dict[str, object]]:
        """Return role, pid and restarts of each end of a domain."""
        return [
            {"role": run.end.role, "pid": run.pid, "restarts": run.restarts}
            for run in self._runs.values()
            if run.end.domid == domid
        ]

    def _schedule(
        self, run: _Run, now: float, *, killed: bool = False, lived_s: float = 0.0
    ) -> float | None:
        if not run.wanted:
            return None
        delay_s = 0.0
        if killed:
            # It has not failed: somebody wanted that, or needed its memory.
            delay_s = max(0.0, FIRST_BACKOFF_S - lived_s)
        else:
            if run.failures:
                delay_s = min(FIRST_BACKOFF_S * 2 ** (run.failures - 1), MAX_BACKOFF_S)
            run.failures += 1
        run.due = now + delay_s
        return delay_s


class Supervisor:
    """Starts and stops ends through the launcher.

    Each end that should run has a record there, `end/ROLE/DOMID`, over a crash.
    `before_restart` is called before an end that died is started again, and
    `on_launcher_gone` if the launcher ends by itself; every end has been
    told by the kernel to end then.
    """

    def __init__(
        self,
        launcher: LauncherClient,
        *,
        before_restart: "Callable[[End], None]",
        on_launcher_gone: "Callable[[], None]",
    ) -> None:
        self.policy = Policy()
        self.launcher = launcher
        self._before_restart = before_restart
        self._on_launcher_gone = on_launcher_gone
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._gone: dict[tuple[Role, DomId], asyncio.Event] = {}
        self._strays: dict[int, asyncio.Event] = {}
        self._term_timeout_s = TERM_TIMEOUT_S
        launcher.start(on_exited=self._exited, on_gone=self._launcher_gone)

    def close(self) -> None:
        """Let go of the launcher."""
        if self._timer is not None:
            self._timer.cancel()
        self.launcher.close()

    def adopt(
        self,
        records: "Records",
        running: "Iterable[RunningEnd]",
        domains: "Container[DomId]",
        *,
        is_dying: "Callable[[DomId], bool]" = lambda domid: False,
    ) -> None:
        """Take over the ends of an earlier daemon, whose records are taken out.

        Those of a domain that is not in `domains` are not wanted; those of a dying one
        are, as long as they run.
        """
        pids = {(end.role, end.domid): end for end in running}
        for key in [key for key in records if key.startswith("end/")]:
            value = records.pop(key).value
            _, role, text = key.split("/")
            domid = DomId(int(text))
            if domid not in domains or (is_dying(domid) and (role, domid) not in pids):
                self.launcher.drop(key)
                continue
            netns = value["netns"]
            end = End(
                "frontend" if role == "frontend" else "backend",
                domid,
                str(value["name"]),
                None if netns is None else str(netns),
            )
            process = pids.pop((end.role, end.domid), None)
            self.policy.adopt(
                end,
                process.pid if process is not None else None,
                int(str(value["restarts"])),
                self._loop.time(),
            )
        self._strays = {end.pid: asyncio.Event() for end in pids.values()}

    async def begin(self) -> None:
        """Start what `adopt` found dead; kill what nobody wants.

        That are the ends of what an earlier daemon had not completed.
        """
        self._arm()
        for pid in self._strays:
            self._send_signal(pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILL_TIMEOUT_S):
                for gone in list(self._strays.values()):
                    await gone.wait()
        self._strays.clear()

    async def start(self, end: End) -> None:
        """Start an end and keep it running; HypercallError if it cannot be started."""
        self.policy.want(end)
        started: asyncio.Future[None] = self._loop.create_future()
        self._spawn(end, started)
        await started

    async def stop(self, role: Role, domid: DomId) -> None:
        """Stop an end, by force if it takes longer than 5 s; return when it is gone.

        Nothing happens if there is none. It also returns, 5 s later, if the process
        cannot even be killed.
        """
        self.policy.unwant(role, domid)
        if not self.policy.knows(role, domid):
            self.launcher.drop(f"end/{role}/{domid}")
            return
        gone = self._gone.setdefault((role, domid), asyncio.Event())
        for sig, timeout_s in (
            (signal.SIGTERM, self._term_timeout_s),
            (signal.SIGKILL, KILL_TIMEOUT_S),
        ):
            self._signal(role, domid, sig)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(gone.wait(), timeout_s)
                return
            _log.warning("%s of domain %d outlives %s", role, domid, sig.name)

    async def stop_all(self, role: Role) -> None:
        """Stop every end of one role, all at the same time."""
        async with asyncio.TaskGroup() as group:
            for end in self.policy.ends(role):
                group.create_task(self.stop(role, end.domid))

    def hurry(self) -> None:
        """Kill what is being stopped, and do not wait when stopping from now on."""
        self._term_timeout_s = 0.0
        for role, domid in self._gone:
            self._signal(role, domid, signal.SIGKILL)

    def _spawn(self, end: End, started: "asyncio.Future[None] | None" = None) -> None:
        def answer(packet: "Packet | None") -> None:
            try:
                body = unpack(packet)
            except HypercallError as error:
                self._not_started(end, started, error)
                return
            self.policy.started(end, int(str(body["pid"])), self._loop.time())
            if not self.policy.wants(end.role, end.domid):
                self._signal(end.role, end.domid, signal.SIGTERM)
            if started is not None and not started.done():
                started.set_result(None)

        self.launcher.put(
            f"end/{end.role}/{end.domid}",
            {
                "name": end.name,
                "netns": end.netns,
                "restarts": self.policy.restarts(end),
            },
        )
        self.launcher.request(
            answer,
            "spawn",
            role=end.role,
            domid=end.domid,
            name=end.name,
            netns=end.netns,
        )

    def _not_started(
        self, end: End, started: "asyncio.Future[None] | None", error: HypercallError
    ) -> None:
        if not self.policy.knows(end.role, end.domid):
            return
        if started is not None:
            self.policy.unwant(end.role, end.domid)
            if not started.done():
                started.set_exception(error)
        self.policy.not_started(end, str(error), self._loop.time())
        self._after_change(end)

    def _signal(self, role: Role, domid: DomId, sig: signal.Signals) -> None:
        pid = self.policy.pid(role, domid)
        if pid is not None:
            self._send_signal(pid, sig)

    def _send_signal(self, pid: int, sig: signal.Signals) -> None:
        # It may have ended already, which `_exited` is about to tell.
        self.launcher.request(lambda _: None, "signal", pid=pid, sig=int(sig))

    def _exited(self, pid: int, status: int) -> None:
        if pid in self._strays:
            self._strays[pid].set()
        end = self.policy.exited(pid, status, self._loop.time())
        if end is not None:
            self._after_change(end)

    def _after_change(self, end: End) -> None:
        if not self.policy.knows(end.role, end.domid):
            self.launcher.drop(f"end/{end.role}/{end.domid}")
            gone = self._gone.pop((end.role, end.domid), None)
            if gone is not None:
                gone.set()
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.policy.next_due()
        if due is not None:
            self._timer = self._loop.call_at(due, self._start_due)

    def _start_due(self) -> None:
        self._timer = None
        # A timer may fire a clock's tick early.
        for end in self.policy.take_due(self._loop.time() + 0.001):
            self._before_restart(end)
            self._spawn(end)
        self._arm()

    def _launcher_gone(self) -> None:
        self.policy.forget_all()
        for gone in self._gone.values():
            gone.set()
        self._gone.clear()
        self._on_launcher_gone()
