"""The processes of the ends, and the namespaces and TAPs that go with them."""

import logging
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from xenvirt.abi.ids import DomId
from xenvirt.abi.netif import MAX_QUEUES_DEFAULT
from xenvirt.errors import HypercallError, XenvirtError
from xenvirt.hypervisor import arguments
from xenvirt.hypervisor.caller import CALLERS_GID_OFFSET
from xenvirt.netdev import links
from xenvirt.toolstack import orders
from xenvirt.toolstack.confinement import END_CAPABILITIES
from xenvirt.toolstack.hands import Hands, Namespaces, Taps
from xenvirt.toolstack.orders import Order
from xenvirt.toolstack.processes import fork
from xenvirt.toolstack.rundir import Record, RunDir, close_other_fds

RESERVED_TAPS: Final = 64 * MAX_QUEUES_DEFAULT
"""Queues that an end can have where only root may open /dev/net/tun: of 64 vifs."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _End:
    role: str
    domid: DomId


class Ends:
    """Makes namespaces and forks ends; lives in the launcher's process.

    `uid_base` is added to a domid to give its processes' uid and gid.
    """

    def __init__(self, run_dir: RunDir, hands: Hands, *, uid_base: int) -> None:
        self._run_dir = run_dir
        self._hands = hands
        self._uid_base = uid_base
        self._pid = os.getpid()
        self._running: dict[int, _End] = {}
        self._made: dict[str, Record] = {}
        self.orders: Final[Mapping[str, Order]] = {
            "netns_create": Order(self._netns_create, {"name": orders.name}),
            "netns_delete": Order(self._netns_delete, {"name": orders.name}),
            "spawn": Order(
                self._spawn,
                {
                    "role": orders.role,
                    "domid": arguments.domid,
                    "name": orders.name_of_any,
                    "netns": orders.name_or_none,
                },
            ),
            "signal": Order(
                self._signal, {"pid": orders.pid, "sig": orders.stop_signal}
            ),
        }

    def __len__(self) -> int:
        """The processes that run."""
        return len(self._running)

    def described(self) -> Iterator[dict[str, object]]:
        """Yield what a daemon that begins has to know."""
        for pid, end in self._running.items():
            yield {"end": pid, "role": end.role, "domid": end.domid}
        for record in self._made.values():
            if record.netns is not None:
                yield {"netns": record.netns}

    def ended(self, pid: int) -> bool:
        """Note that a process was reaped; false if it was no end."""
        return self._running.pop(pid, None) is not None

    def kill(self, sig: int) -> None:
        """Send a signal to every end."""
        for pid in self._running:
            os.kill(pid, sig)

    def clean_up(self) -> None:
        """Delete everything that was made; no end may run."""
        for record in list(self._made.values()):
            try:
                clean_up(
                    record, self._run_dir, self._hands.namespaces, self._hands.taps
                )
            except XenvirtError as error:
                # The record stays: the next daemon tries again.
                _log.error("cannot clean up after %s: %s", record.name, error)
            else:
                self._run_dir.remove_record(record.name)

    def _netns_create(self, name: str) -> dict[str, object]:
        ids = range(self._uid_base, self._uid_base + CALLERS_GID_OFFSET + 1)
        alias = links.netns_alias(str(self._run_dir.path), name)
        self._hands.namespaces.create(name, ids, alias)
        try:
            self._note(Record(name, netns=name, host_taps=False))
        except XenvirtError:
            self._hands.namespaces.delete(name)
            raise
        return {}

    def _netns_delete(self, name: str) -> dict[str, object]:
        self._require_own(name)
        self._hands.namespaces.delete(name)
        del self._made[name]
        self._run_dir.remove_record(name)
        return {}

    def _spawn(
        self, role: str, domid: DomId, name: str, netns: str | None
    ) -> dict[str, object]:
        if netns is not None:
            self._require_own(netns)
        elif role == "backend" and name not in self._made:
            self._note(Record(name, netns=None, host_taps=True))
        pid = fork()
        if pid == 0:
            self._become_end(role, domid, name, netns)
        self._running[pid] = _End(role, domid)
        return {"pid": pid}

    def _require_own(self, netns: str) -> None:
        record = self._made.get(netns)
        if record is None or record.netns is None:
            raise HypercallError(
                "EPERM", f"network namespace {netns} was not made by this launcher"
            )

    def _signal(self, pid: int, sig: int) -> dict[str, object]:
        # One of this process's own children that has not been reaped: the pid
        # cannot have become anybody else's.
        if pid not in self._running:
            raise HypercallError("ESRCH", f"process {pid} is no end")
        os.kill(pid, sig)
        return {}

    def _become_end(
        self, role: str, domid: DomId, name: str, netns: str | None
    ) -> NoReturn:
        status = 1
        try:
            close_other_fds({0, 1, 2})
            if netns is not None:
                self._hands.namespaces.enter(netns)
            self._hands.reserve_taps(RESERVED_TAPS)
            uid = self._uid_base + domid
            group = self._uid_base + CALLERS_GID_OFFSET
            self._hands.drop_privileges(uid, group, END_CAPABILITIES)
            # After the drop, which would clear it.
            self._hands.die_with_parent(signal.SIGTERM)
            self._hands.filter_calls()
            if os.getppid() == self._pid:
                status = self._hands.run_end(role, domid, name, str(self._run_dir.path))
        except BaseException:
            _log.exception("the %s of domain %d (%s) failed", role, domid, name)
        finally:
            logging.shutdown()
            # Not an exception: the launcher's own frames are below this one.
            os._exit(status)

    def _note(self, record: Record) -> None:
        self._run_dir.write_record(record)
        self._made[record.name] = record


def clean_up(
    record: Record, run_dir: RunDir, namespaces: Namespaces, taps: Taps
) -> None:
    """Delete what was made for a domain."""
    if record.netns is not None:
        namespaces.delete(record.netns)
    if record.host_taps:
        for name in taps.owned(str(run_dir.path)):
            taps.delete(name)
