"""The backend's side of a vif's life, without I/O: events in, actions out.

It is xen-netback's: the frontend's state says where to go (`states.back_walk`); the
rings are connected on entering Connected and let go on leaving it; and Connected is
shown to the frontend only when the hotplug script has said `connected`. The
frontend's side is one table, `states.front_reaction`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from errno import EINVAL
from typing import Final

from xenvirt.abi.xenbus import XenbusState
from xenvirt.xenbus.states import BACK_WANTED, back_walk

HOTPLUG_CONNECTED: Final = "connected"

_SHOWN: Final = 32
"""Characters of what a frontend wrote in place of a state."""


@dataclass(frozen=True, slots=True)
class Connect:
    """Read the frontend's keys, map its rings, bind its event channel."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Let go of rings and event channel."""


@dataclass(frozen=True, slots=True)
class SwitchState:
    """Write the own state."""

    state: XenbusState


@dataclass(frozen=True, slots=True)
class Unregister:
    """The device is not to come back."""


@dataclass(frozen=True, slots=True)
class Fatal:
    """Write the error node and go to Closing."""

    number: int
    message: str


Action = Connect | Disconnect | SwitchState | Unregister | Fatal


class BackHandshake:
    """Where the backend is, and what it must do next.

    Actions are to be carried out one by one before the next is taken: `failed` may
    come between. `state` is where the walk is; what is written may lag behind while
    the hotplug script is awaited, which is until `hotplug_connected`.
    """

    def __init__(self, state: XenbusState = XenbusState.INITIALISING) -> None:
        self.state = state
        self.hotplug_connected = False
        self._aborted = False
        self._given_up = False

    def frontend_wrote(self, text: str | None, *, online: bool) -> Iterator[Action]:
        """The frontend's `state` is this text; None: it is gone.

        Linux takes what is no state for a frontend that is gone, and says nothing.
        """
        state = XenbusState.parse(text)
        if text is not None and state is XenbusState.UNKNOWN and text.strip() != "0":
            shown = text[:_SHOWN]
            yield from self._fatal(EINVAL, f"saw state {shown} at frontend")
        else:
            yield from self.frontend_changed(state, online=online)

    def frontend_changed(
        self, frontend: XenbusState, *, online: bool
    ) -> Iterator[Action]:
        """The frontend is in a state; `online` is the toolstack's own key."""
        if frontend not in BACK_WANTED:
            yield from self._fatal(EINVAL, f"saw state {int(frontend)} at frontend")
            return
        wanted = BACK_WANTED[frontend]
        if wanted is None or (self._given_up and wanted is not XenbusState.CLOSED):
            return
        yield from self._walk(wanted)
        if frontend is XenbusState.UNKNOWN or (
            frontend is XenbusState.CLOSED and not online
        ):
            yield Unregister()

    def hotplug_changed(self, status: str | None) -> Iterator[Action]:
        """The script wrote `hotplug-status`."""
        was_connected = self.hotplug_connected
        self.hotplug_connected = status == HOTPLUG_CONNECTED
        if (
            self.hotplug_connected
            and not was_connected
            and self.state is XenbusState.CONNECTED
        ):
            yield SwitchState(XenbusState.CONNECTED)

    def broken(self, number: int, reason: str) -> Iterator[Action]:
        """The frontend broke a rule of the ring: nothing more is taken from it.

        Linux only goes silent; the error node and Closing tell the user why.
        """
        if self.state is XenbusState.CONNECTED:
            yield from self._fatal(number, reason)

    def failed(self) -> None:
        """An action could not be carried out and Closing has been written."""
        self.state = XenbusState.CLOSING
        self._aborted = True

    def withdrawn(self) -> None:
        """The frontend has moved on while it was to be connected; stay where we are.

        What it has come to meanwhile is told next.
        """
        self._aborted = True

    def give_up(self) -> None:
        """The device could not be set up, and Closing has been written: never connect.

        Linux has no driver bound to such a device; ours still answers to its removal.
        """
        self.state = XenbusState.CLOSING
        self._given_up = True

    def _fatal(self, number: int, reason: str) -> Iterator[Action]:
        """Closing is written; a frontend that begins again finds us there."""
        if self.state is XenbusState.CONNECTED:
            yield Disconnect()
        yield Fatal(number, reason)
        self.state = XenbusState.CLOSING

    def _walk(self, wanted: XenbusState) -> Iterator[Action]:
        self._aborted = False
        for state in back_walk(self.state, wanted):
            if self.state is XenbusState.CONNECTED:
                yield Disconnect()
            if state is XenbusState.CONNECTED:
                yield Connect()
                if self._aborted:
                    return
            self.state = state
            if state is not XenbusState.CONNECTED or self.hotplug_connected:
                yield SwitchState(state)
