"""The backend's handshake, driven by hand: which actions, in which order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenvirt.abi.xenbus import XenbusState
from xenvirt.vif.handshake import (
    Action,
    BackHandshake,
    Connect,
    Disconnect,
    Fatal,
    SwitchState,
    Unregister,
)

INIT_WAIT = SwitchState(XenbusState.INIT_WAIT)
CONNECTED = SwitchState(XenbusState.CONNECTED)
CLOSING = SwitchState(XenbusState.CLOSING)
CLOSED = SwitchState(XenbusState.CLOSED)


def connected() -> BackHandshake:
    handshake = BackHandshake(XenbusState.INIT_WAIT)
    list(handshake.hotplug_changed("connected"))
    list(handshake.frontend_changed(XenbusState.CONNECTED, online=True))
    assert handshake.state is XenbusState.CONNECTED
    return handshake


def seen(handshake: BackHandshake, *states: int, online: bool = True) -> list[Action]:
    return [
        action
        for state in states
        for action in handshake.frontend_changed(XenbusState(state), online=online)
    ]


def test_connected_is_held_back_until_the_hotplug_script_is_done() -> None:
    handshake = BackHandshake(XenbusState.INIT_WAIT)
    assert seen(handshake, 4) == [Connect()]
    assert list(handshake.hotplug_changed("")) == []
    assert list(handshake.hotplug_changed("connected")) == [CONNECTED]
    assert list(handshake.hotplug_changed("connected")) == []


def test_connected_follows_at_once_when_the_script_was_first() -> None:
    handshake = BackHandshake(XenbusState.INIT_WAIT)
    assert list(handshake.hotplug_changed("connected")) == []
    assert seen(handshake, 4) == [Connect(), CONNECTED]


def test_a_frontend_that_closes_and_connects_again() -> None:
    handshake = connected()
    assert seen(handshake, 5) == [Disconnect(), CLOSING]
    assert seen(handshake, 6) == [CLOSED]
    assert seen(handshake, 1) == [INIT_WAIT]
    assert seen(handshake, 4) == [Connect(), CONNECTED]


def test_one_that_has_moved_on_is_not_connected() -> None:
    handshake = connected()
    for action in handshake.frontend_changed(XenbusState.INITIALISING, online=True):
        assert action != Connect()
    walk = handshake.frontend_changed(XenbusState.CONNECTED, online=True)
    assert next(walk) == Connect()
    handshake.withdrawn()
    assert list(walk) == []
    assert handshake.state is XenbusState.INIT_WAIT
    assert seen(handshake, 1) == []
    assert seen(handshake, 4) == [Connect(), CONNECTED]


def test_merged_states_are_walked_one_by_one() -> None:
    assert seen(connected(), 6) == [Disconnect(), CLOSING, CLOSED]
    assert seen(connected(), 1) == [Disconnect(), CLOSING, CLOSED, INIT_WAIT]


def test_a_frontend_that_is_gone_unregisters_the_device() -> None:
    assert seen(connected(), 0) == [Disconnect(), CLOSING, CLOSED, Unregister()]


@pytest.mark.parametrize("online", [True, False])
def test_closed_unregisters_only_when_the_toolstack_said_offline(online: bool) -> None:
    actions = seen(connected(), 6, online=online)
    assert (Unregister() in actions) is not online


@pytest.mark.parametrize("text", ["9", "abc", "", "-4", "x" * 3000])
def test_a_state_that_is_none_is_fatal(text: str) -> None:
    handshake = BackHandshake(XenbusState.INIT_WAIT)
    fatal = Fatal(22, f"saw state {text[:32]} at frontend")
    assert list(handshake.frontend_wrote(text, online=True)) == [fatal]
    assert list(handshake.frontend_wrote("1", online=True)) == [CLOSED, INIT_WAIT]


@pytest.mark.parametrize("text", [None, "0"])
def test_a_frontend_that_is_gone_has_no_state(text: str | None) -> None:
    actions = [*connected().frontend_wrote(text, online=True)]
    assert actions == [Disconnect(), CLOSING, CLOSED, Unregister()]


@pytest.mark.parametrize("state", [2, 7, 8])
def test_a_state_that_no_frontend_may_show_is_fatal(state: int) -> None:
    fatal = Fatal(22, f"saw state {state} at frontend")
    assert seen(connected(), state) == [Disconnect(), fatal]
    handshake = BackHandshake(XenbusState.INIT_WAIT)
    assert seen(handshake, state) == [fatal]
    assert seen(handshake, 1) == [CLOSED, INIT_WAIT]


def test_initialised_changes_nothing() -> None:
    assert seen(connected(), 3) == []


def test_a_failed_connect_is_not_shown_as_connected() -> None:
    handshake = BackHandshake(XenbusState.INIT_WAIT)
    list(handshake.hotplug_changed("connected"))
    actions = handshake.frontend_changed(XenbusState.CONNECTED, online=True)
    assert next(actions) == Connect()
    handshake.failed()
    assert list(actions) == []
    assert handshake.state is XenbusState.CLOSING
    assert seen(handshake, 6) == [CLOSED]


def test_a_device_that_could_not_be_set_up_only_ever_closes() -> None:
    handshake = BackHandshake()
    handshake.give_up()
    assert seen(handshake, 1, 4, 5) == []
    assert seen(handshake, 6, online=False) == [CLOSED, Unregister()]


def test_a_broken_ring_closes_once() -> None:
    handshake = connected()
    actions = list(handshake.broken(5, "Missing extra info"))
    assert actions == [Disconnect(), Fatal(5, "Missing extra info")]
    assert list(handshake.broken(5, "Missing extra info")) == []
    assert seen(handshake, 5, 6) == [CLOSED]


@given(st.lists(st.sampled_from([0, 1, 3, 4, 5, 6]), max_size=30))
def test_connect_and_disconnect_alternate_whatever_the_frontend_does(
    states: list[int],
) -> None:
    handshake = connected()
    holds = True
    for action in seen(handshake, *states):
        if action == Connect():
            assert not holds
            holds = True
        elif action == Disconnect():
            assert holds
            holds = False
    assert holds is (handshake.state is XenbusState.CONNECTED)
