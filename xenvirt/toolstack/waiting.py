"""Waiting for both ends of a vif, and saying who keeps whom waiting."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from xenvirt.abi.ids import DomId
from xenvirt.abi.xenbus import XenbusState
from xenvirt.errors import StateTimeoutError, XenvirtError
from xenvirt.toolstack.vif_nodes import VifPaths, read_or_none, read_state
from xenvirt.xenstore.sync_client import SyncClient, SyncNodes

HOTPLUG_CONNECTED = "connected"
HOTPLUG_ERROR = "error"

OnEvent = Callable[[DomId], None]
"""Called with the frontend's domain when something has changed while waiting."""


def no_event(domid: DomId) -> None:
    """Do nothing about an event."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a vif is: what its two directories and error nodes say."""

    paths: VifPaths
    front: XenbusState
    back: XenbusState
    hotplug_status: str | None
    hotplug_error: str | None
    front_error: str | None
    back_error: str | None

    @property
    def connected(self) -> bool:
        """Whether frames can cross."""
        return self.front is self.back is XenbusState.CONNECTED

    @property
    def failed(self) -> bool:
        """Whether an end, or a script, has given up."""
        return (
            self.front_error is not None
            or self.back_error is not None
            or self.hotplug_status == HOTPLUG_ERROR
        )

    def causes(self) -> list[str]:
        """Return both states, and what each party left as its error."""
        said = [
            f"frontend {self.front.label}, backend {self.back.label}",
            f"hotplug-status {self.hotplug_status or 'empty'}",
        ]
        if self.hotplug_error:
            said.append(f"hotplug-error: {self.hotplug_error}")
        if self.front_error:
            said.append(f"frontend's error: {self.front_error}")
        if self.back_error:
            said.append(f"backend's error: {self.back_error}")
        waiting = self.who_waits()
        if waiting:
            said.append(waiting)
        return said

    def who_waits(self) -> str:
        """Return a sentence on who waits for whom; "" when both are Connected."""
        front = f"the frontend in domain {self.paths.frontend_id}"
        back = f"the backend in domain {self.paths.backend_id}"
        match self.front, self.back:
            case XenbusState.CONNECTED, XenbusState.CONNECTED:
                return ""
            case XenbusState.UNKNOWN, XenbusState.UNKNOWN:
                return "neither end has a node: the vif was removed"
            case XenbusState.UNKNOWN, _:
                return f"the frontend's node is gone, which {back} must notice"
            case _, XenbusState.UNKNOWN:
                return f"{front} waits for a backend whose node is gone"
            case _, XenbusState.INITIALISING:
                return f"{front} waits for {back} to become InitWait"
            case XenbusState.CONNECTED, XenbusState.INIT_WAIT:
                return self._backend_waits(front, back)
            case _, XenbusState.INIT_WAIT:
                return f"{back} waits for {front} to become Connected"
            case _, XenbusState.CLOSING:
                return f"{back} waits for {front} to become Closed"
            case _, XenbusState.CLOSED:
                return f"{back} is Closed and waits for {front} to begin again"
        return f"{back} waits for {front}"

    def _backend_waits(self, front: str, back: str) -> str:
        if self.hotplug_status != HOTPLUG_CONNECTED:
            return f"{back} waits for its hotplug script to write hotplug-status"
        return f"{front} waits for {back} to become Connected"


def look(nodes: SyncNodes, paths: VifPaths) -> Progress:
    """Read how far a vif is."""
    return Progress(
        paths,
        read_state(nodes, paths.frontend),
        read_state(nodes, paths.backend),
        read_or_none(nodes, f"{paths.backend}/hotplug-status"),
        read_or_none(nodes, f"{paths.backend}/hotplug-error"),
        read_or_none(nodes, paths.frontend_error),
        read_or_none(nodes, paths.backend_error),
    )


def until(
    store: SyncClient,
    paths: VifPaths,
    reached: Callable[[Progress], bool],
    *,
    timeout_s: float,
    on_event: OnEvent = no_event,
) -> bool:
    """Wait for `reached`; return whether it was within `timeout_s`.

    It is looked at when the backend's directory changes, which tells of everything
    but the last step of a frontend: one that moves makes its backend move.
    """
    return _until(store, paths, paths.backend, reached, timeout_s, on_event)


def until_connected(
    store: SyncClient,
    paths: VifPaths,
    *,
    timeout_s: float,
    on_event: OnEvent = no_event,
) -> None:
    """Wait until both ends are Connected.

    Raises StateTimeoutError with both states and everybody's errors, or XenvirtError
    with the same as soon as an end or a script has given up.
    """
    deadline = time.monotonic() + timeout_s

    def settled(progress: Progress) -> bool:
        return progress.connected or progress.failed

    done = until(
        store,
        paths,
        lambda progress: settled(progress) or progress.back is XenbusState.CONNECTED,
        timeout_s=timeout_s,
        on_event=on_event,
    ) and _until(
        store,
        paths,
        f"{paths.frontend}/state",
        settled,
        max(0.0, deadline - time.monotonic()),
        on_event,
    )
    progress = look(store, paths)
    if progress.connected:
        return
    what = f"vif {paths.devid} of domain {paths.frontend_id}"
    cause = "; ".join(progress.causes())
    if done:
        raise XenvirtError(f"{what} cannot connect", cause=cause)
    raise StateTimeoutError(
        f"{what} did not connect within {timeout_s:g} s",
        cause=cause,
        hint="xenvirt --timeout S waits longer",
    )


def _until(
    store: SyncClient,
    paths: VifPaths,
    watched: str,
    reached: Callable[[Progress], bool],
    timeout_s: float,
    on_event: OnEvent,
) -> bool:
    with store.watch(watched, timeout_s=timeout_s) as changes:
        for path in changes:
            on_event(paths.frontend_id)
            if _tells(path, watched) and reached(look(store, paths)):
                return True
    return False


def _tells(path: str, watched: str) -> bool:
    """Say whether an event is worth a look: features are written by the dozen."""
    return path == watched or path.rpartition("/")[2] in ("state", "hotplug-status")
