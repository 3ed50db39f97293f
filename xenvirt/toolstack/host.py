"""What commands use: a store, and a lookup into the hypervisor; a daemon's or Xen's."""

import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from xenvirt.abi.ids import DevId, DomId
from xenvirt.errors import LocalError, NotFoundError, NotPermittedError
from xenvirt.hypervisor import conventions
from xenvirt.hypervisor import sync_client as hypercalls
from xenvirt.hypervisor.conventions import Conventions
from xenvirt.toolstack.rundir import RunDir
from xenvirt.xenstore import sync_client as xenstore
from xenvirt.xenstore.errors import StoreConnectionError

ROOT_RUN_DIR: Final = Path("/run/xenvirt")

ANSWER_S: Final = 10.0
"""How long a store may take that has just let a command connect."""

RECONNECT_S: Final = hypercalls.DEFAULT_TIMEOUT_S
"""How long a command waits for a daemon that is started again."""


class Lookup(Protocol):
    """What can be asked of either hypervisor, as `hypercalls.SyncClient` answers."""

    @property
    def sees_ports(self) -> bool:
        """Whether it can be had which port is bound to which."""

    def domain_list(self) -> list[dict[str, object]]:
        """Return every domain: domid, name, uuid, created (s), ends."""

    def ports(self, domid: DomId) -> list[dict[str, object]]:
        """Return a domain's open ports: port, state, remote_domid, remote_port."""

    def published(self, domid: DomId, devid: DevId) -> list[hypercalls.PublishedPage]:
        """Return the statistics pages of a vif of a frontend domain."""

    def close(self) -> None:
        """End the connection, if there is one."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A store, and a lookup into the hypervisor; `close` it, or use it as a context.

    `run_dir` is where processes of ours leave what tools look for.
    """

    run_dir: RunDir
    hypervisor: Lookup
    store: xenstore.SyncClient
    conventions: Conventions

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close both connections; what they lead to stays."""
        self.store.close()
        self.hypervisor.close()

    def back_ifname(self, frontend_id: DomId, devid: DevId) -> str:
        """Return what a backend's interface is called unless it has another name."""
        return self.conventions.back_ifname.format(domid=frontend_id, devid=devid)


@dataclass(frozen=True, slots=True)
class Host(Connection):
    """A running daemon's hypercalls and store."""

    hypervisor: hypercalls.SyncClient


def connect(run_dir: RunDir) -> Host:
    """Connect to the daemon; NotFoundError without one, NotPermittedError."""
    try:
        return _with_store(run_dir, hypercalls.SyncClient(run_dir.hypervisor_socket))
    except NotFoundError as error:
        _refuse_other_users(run_dir)
        raise NotFoundError(
            f"no daemon runs in {run_dir.path}",
            cause=error.cause,
            hint="xenvirt up starts one, with a link; xenvirt daemon starts it alone",
        ) from error


def connect_or_start(run_dir: RunDir) -> Host:
    """Connect to the daemon, started if it did not run; LocalError if it does not."""
    try:
        hypervisor = hypercalls.SyncClient(run_dir.hypervisor_socket)
    except NotFoundError:
        # It brings a good part of the standard library, which a command that finds
        # a daemon has no use for.
        from xenvirt.toolstack.daemon import ensure_daemon

        hypervisor = ensure_daemon(run_dir)
    return _with_store(run_dir, hypervisor)


def _with_store(run_dir: RunDir, hypervisor: hypercalls.SyncClient) -> Host:
    try:
        if not os.access(run_dir.xenstored_socket, os.W_OK):
            raise NotPermittedError(
                f"may not connect to {run_dir.xenstored_socket}",
                cause=f"user {os.geteuid()} is not the daemon's",
                hint="run it as root, with sudo",
            )
        store = xenstore.SyncClient(
            str(run_dir.xenstored_socket), reconnect_s=RECONNECT_S, answer_s=ANSWER_S
        )
    except StoreConnectionError as error:
        hypervisor.close()
        raise LocalError(
            f"the store of the daemon in {run_dir.path} does not answer",
            cause=error.cause,
            hint=f"see {run_dir.log}",
        ) from error
    except BaseException:
        hypervisor.close()
        raise
    return Host(run_dir, hypervisor, store, conventions.EMULATED)


def _refuse_other_users(run_dir: RunDir) -> None:
    """Say so when the daemon that a user means is root's."""
    roots = RunDir(ROOT_RUN_DIR)
    if os.geteuid() != 0 and roots != run_dir and roots.hypervisor_socket.exists():
        raise NotPermittedError(
            f"no daemon runs in {run_dir.path}",
            cause=f"root's, in {roots.path}, is not for user {os.geteuid()}",
            hint="run it as root, with sudo",
        )
