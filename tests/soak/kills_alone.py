"""One kill after the other under iperf3, and a look at everything after each."""

import sys
from itertools import islice
from typing import Final

from tests.integration.links import LinkMaker
from tests.soak.inventory import Inventory
from tests.soak.kills import DAEMON, HEAL_S, Killer, Outcome, plans
from tests.soak.load import Load, load
from tests.soak.summary import Row, Summary, seconds
from tests.soak.world import world

_REPORT_EVERY: Final = 10


def run(links: LinkMaker, seed: int, count: int) -> Summary:
    """Carry out that many rounds; a link that does not heal is the end of it."""
    outcomes: list[Outcome] = []
    with world(links) as made, load(made) as traffic, Killer(made) as killer:
        for plan in islice(plans(seed, made.killable()), count):
            outcome = killer.carry_out(plan)
            outcomes.append(outcome)
            if outcome.wrong or plan.number % _REPORT_EVERY == 0:
                print(outcome, file=sys.stderr, flush=True)
            if outcome.healed_s is None:
                break
            if outcome.wrong:
                # What is lost is told once.
                killer.before = Inventory.take(made)
        errors = traffic.ended()
    return _summary(seed, outcomes, traffic, errors)


def _summary(
    seed: int, outcomes: list[Outcome], traffic: Load, errors: list[str]
) -> Summary:
    healed = [each.healed_s for each in outcomes if each.healed_s is not None]
    late = [
        each for each in outcomes if each.healed_s is None or each.healed_s > HEAL_S
    ]
    leaks = [each for each in outcomes if each.wrong and each not in late]
    without_daemon = [each for each in outcomes if each.plan.victims == (DAEMON,)]
    rows = [
        Row("rounds of kills", str(len(outcomes))),
        Row("processes killed", str(sum(len(each.plan.victims) for each in outcomes))),
        Row("healed, median and maximum", seconds(healed)),
        Row(f"healed after {HEAL_S:g} s or not", str(len(late)), "0", not late),
        Row("not as before, or echoes lost", str(len(leaks)), "0", not leaks),
        Row("rounds with the daemon gone alone", str(len(without_daemon))),
        Row("TCP bytes checked", f"{traffic.bytes:,}"),
        Row("TCP connections that broke", str(len(errors)), "0", not errors),
    ]
    wrong = [str(each) for each in outcomes if each.wrong]
    return Summary(seed, rows, [*wrong, *errors])
