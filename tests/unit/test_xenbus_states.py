"""The two state tables, held against xen-netback's walker and xen-netfront."""

from itertools import product

import pytest

from xenvirt.abi.xenbus import XenbusState
from xenvirt.xenbus.states import (
    BACK_STEPS,
    CLOSED,
    CLOSING,
    CONNECTED,
    INIT_WAIT,
    INITIALISED,
    INITIALISING,
    UNKNOWN,
    FrontReaction,
    back_walk,
    front_reaction,
)

WALKS = [
    (INITIALISING, INIT_WAIT, [INIT_WAIT]),
    (INITIALISING, CONNECTED, [INIT_WAIT, CONNECTED]),
    (INITIALISING, CLOSED, [CLOSED]),
    (INIT_WAIT, CONNECTED, [CONNECTED]),
    (INIT_WAIT, CLOSED, [CLOSING, CLOSED]),
    # A frontend that crashed and came back.
    (CONNECTED, INIT_WAIT, [CLOSING, CLOSED, INIT_WAIT]),
    (CONNECTED, CLOSING, [CLOSING]),
    (CONNECTED, CLOSED, [CLOSING, CLOSED]),
    (CLOSING, CONNECTED, [CLOSED, INIT_WAIT, CONNECTED]),
    (CLOSED, CONNECTED, [INIT_WAIT, CONNECTED]),
    (CLOSED, CLOSING, [CLOSING]),
]


@pytest.mark.parametrize(("state", "wanted", "way"), WALKS)
def test_the_backend_goes_step_by_step(
    state: XenbusState, wanted: XenbusState, way: list[XenbusState]
) -> None:
    assert list(back_walk(state, wanted)) == way


def test_every_walk_ends() -> None:
    for state, wanted in product(BACK_STEPS, (INIT_WAIT, CONNECTED, CLOSING, CLOSED)):
        way = list(back_walk(state, wanted))
        assert len(way) <= 3
        assert (way or [state])[-1] is wanted


REACTIONS = [
    (INITIALISING, INIT_WAIT, FrontReaction.CONNECT),
    # Only in its first state: InitWait again later does not restart it.
    (CONNECTED, INIT_WAIT, FrontReaction.NOTHING),
    (CLOSED, INIT_WAIT, FrontReaction.NOTHING),
    (CONNECTED, CONNECTED, FrontReaction.LINK_UP),
    (INITIALISING, CONNECTED, FrontReaction.NOTHING),
    (CONNECTED, CLOSING, FrontReaction.CLOSE),
    (CONNECTED, CLOSED, FrontReaction.CLOSE),
    (CLOSED, CLOSED, FrontReaction.NOTHING),
    # The last connection's end, not this one's.
    (INITIALISING, CLOSED, FrontReaction.NOTHING),
    (CLOSED, CLOSING, FrontReaction.NOTHING),
    (CONNECTED, UNKNOWN, FrontReaction.NOTHING),
    (INITIALISING, INITIALISING, FrontReaction.NOTHING),
    (INITIALISING, INITIALISED, FrontReaction.NOTHING),
]


@pytest.mark.parametrize(("own", "backend", "reaction"), REACTIONS)
def test_the_frontend_reacts_to_the_backend(
    own: XenbusState, backend: XenbusState, reaction: FrontReaction
) -> None:
    assert front_reaction(own, backend) is reaction


@pytest.mark.parametrize("text", [None, "", "x", "9", "-1", "4.0"])
def test_a_state_that_cannot_be_read_is_unknown(text: str | None) -> None:
    assert XenbusState.parse(text) is UNKNOWN
