"""The keys of our ends beside Linux's: names, values' form, permissions, order.

The same life of a vif, from `xl create` to `xl destroy`, three times in one Xen: with
Linux at both ends, with our backend, and with our frontend. What xenstored has traced
of each is compared: the first with the ground truth, the others with the first.
"""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from tests.xen.ends import (
    PATIENCE_S,
    RunningEnd,
    eventually,
    kernel_takes_no_new_vif,
    store,
    wait_for_states,
)
from tests.xen.ground_truth import CHANGES, CONNECTED, KEYS, STATES, Phase
from tests.xen.key_differences import (
    DIFFERENCES,
    Difference,
    Ours,
    expected_changes,
    keys_not_written,
)
from tests.xen.trace_writes import TRACE, Step, TracedVif, Who, mark, read_phases
from tests.xenlab.guest import Background, Guest, GuestError
from xenvirt.abi.ids import DOM0, DevId, DomId
from xenvirt.toolstack.vif_nodes import VifPaths
from xenvirt.xenstore.sync_client import SyncClient

VIF: Final = ("mac=00:16:3e:00:00:31", "bridge=xenbr0")
DRIVER: Final = "/sys/bus/xen/drivers/vif"
KILLED: Final = "our end is killed, and the next one started"
EACH = [(phase, who) for phase in Phase for who in Who]


class Steps(tuple[Step, ...]):
    """What was done to a vif in a phase of its life."""

    def changes(self, who: Who) -> tuple[str, ...]:
        """What one of them has changed, in order."""
        steps = (step for step in self if step.who is who)
        return tuple(line for step in steps for line in step.lines())

    def states(self) -> str:
        """What both ends' states were, in order."""
        changes = (change for step in self for change in step.changes)
        states = (re.fullmatch(r"(\w+end)/state = (\d)", each) for each in changes)
        return ", ".join(f"{state[1]} {state[2]}" for state in states if state)


@dataclass(frozen=True)
class Life:
    """What was seen of a vif's life."""

    steps: dict[str, Steps]
    """By phase, and KILLED."""
    keys: dict[Phase, dict[str, str]]
    """All keys at the end of a phase, with their permissions."""


class Netfront:
    """Linux's, which has the vif before the guest has a shell."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def start(self) -> None:
        self._guest.run(f"ls {DRIVER} | grep vif-0 || echo vif-0 > {DRIVER}/bind")

    def stop(self) -> None:
        self._guest.run(f"echo vif-0 > {DRIVER}/unbind")


class OurFrontend:
    """`xenvirt frontend` in the guest."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._process: Background

    def start(self) -> None:
        """It connects, whatever is there, before this returns."""
        self._process = self._guest.start("exec xenvirt frontend")
        output = self._process.output
        try:
            self._guest.run(
                f"until grep 'Initialising -> Connected' {output}; do sleep 0.1; done",
                PATIENCE_S,
            )
        except GuestError:
            print(self._guest.run(f"cat {output}"))
            raise

    def stop(self) -> None:
        self._end("TERM")

    def kill(self) -> None:
        """Let it end at once, as in a crash."""
        self._end("KILL")

    def _end(self, signal: str) -> None:
        pid = self._process.pid
        self._guest.run(f"kill -{signal} {pid}")
        self._guest.run(
            f"while kill -0 {pid} 2>/dev/null; do sleep 0.1; done", PATIENCE_S
        )


def live(
    client: SyncClient,
    guest_name: str,
    kind: type[Netfront | OurFrontend],
    backend: RunningEnd | None = None,
) -> Life:
    """Go through all phases with a vif of a new guest."""
    seen: dict[Phase, dict[str, str]] = {}
    ours = kind is OurFrontend

    def begin(phase: str) -> None:
        mark(client, f"{guest_name}: {phase}")

    def connected(phase: Phase) -> None:
        wait_for_states(guest.domid, "4", "4")
        seen[phase] = dict(keys(client, vif, vif.paths.frontend, vif.paths.backend))

    begin(Phase.CREATE)
    vifs = [",".join(VIF)]
    with Guest.create(guest_name, vifs, python=ours, netfront=not ours) as guest:
        vif = TracedVif(VifPaths(DomId(guest.domid), DOM0, DevId(0)))
        frontend = kind(guest)
        frontend.start()
        connected(Phase.CREATE)

        begin(Phase.RELOAD)
        frontend.stop()
        wait_for_states(guest.domid, "6", "6")
        frontend.start()
        connected(Phase.RELOAD)

        begin(KILLED)
        if isinstance(frontend, OurFrontend):
            frontend.kill()
            frontend.start()
        elif backend is not None:
            backend.kill()
            backend.start()
            backend.wait_for(": resumed")
        wait_for_states(guest.domid, "4", "4")

        begin(Phase.DETACH)
        xl("network-detach", guest_name, "0")
        wait_for_removals(vif, 1)

        begin(Phase.ATTACH)
        xl("network-attach", guest_name, *VIF)
        connected(Phase.ATTACH)

        begin(Phase.DESTROY)
    wait_for_removals(vif, 2)
    mark(client, "")
    traced = read_phases(vif)
    phases = (*Phase, KILLED)
    return Life({each: Steps(traced[f"{guest_name}: {each}"]) for each in phases}, seen)


def keys(client: SyncClient, vif: TracedVif, *paths: str) -> Iterator[tuple[str, str]]:
    """All nodes from some paths on, with their permissions."""
    for path in paths:
        perms = [str(perm) for perm in client.get_perms(path)]
        yield vif.relative(path) or path, vif.perms(perms)
        yield from keys(client, vif, *(f"{path}/{key}" for key in client.ls(path)))


def wait_for_removals(vif: TracedVif, times: int) -> None:
    """Wait until the backend has done the last thing that it does, so often."""
    domid = vif.paths.frontend_id
    last = f" RM (backend/vif/{domid}/{vif.paths.devid}/hotplug-status ".encode()
    eventually(
        lambda: TRACE.read_bytes().count(last) >= times,
        lambda: f"not traced:{last.decode()}",
    )


def xl(*arguments: str) -> None:
    done = subprocess.run(["xl", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def linux() -> Life:
    with store() as client:
        return live(client, "linux", Netfront)


@pytest.fixture(scope="module", params=Ours)
def end(request: pytest.FixtureRequest) -> Ours:
    chosen: Ours = request.param
    return chosen


@pytest.fixture(scope="module")
def ours(linux: Life, end: Ours) -> Life:
    """A life with our end, beside which all is Linux's."""
    del linux
    with store() as client:
        if end is Ours.FRONTEND:
            return live(client, "our-frontend", OurFrontend)
        with kernel_takes_no_new_vif(), RunningEnd("backend") as backend:
            return live(client, "our-backend", Netfront, backend)


@pytest.mark.parametrize(("phase", "who"), EACH)
def test_linux_is_as_the_ground_truth_has_it(
    linux: Life, phase: Phase, who: Who
) -> None:
    assert linux.steps[phase].changes(who) == CHANGES[phase].get(who, ())


@pytest.mark.parametrize("phase", Phase)
def test_the_states_of_linux_follow_each_other_as_in_the_ground_truth(
    linux: Life, phase: Phase
) -> None:
    assert linux.steps[phase].states() == STATES[phase]


@pytest.mark.parametrize("phase", CONNECTED)
def test_linux_has_the_keys_and_permissions_of_the_ground_truth(
    linux: Life, phase: Phase
) -> None:
    assert linux.keys[phase] == KEYS


@pytest.mark.parametrize(("phase", "who"), EACH)
def test_the_same_changes_in_the_same_order(
    linux: Life, ours: Life, end: Ours, phase: Phase, who: Who
) -> None:
    expected = expected_changes(end, who, linux.steps[phase].changes(who))
    assert ours.steps[phase].changes(who) == expected


@pytest.mark.parametrize("phase", Phase)
def test_the_states_of_both_ends_follow_each_other_alike(
    linux: Life, ours: Life, phase: Phase
) -> None:
    assert ours.steps[phase].states() == linux.steps[phase].states()


@pytest.mark.parametrize("phase", CONNECTED)
def test_the_same_keys_and_permissions(
    linux: Life, ours: Life, end: Ours, phase: Phase
) -> None:
    missing = keys_not_written(end)
    expected = {key: p for key, p in linux.keys[phase].items() if key not in missing}
    assert ours.keys[phase] == expected


@pytest.mark.parametrize("who", Who)
def test_an_end_that_was_killed_is_followed_by_the_next_one(
    linux: Life, ours: Life, end: Ours, who: Who
) -> None:
    """A backend takes over and changes nothing, a frontend begins anew."""
    reload = linux.steps[Phase.RELOAD].changes(who) if end is Ours.FRONTEND else ()
    assert ours.steps[KILLED].changes(who) == expected_changes(end, who, reload)


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_a_difference_occurs(linux: Life, difference: Difference) -> None:
    """With the comparison of all changes it occurs in our run, too."""
    changes = [linux.steps[phase].changes(difference.who) for phase in Phase]
    assert any(difference.applied(lines) != lines for lines in changes)
