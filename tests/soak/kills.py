"""Kills of a world's processes at random moments, and what must be true after each.

What is killed when comes from a seed alone, so that a failure can be had again.
"""

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Final, Self

from tests.soak.echo import Echo, Echoes
from tests.soak.inventory import Inventory
from tests.soak.world import BRIDGE_FAR, PLAIN_FAR, World

HEAL_S: Final = 2.0
"""Within this every link must be Connected again and carry frames."""

PATIENCE_S: Final = 15.0
"""After this a link is not waited for any longer."""

SETTLE_S: Final = 5.0
"""For what nobody waits for: closed descriptors, the carrier that Linux shows."""

DAEMON: Final = "daemon"

_PAUSE_S: Final = 0.2
_GAP_S: Final = 0.2
_POLL_S: Final = 0.002
_ECHO_S: Final = 0.02
_LOSSLESS_S: Final = 0.5
_CALM_S: Final = 1.5


@dataclass(frozen=True, slots=True)
class Plan:
    """One round: a pause, the first victim, a gap, the second if there is one."""

    number: int
    pause_s: float
    victims: tuple[str, ...]
    gap_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a round; `healed_s` is from the last kill, None if it did not.

    `wrong` says everything that is not as it must be.
    """

    plan: Plan
    healed_s: float | None
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        healed = "not healed" if self.healed_s is None else f"{self.healed_s:.3f} s"
        names = " and ".join(self.plan.victims)
        return "\n  ".join([f"{self.plan.number}: {names}: {healed}", *self.wrong])


def plans(seed: int, names: list[str]) -> Iterator[Plan]:
    """Rounds without end: each victim and each pair once before any comes again."""
    chance = random.Random(seed)
    choices = [*((name,) for name in names), *combinations(names, 2)]
    number = 0
    while True:
        for victims in chance.sample(choices, len(choices)):
            number += 1
            order = tuple(chance.sample(victims, len(victims)))
            # Half of the pairs at once, the others while the first one is healed.
            gap_s = max(0.0, chance.uniform(-_GAP_S, _GAP_S))
            yield Plan(number, chance.uniform(0, _PAUSE_S), order, gap_s)


class Killer:
    """Carries out plans in a world that is as it should be when this is made."""

    def __init__(self, world: World, heal_s: float = HEAL_S) -> None:
        self._world = world
        self._heal_s = heal_s
        self._stack = ExitStack()
        self._echoes = [
            self._stack.enter_context(Echo(address))
            for address in (PLAIN_FAR, BRIDGE_FAR)
        ]
        self.before = settled(world)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def carry_out(self, plan: Plan) -> Outcome:
        """Kill, wait until the links are healed, and look at everything."""
        outcome = self.kill(plan)
        return replace(outcome, wrong=outcome.wrong + self._differences())

    def kill(self, plan: Plan) -> Outcome:
        """Kill, and wait until the links are healed."""
        time.sleep(plan.pause_s)
        wrong: list[str] = []
        if plan.victims == (DAEMON,):
            self._calm_down()
        # Only a daemon's death costs no frame: what an end had in hand dies with it.
        echoes = Echoes(BRIDGE_FAR, _LOSSLESS_S) if plan.victims == (DAEMON,) else None
        killed = {}
        for position, name in enumerate(plan.victims):
            if position:
                time.sleep(plan.gap_s)
            killed[name] = self._kill(name)
        began = time.monotonic()
        healed_s = self._wait(killed, began)
        if healed_s is None:
            wrong.append(f"not healed after {PATIENCE_S:g} s")
        elif healed_s > self._heal_s:
            wrong.append(f"healed after more than {self._heal_s:g} s")
        if echoes is not None and (lost := echoes.lost()):
            wrong.append(f"{lost} echoes lost while the daemon was gone")
        return Outcome(plan, healed_s, wrong)

    def _calm_down(self) -> None:
        """Wait until nothing is lost for a while, whatever was killed before."""
        deadline = time.monotonic() + PATIENCE_S
        while Echoes(BRIDGE_FAR, _CALM_S).lost():
            assert time.monotonic() < deadline, (
                "frames are lost though nobody is killed"
            )

    def _kill(self, name: str) -> int:
        """Kill the process of that name, when there is one; return its pid."""
        pid = self._world.child(name)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return pid

    def _wait(self, killed: dict[str, int], began: float) -> float | None:
        while time.monotonic() - began < PATIENCE_S:
            if self._is_healed(killed):
                return time.monotonic() - began
            time.sleep(_POLL_S)
        return None

    def _is_healed(self, killed: dict[str, int]) -> bool:
        children = self._world.children()
        return (
            all(children.get(name, pid) != pid for name, pid in killed.items())
            and all(map(self._world.is_connected, self._world.all_links))
            and all(echo.answered(_ECHO_S) for echo in self._echoes)
        )

    def _differences(self) -> list[str]:
        deadline = time.monotonic() + SETTLE_S
        while True:
            found = Inventory.take(self._world).differences(self.before)
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(_ECHO_S)


def settled(world: World) -> Inventory:
    """The inventory once it does not change any more."""
    deadline = time.monotonic() + SETTLE_S
    last = Inventory.take(world)
    while time.monotonic() < deadline:
        time.sleep(_ECHO_S)
        now = Inventory.take(world)
        if not now.differences(last):
            break
        last = now
    return last
