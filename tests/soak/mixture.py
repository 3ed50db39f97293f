"""Everything at once: traffic, kills, vifs that come and go, hostile domains.

In the first two thirds of the time processes are killed. In the last one none is, so
that what they hold can be seen to stay what it is.
"""

import sys
import time
from contextlib import ExitStack
from typing import Final

from tests.integration.links import LinkMaker
from tests.soak.activity import Activity
from tests.soak.churn import Churn
from tests.soak.datagrams import Datagrams
from tests.soak.growth import GROWTH_KIB, Held
from tests.soak.hostile import Hostile
from tests.soak.hostile_backend import HostileBackend
from tests.soak.inventory import Inventory
from tests.soak.kills import Killer, plans, settled
from tests.soak.load import load
from tests.soak.summary import Row, Summary, seconds
from tests.soak.world import BRIDGE_FAR, BRIDGE_NEAR, World, world

WITH_KILLS: Final = 2 / 3
HEAL_S: Final = 5.0
"""More than where nothing else goes on: commands and the hostile take their share."""
LINES_A_STEP: Final = 100
"""Of the log, for each kill, link or bout; the whole life of a link takes 20."""

_PROGRESS_S: Final = 10.0
_TICK_S: Final = 0.2


def run(links: LinkMaker, seed: int, minutes: float) -> Summary:
    """Do it for that long, and say what came of it."""
    with ExitStack() as stack:
        mixture = Mixture(stack.enter_context(world(links)), seed, stack)
        return mixture.run(seed, 60 * minutes)


class Mixture:
    """All activities in one world; `stack` gets what ends them."""

    def __init__(self, made: World, seed: int, stack: ExitStack) -> None:
        self._world = made
        hostile = Hostile(made, seed + 1)
        stack.callback(hostile.close)
        self._killing = True
        self._churn = Churn(made, seed + 2, lambda: self._killing)
        hostile_backend = HostileBackend(made, seed + 3, lambda: self._killing)
        self._others = [
            Activity("link or vif", self._churn.step),
            Activity("hostile frontend", hostile.step),
            Activity("hostile backend", hostile_backend.step),
        ]
        self._kills = Activity("kill", self._kill)
        self._killer = stack.enter_context(Killer(made, HEAL_S))
        self._plans = plans(seed, made.killable())
        self._healed: list[float] = []
        self._traffic = stack.enter_context(load(made))
        inside = made.bridged.netns
        self._datagrams = [
            Datagrams(None, inside, BRIDGE_FAR),
            Datagrams(inside, None, BRIDGE_NEAR),
        ]
        self._began = time.monotonic()

    def run(self, seed: int, duration_s: float) -> Summary:
        """Have it all go on for that long."""
        before = settled(self._world)
        for activity in (self._kills, *self._others):
            activity.start()
        self._go_on(WITH_KILLS * duration_s)
        self._kills.stop()
        middle, held_before = self._at_rest()
        self._killing = False
        self._go_on(duration_s)
        after, held = self._at_rest()
        for activity in self._others:
            activity.stop()
        for datagrams in self._datagrams:
            datagrams.stop()
        leaks = [
            *(f"after the kills: {each}" for each in middle.differences(before)),
            *(f"at the end: {each}" for each in after.differences(middle)),
        ]
        return self._summary(seed, leaks, held_before, held)

    def _kill(self) -> list[str]:
        outcome = self._killer.kill(next(self._plans))
        if outcome.healed_s is not None:
            self._healed.append(outcome.healed_s)
        return [str(outcome)] if outcome.wrong else []

    def _go_on(self, until_s: float) -> None:
        """Show how it goes until so long after the beginning."""
        shown = time.monotonic()
        while (elapsed_s := time.monotonic() - self._began) < until_s:
            time.sleep(_TICK_S)
            if time.monotonic() - shown > _PROGRESS_S:
                shown = time.monotonic()
                print(f"{elapsed_s:6.0f} s  {self._progress()}", file=sys.stderr)

    def _progress(self) -> str:
        activities = (self._kills, *self._others)
        counts = [f"{each.count} {each.name}" for each in activities]
        wrong = sum(len(each.wrong) for each in activities)
        gbytes = self._traffic.bytes / 1e9
        return f"{', '.join(counts)}; {gbytes:.2f} GB of TCP checked; {wrong} wrong"

    def _at_rest(self) -> tuple[Inventory, Held]:
        """What there is while nothing is made, removed or killed."""
        for activity in self._others:
            activity.pause()
        try:
            return settled(self._world), Held.look(self._world)
        finally:
            for activity in self._others:
                activity.resume()

    def _summary(
        self, seed: int, leaks: list[str], held_before: Held, held: Held
    ) -> Summary:
        broken = self._traffic.ended()
        activities = (self._kills, *self._others)
        failed = [each for activity in activities for each in activity.wrong]
        steps = sum(activity.count for activity in activities)
        lines = held.log_lines / max(1, steps)
        grown = held.growth_kib(held_before)
        most = max(grown.values())
        new = held.replaced(held_before, self._world.killable())
        sent = sum(each.sent for each in self._datagrams)
        lost = sent - sum(each.received for each in self._datagrams)
        rows = [
            Row("minutes", f"{(time.monotonic() - self._began) / 60:.1f}"),
            *(Row(f"{each.name}s", str(each.count)) for each in activities),
            Row("links or vifs that a kill kept from being", str(self._churn.failed)),
            Row("healed, median and maximum", seconds(self._healed)),
            Row("steps that went wrong", str(len(failed)), "0", not failed),
            Row("TCP bytes checked", f"{self._traffic.bytes:,}"),
            Row("TCP connections that broke", str(len(broken)), "0", not broken),
            Row("UDP datagrams lost", f"{lost:,} of {sent:,}"),
            Row("leaks", str(len(leaks)), "0", not leaks),
            Row(
                "growth of a process without kills",
                f"{most} KiB",
                f"<= {GROWTH_KIB}",
                most <= GROWTH_KIB,
            ),
            Row(
                "lines of log a step",
                f"{lines:.0f}",
                f"<= {LINES_A_STEP}",
                lines <= LINES_A_STEP,
            ),
            Row("processes replaced without kills", str(len(new)), "0", not new),
            Row("crashes", str(len(held.crashes)), "0", not held.crashes),
        ]
        grew = [
            f"{name} grew by {kib} KiB"
            for name, kib in grown.items()
            if kib > GROWTH_KIB
        ]
        replaced = [f"{name} is another process" for name in new]
        return Summary(
            seed, rows, [*failed, *broken, *leaks, *grew, *replaced, *held.crashes]
        )
