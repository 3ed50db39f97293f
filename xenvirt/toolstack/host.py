"""A running daemon as commands use it: its hypercalls and its store."""

import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from xenvirt.errors import NotFoundError, NotPermittedError
from xenvirt.hypervisor import sync_client as hypercalls
from xenvirt.toolstack.rundir import RunDir
from xenvirt.xenstore import sync_client as xenstore

ROOT_RUN_DIR: Final = Path("/run/xenvirt")

RECONNECT_S: Final = hypercalls.DEFAULT_TIMEOUT_S
"""How long a command waits for a daemon that is started again."""


@dataclass(frozen=True, slots=True)
class Host:
    """Connections to both of a daemon's sockets; `close` it, or use it as a context."""

    run_dir: RunDir
    hypervisor: hypercalls.SyncClient
    store: xenstore.SyncClient

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
        """Close both connections; the daemon stays."""
        self.store.close()
        self.hypervisor.close()


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
            str(run_dir.xenstored_socket), reconnect_s=RECONNECT_S
        )
    except BaseException:
        hypervisor.close()
        raise
    return Host(run_dir, hypervisor, store)


def _refuse_other_users(run_dir: RunDir) -> None:
    """Say so when the daemon that a user means is root's."""
    roots = RunDir(ROOT_RUN_DIR)
    if os.geteuid() != 0 and roots != run_dir and roots.hypervisor_socket.exists():
        raise NotPermittedError(
            f"no daemon runs in {run_dir.path}",
            cause=f"root's, in {roots.path}, is not for user {os.geteuid()}",
            hint="run it as root, with sudo",
        )
