"""Links within one domain of Xen: both ends here, by grants to ourselves.

The frontend is a process in a network namespace of the link's name, the backend one
beside it; both are of the domain in which the command runs, dom0 for example. Nothing
but the record in the run directory remembers them: there is no daemon.
"""

import contextlib
import json
import logging
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from xenvirt.abi.ids import DevId, DomId
from xenvirt.errors import NotFoundError, StateTimeoutError, UsageError, XenvirtError
from xenvirt.hypervisor import kernel_drivers
from xenvirt.hypervisor.devices import EVTCHN, GNTALLOC, GNTDEV, require_xen
from xenvirt.netdev import namespaces
from xenvirt.toolstack import domains, link, vifs, waiting
from xenvirt.toolstack.domains import DomainInfo, NameTakenError
from xenvirt.toolstack.host import Connection
from xenvirt.toolstack.processes import fork
from xenvirt.toolstack.vif_nodes import VifPaths

STOP_TIMEOUT_S: Final = 10.0
"""More than an end takes to close in order."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Process:
    """A process, and when it began, in clock ticks: its number may be another's."""

    pid: int
    began: int

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """Return the process of that number, None if there is none."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return cls(pid, int(fields[19]))

    def stop(self) -> None:
        """Have it end in order, or StateTimeoutError; one that is gone is no error."""
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            # Looked at while it is held: the number cannot become another's between.
            if Process.of(self.pid) != self:
                return
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            if not select.select([pidfd], [], [], STOP_TIMEOUT_S)[0]:
                raise StateTimeoutError(
                    f"process {self.pid} did not end in {STOP_TIMEOUT_S:g} s",
                    hint=f"kill -9 {self.pid}",
                )
        finally:
            os.close(pidfd)


@dataclass(frozen=True, slots=True)
class Record:
    """A link, as the run directory remembers it."""

    name: str
    domid: DomId
    devid: DevId
    processes: tuple[Process, ...]

    @property
    def paths(self) -> VifPaths:
        """Where its nodes are."""
        return VifPaths(self.domid, self.domid, self.devid)


def up(
    host: Connection,
    request: link.Request,
    *,
    started: float,
    timeout_s: float,
    on_event: waiting.OnEvent = waiting.no_event,
) -> link.Link:
    """Make a link; return when both ends are Connected and have their addresses.

    NotFoundError or LocalError where Xen's devices are missing or the kernel would
    take the vif; errors of `vifs.plan` and `vifs.connect`. Nothing is left then.
    """
    require_xen(EVTCHN, GNTDEV, GNTALLOC)
    kernel_drivers.refuse_contest()
    kernel_drivers.refuse_contest(kernel_drivers.FRONTEND_BUS)
    domid = DomId(int(host.store.read("domid")))
    planned = vifs.plan(request.spec, frontend_id=domid, backend_id=domid)
    name = request.name or _free_name()
    _directory(host).mkdir(mode=0o755, parents=True, exist_ok=True)
    with contextlib.ExitStack() as undo:
        _create_namespace(name)
        undo.callback(namespaces.delete, name)
        _import_ends()
        paths = vifs.write(host, planned)
        processes: list[Process] = []
        undo.callback(_undo, host, name, paths, processes)
        for kind, netns in (("backend", None), ("frontend", name)):
            processes.append(_spawn(host, kind, paths, netns))
            _write_record(host, Record(name, domid, paths.devid, tuple(processes)))
        vifs.connect(host, paths, timeout_s=timeout_s, on_event=on_event)
        connected_s = time.monotonic() - started
        domain = DomainInfo(domid, name, "", time.time(), ())
        made = link.configure(host, domain, paths, request, connected_s)
        undo.pop_all()
    return made


def down(host: Connection, name: str, *, timeout_s: float) -> bool:
    """Take a link down; False if there is none of that name."""
    path = _record_path(host, name)
    try:
        record = _parse(json.loads(path.read_text()))
    except FileNotFoundError:
        return False
    _stop(host, record.paths, record.processes, forced=False, timeout_s=timeout_s)
    namespaces.delete(name)
    path.unlink()
    return True


def down_all(host: Connection, *, timeout_s: float) -> list[str]:
    """Take every link down; return their names."""
    found = list(names(host))
    return [name for name in found if down(host, name, timeout_s=timeout_s)]


def names(host: Connection) -> Iterator[str]:
    """Yield the names of the links there are."""
    for path in sorted(_directory(host).glob("*.json")):
        yield path.stem


def find(host: Connection, name: str) -> Record:
    """Return the link of that name; NotFoundError."""
    try:
        return _parse(json.loads(_record_path(host, name).read_text()))
    except FileNotFoundError as error:
        raise NotFoundError(
            f"there is no link {name}", hint=f"xenvirt up {name}"
        ) from error


def _undo(
    host: Connection, name: str, paths: VifPaths, processes: list[Process]
) -> None:
    """Take down a link that did not come up; its record stays if that fails."""
    try:
        _stop(host, paths, processes, forced=True)
    except XenvirtError as error:
        log.error("%s is not down: %s; xenvirt down %s", name, error, name)
    else:
        _record_path(host, name).unlink(missing_ok=True)


def _stop(
    host: Connection,
    paths: VifPaths,
    processes: Iterable[Process],
    *,
    forced: bool,
    timeout_s: float = vifs.CLOSE_TIMEOUT_S,
) -> None:
    """Unplug the vif, which both ends then let go of, and end them, whatever fails."""
    with contextlib.ExitStack() as each:
        for process in processes:
            each.callback(process.stop)
        vifs.remove(host, [paths], forced=forced, timeout_s=timeout_s)


def _free_name() -> str:
    taken = set(namespaces.list_names())
    number = 0
    while f"{link.DEFAULT_NAME}{number}" in taken:
        number += 1
    return f"{link.DEFAULT_NAME}{number}"


def _create_namespace(name: str) -> None:
    domains.check_new_name(name)
    if namespaces.exists(name):
        raise NameTakenError(
            f"the name {name} is taken",
            cause="a network namespace has it",
            hint=f"xenvirt down {name}, or choose another name",
        )
    namespaces.create(name)


def _import_ends() -> None:
    """Import once what both ends need, before they are forked."""
    from xenvirt.netdev import links
    from xenvirt.vif import main  # noqa: F401

    # Netlink's own import is put off to its first use.
    links.exists("lo")


def _spawn(host: Connection, kind: str, paths: VifPaths, netns: str | None) -> Process:
    pid = fork()
    if pid == 0:
        _become_end(host, kind, paths, netns)
    process = Process.of(pid)
    assert process is not None
    return process


def _become_end(
    host: Connection, kind: str, paths: VifPaths, netns: str | None
) -> NoReturn:
    status = 1
    try:
        _leave_the_terminal(host.run_dir.log)
        if netns is not None:
            namespaces.enter(netns)
        from xenvirt.vif.main import XEN, Role, run_on_xen

        run_dir = str(host.run_dir.path)
        if kind == "frontend":
            ids: tuple[int, ...] = (paths.devid,)
        else:
            ids = (paths.frontend_id, paths.devid)
        run_on_xen(Role(kind, netns or "host", run_dir, XEN, frozenset({ids})))
        status = 0
    except BaseException:
        log.exception("the %s of vif %d failed", kind, paths.devid)
    finally:
        logging.shutdown()
        # Not an exception: the command's own frames are below this one.
        os._exit(status)


def _leave_the_terminal(log_path: Path) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))


def _directory(host: Connection) -> Path:
    return host.run_dir.path / "links"


def _record_path(host: Connection, name: str) -> Path:
    if "/" in name or name in ("", ".", ".."):
        raise UsageError(f"{name!r} is no name of a link")
    return _directory(host) / f"{name}.json"


def _write_record(host: Connection, record: Record) -> None:
    path = _record_path(host, record.name)
    made = path.with_suffix(".new")
    made.write_text(
        json.dumps(
            {
                "name": record.name,
                "domid": record.domid,
                "devid": record.devid,
                "processes": [[p.pid, p.began] for p in record.processes],
            }
        )
    )
    made.replace(path)


def _parse(record: dict[str, object]) -> Record:
    processes = record["processes"]
    assert isinstance(processes, list)
    return Record(
        str(record["name"]),
        DomId(int(str(record["domid"]))),
        DevId(int(str(record["devid"]))),
        tuple(Process(pid, began) for pid, began in processes),
    )
