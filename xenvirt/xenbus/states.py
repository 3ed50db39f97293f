"""Which state follows which, for either end; no I/O and no device in here.

The backend walks as Linux netback does (xen-netback/xenbus.c, set_backend_state):
states merge on the way, so that it is told where the frontend is, and goes there
by single steps. The frontend reacts as xen-netfront does (netback_changed).
"""

from collections.abc import Iterator, Mapping
from enum import Enum, auto
from typing import Final

from xenvirt.abi.xenbus import XenbusState

INITIALISING = XenbusState.INITIALISING
INIT_WAIT = XenbusState.INIT_WAIT
INITIALISED = XenbusState.INITIALISED
CONNECTED = XenbusState.CONNECTED
CLOSING = XenbusState.CLOSING
CLOSED = XenbusState.CLOSED
UNKNOWN = XenbusState.UNKNOWN

BACK_STEPS: Final[Mapping[XenbusState, Mapping[XenbusState, XenbusState]]] = {
    # From a state, by the state that is wanted: the next one.
    INITIALISING: {
        INIT_WAIT: INIT_WAIT,
        CONNECTED: INIT_WAIT,
        CLOSING: INIT_WAIT,
        CLOSED: CLOSED,
    },
    INIT_WAIT: {CONNECTED: CONNECTED, CLOSING: CLOSING, CLOSED: CLOSING},
    CONNECTED: {INIT_WAIT: CLOSING, CLOSING: CLOSING, CLOSED: CLOSING},
    CLOSING: {INIT_WAIT: CLOSED, CONNECTED: CLOSED, CLOSED: CLOSED},
    CLOSED: {INIT_WAIT: INIT_WAIT, CONNECTED: INIT_WAIT, CLOSING: CLOSING},
}

BACK_WANTED: Final[Mapping[XenbusState, XenbusState | None]] = {
    # A frontend that crashed and started again is seen here as Initialising.
    INITIALISING: INIT_WAIT,
    INITIALISED: None,
    CONNECTED: CONNECTED,
    CLOSING: CLOSING,
    CLOSED: CLOSED,
    UNKNOWN: CLOSED,
}
"""What the backend wants when it sees the frontend in a state; any other is fatal."""


IN_USE: Final = frozenset({INIT_WAIT, INITIALISED, CONNECTED})
"""States of an end that has made what the device needs, and not let go of it."""


class FrontReaction(Enum):
    """What the frontend does when the backend changes."""

    NOTHING = auto()
    CONNECT = auto()
    LINK_UP = auto()
    CLOSE = auto()


def back_walk(state: XenbusState, wanted: XenbusState) -> Iterator[XenbusState]:
    """Every state on the backend's way from `state` to `wanted`, without `state`."""
    while state != wanted:
        state = BACK_STEPS[state][wanted]
        yield state


def front_reaction(own: XenbusState, backend: XenbusState) -> FrontReaction:
    """What a frontend in state `own` does when it sees the backend in `backend`."""
    if backend is INIT_WAIT and own is INITIALISING:
        return FrontReaction.CONNECT
    if backend is CONNECTED and own is CONNECTED:
        return FrontReaction.LINK_UP
    if backend is CLOSED and own is INITIALISING:
        return FrontReaction.NOTHING  # not begun yet: netfront's probe waits for it
    if backend in (CLOSING, CLOSED) and own is not CLOSED:
        return FrontReaction.CLOSE
    return FrontReaction.NOTHING
