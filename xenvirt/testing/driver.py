"""The driver under test, seen from outside: nodes, error, log, counters, frames."""

import contextlib
from typing import Final

from xenvirt.abi.ids import DOM0
from xenvirt.abi.xenbus import XenbusState
from xenvirt.errors import NotFoundError, StateTimeoutError
from xenvirt.hypervisor.interface import Side
from xenvirt.netdev import namespaces
from xenvirt.netdev.operstate import wait_until_up
from xenvirt.testing.wire import Tap
from xenvirt.toolstack import inspect, vif_nodes, waiting
from xenvirt.toolstack.domains import DomainInfo, find
from xenvirt.toolstack.host import Host
from xenvirt.toolstack.inspect import EndView
from xenvirt.toolstack.vif_nodes import VifPaths
from xenvirt.xenstore.errors import StoreNotFoundError

GIVEN_UP: Final = (XenbusState.CLOSING, XenbusState.CLOSED, XenbusState.UNKNOWN)
"""States of a driver that takes nothing more."""


class Driver:
    """One end of a vif, which is `side`; `frontend` is the domain whose vif it is."""

    def __init__(
        self, host: Host, frontend: DomainInfo, paths: VifPaths, side: Side
    ) -> None:
        self._host = host
        self._frontend = frontend
        self._paths = paths
        self._side = side
        back = side == "back"
        self.path = paths.backend if back else paths.frontend
        self.error_path = paths.backend_error if back else paths.frontend_error
        self.domid = paths.backend_id if back else paths.frontend_id

    def read(self, key: str) -> str | None:
        """Return a key of its directory, None if there is none."""
        return vif_nodes.read_or_none(self._host.store, f"{self.path}/{key}")

    def state(self) -> XenbusState:
        """Return its state; UNKNOWN if its directory is gone."""
        return vif_nodes.read_state(self._host.store, self.path)

    def has_given_up(self) -> bool:
        """Return whether it is Closing, Closed or gone."""
        return self.state() in GIVEN_UP

    def wait_for(self, *states: XenbusState, timeout_s: float = 10.0) -> XenbusState:
        """Wait until it is in one of these states; StateTimeoutError."""
        try:
            text = self._host.store.wait_for(
                f"{self.path}/state",
                lambda value: XenbusState.parse(value) in states,
                timeout_s=timeout_s,
            )
        except TimeoutError:
            wanted = " or ".join(state.label for state in states)
            raise self.timeout(f"did not become {wanted}", timeout_s) from None
        return XenbusState.parse(text)

    def error(self) -> str | None:
        """Return its error node: a number and a text, None if there is none."""
        return vif_nodes.read_or_none(self._host.store, self.error_path)

    def closed(self, *, timeout_s: float = 10.0) -> str:
        """Wait until it has given up, and return its error node, "" if it left none."""
        self.wait_for(*GIVEN_UP, timeout_s=timeout_s)
        return self.error() or ""

    def log(self) -> list[str]:
        """Return the lines about this vif that its process has logged so far.

        A line is there before the node that it explains. There are none of a process
        that is not xenvirt's.
        """
        domid, devid = self._paths.frontend_id, self._paths.devid
        if self._side == "back":
            process, label = f"backend-{self.domid}[", f" xvif{domid}i{devid}: "
        else:
            process, label = f"frontend-{domid}[", f" xennet{devid}: "
        lines = self._host.run_dir.log.read_text(errors="replace").splitlines()
        return [line for line in lines if label in line and process in line]

    def view(self) -> EndView:
        """Return everything that can be seen of it, as `xenvirt show` has it."""
        vif = inspect.of_vif(self._host, self._frontend, self._paths)
        return vif.back if self._side == "back" else vif.front

    def counters(self) -> dict[str, int]:
        """Return its counters that are not 0, of all its queues together.

        NotFoundError of a bare domain's driver that publishes none.
        """
        queues = self.view().queues
        if not queues:
            self._refuse_bare("publishes no counters")
        total: dict[str, int] = {}
        for queue in queues:
            for name, value in queue.counters.items():
                total[name] = total.get(name, 0) + value
        return {name: value for name, value in total.items() if value}

    def broken(self) -> str | None:
        """Return why one of its queues has stopped for good, if it publishes that."""
        return next((q.broken for q in self.view().queues if q.broken), None)

    def tap(self, *, timeout_s: float = 10.0) -> Tap:
        """Open a raw socket on its interface: what arrives there, and what it sends.

        Whoever was handed it closes it; it is a context. Waits for the interface to
        have a carrier; StateTimeoutError. NotFoundError of a bare domain's driver: what
        is behind it is nothing that xenvirt made.
        """
        self._refuse_bare("has no interface that is known here")
        name = self.read("vifname")
        if name is None:
            raise StoreNotFoundError("ENOENT", f"{self.path}/vifname")
        with contextlib.ExitStack() as inside:
            if self.domid != DOM0:
                domain = find(self._host, str(self.domid))
                inside.enter_context(namespaces.inside(domain.name))
            if not wait_until_up(name, timeout_s):
                raise StateTimeoutError(f"{name} has no carrier after {timeout_s} s")
            return Tap(name)

    def _refuse_bare(self, lacks: str) -> None:
        domain = find(self._host, str(self.domid))
        if domain.domid != DOM0 and not domain.ends:
            raise NotFoundError(
                f"the {self._side}end in domain {domain.name} {lacks}",
                cause="the domain is bare: its driver is a process that xenvirt does "
                "not run",
                hint="ask that process",
            )

    def timeout(self, what: str, timeout_s: float) -> StateTimeoutError:
        """Return the error for what it `did not` do, with all that is known."""
        causes = waiting.look(self._host.store, self._paths).causes()
        return StateTimeoutError(
            f"the {self._side}end of vif {self._paths.devid} of domain "
            f"{self._paths.frontend_id} {what} within {timeout_s:g} s",
            cause="; ".join(causes),
        )
