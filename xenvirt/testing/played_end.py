"""What a played frontend and a played backend have in common."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from xenvirt.hypervisor.interface import Side
from xenvirt.testing.bare_domain import BareDomain, new_name
from xenvirt.testing.driver import Driver
from xenvirt.testing.signs import Signs
from xenvirt.toolstack import host as hosts
from xenvirt.toolstack import vif_nodes
from xenvirt.toolstack.domains import DomainInfo
from xenvirt.toolstack.rundir import RunDir
from xenvirt.xenstore.payloads import Value
from xenvirt.xenstore.sync_client import SyncClient, SyncNodes

if TYPE_CHECKING:
    from xenvirt.toolstack.host import Host
    from xenvirt.toolstack.vif_nodes import VifPaths

Changes = Mapping[str, Value | None]
"""Keys of the own directory, to be written; None: to be left out, or removed."""

TIMEOUT_S: Final = 10.0


class PlayedEnd:
    """One end of a vif, in a domain of its own; a context that removes all it made.

    `run_dir` is the daemon's, which must run; None: as the command finds it. `vif` are
    words as for `xenvirt network-attach`. `timeout_s` bounds every waiting.
    """

    side: Side

    def __init__(
        self,
        run_dir: Path | str | None = None,
        *,
        name: str | None = None,
        vif: tuple[str, ...] = (),
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.timeout_s = timeout_s
        self.name = name or new_name()
        self._run_dir = RunDir.find(run_dir)
        self._words = vif
        self._undo = ExitStack()
        self.host: Host
        self.domain: BareDomain
        self.paths: VifPaths
        self.store: SyncClient
        self.driver: Driver
        self._signs: Signs

    def __enter__(self) -> Self:
        # Whoever has this stack adds to it until the end, as for each event channel.
        undo = self._undo
        with ExitStack() as on_error:
            on_error.callback(undo.close)
            self.host = undo.enter_context(hosts.connect(self._run_dir))
            self.domain = BareDomain(self.host, self.name, undo)
            frontend = self._make_vif(undo)
            self.store = self.domain.open_store()
            undo.callback(self._leave)
            other: Side = "back" if self.side == "front" else "front"
            self.driver = Driver(self.host, frontend, self.paths, other)
            self._signs = Signs(self.domain.open_xenbus(), self.driver.path, undo)
            on_error.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _make_vif(self, undo: ExitStack) -> DomainInfo:
        """Write the vif's nodes, set `paths`, and return the frontend's domain."""
        raise NotImplementedError

    def _leave(self) -> None:
        """Do what is due before the vif goes."""

    # ---- XenStore, with this domain's rights ----

    @property
    def path(self) -> str:
        """The own directory."""
        return self.paths.frontend if self.side == "front" else self.paths.backend

    def read(self, key: str) -> str | None:
        """Return a key of the own directory, None if there is none."""
        return vif_nodes.read_or_none(self.store, f"{self.path}/{key}")

    def write(self, keys: Changes) -> None:
        """Change keys of the own directory, all at once; the order is that given."""

        def work(nodes: SyncNodes) -> None:
            for key, value in keys.items():
                if value is not None:
                    nodes.write({f"{self.path}/{key}": value})
                elif nodes.exists(f"{self.path}/{key}"):
                    nodes.rm(f"{self.path}/{key}")

        self.store.transact(work)

    # ---- Waiting ----

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until the condition holds, which `what` says as in "did not answer".

        It is looked at after each notification and each change of the driver's nodes.
        StateTimeoutError.
        """
        if not self._signs.wait_until(condition, self.timeout_s):
            raise self.driver.timeout(what, self.timeout_s)
