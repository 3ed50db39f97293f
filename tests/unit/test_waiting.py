import itertools

import pytest

from tests.helpers_xenstore import running_store
from xenvirt.abi.ids import DOM0, DevId, DomId
from xenvirt.abi.xenbus import XenbusState
from xenvirt.toolstack.vif_nodes import VifPaths
from xenvirt.toolstack.waiting import Progress, until
from xenvirt.xenstore.sync_client import SyncClient

PATHS = VifPaths(DomId(5), DOM0, DevId(0))
UNKNOWN = XenbusState.UNKNOWN
INITIALISING = XenbusState.INITIALISING
INIT_WAIT = XenbusState.INIT_WAIT
CONNECTED = XenbusState.CONNECTED
CLOSING = XenbusState.CLOSING
CLOSED = XenbusState.CLOSED


def progress(front: XenbusState, back: XenbusState, **changes: str | None) -> Progress:
    texts: dict[str, str | None] = {
        "hotplug_status": "connected",
        "hotplug_error": None,
        "front_error": None,
        "back_error": None,
    }
    return Progress(PATHS, front, back, **texts | changes)


@pytest.mark.parametrize(
    ("front", "back", "says"),
    [
        (CONNECTED, CONNECTED, ""),
        (UNKNOWN, UNKNOWN, "neither end has a node: the vif was removed"),
        (
            UNKNOWN,
            CONNECTED,
            "the frontend's node is gone, which the backend in domain 0 must notice",
        ),
        (
            INITIALISING,
            UNKNOWN,
            "the frontend in domain 5 waits for a backend whose node is gone",
        ),
        (
            INITIALISING,
            INITIALISING,
            "the frontend in domain 5 waits for the backend in domain 0 "
            "to become InitWait",
        ),
        (
            INITIALISING,
            INIT_WAIT,
            "the backend in domain 0 waits for the frontend in domain 5 "
            "to become Connected",
        ),
        (
            CONNECTED,
            INIT_WAIT,
            "the frontend in domain 5 waits for the backend in domain 0 "
            "to become Connected",
        ),
        (
            CONNECTED,
            CLOSING,
            "the backend in domain 0 waits for the frontend in domain 5 "
            "to become Closed",
        ),
    ],
)
def test_who_waits_for_whom(front: XenbusState, back: XenbusState, says: str) -> None:
    assert progress(front, back).who_waits() == says


def test_a_script_that_has_not_answered_is_named() -> None:
    stuck = progress(CONNECTED, INIT_WAIT, hotplug_status="")
    assert stuck.who_waits() == (
        "the backend in domain 0 waits for its hotplug script to write hotplug-status"
    )


@pytest.mark.parametrize(
    ("front", "back"), list(itertools.product(XenbusState, repeat=2))
)
def test_only_two_connected_ends_wait_for_nobody(
    front: XenbusState, back: XenbusState
) -> None:
    seen = progress(front, back)
    assert seen.connected == (seen.who_waits() == "")
    assert seen.connected == (front == back == CONNECTED)


def test_causes_have_both_states_and_everybodys_errors() -> None:
    stuck = progress(
        CLOSED,
        CLOSING,
        hotplug_status="error",
        hotplug_error="Could not find bridge device br7",
        front_error="2 can't read mac address, err 2",
        back_error="5 no TAP",
    )
    assert stuck.failed
    assert stuck.causes()[:-1] == [
        "frontend Closed, backend Closing",
        "hotplug-status error",
        "hotplug-error: Could not find bridge device br7",
        "frontend's error: 2 can't read mac address, err 2",
        "backend's error: 5 no TAP",
    ]


def test_an_empty_hotplug_status_is_called_so() -> None:
    assert (
        "hotplug-status empty"
        in progress(INITIALISING, INIT_WAIT, hotplug_status="").causes()
    )


def test_nothing_has_failed_while_nobody_says_so() -> None:
    assert not progress(INITIALISING, CLOSED).failed


def test_a_backend_that_is_connected_on_its_way_to_closed_is_waited_for() -> None:
    """It was connecting when it was told to go."""
    states = iter("446")
    with (
        running_store() as running,
        SyncClient(running.path) as store,
        SyncClient(running.path) as backend,
    ):

        def step(domid: DomId) -> None:
            for state in states:
                backend.write({f"{PATHS.backend}/state": state})
                return

        assert until(
            store,
            PATHS,
            lambda progress: progress.back is CLOSED,
            timeout_s=5,
            on_event=step,
        )
