"""kill -9 of any process, and of any two, under load: scripts/soak does it longer."""

from itertools import islice

import pytest

from tests.integration.links import LinkMaker
from tests.soak.kills import Killer, plans
from tests.soak.load import load
from tests.soak.world import world

pytestmark = [pytest.mark.root, pytest.mark.slow]

SEED = 20
HEAL_S = 6.0
"""Beside all that CI has the machine do; two seconds are for `scripts/soak --kills`."""
ROUNDS = 10
"""Each of the four processes once, and each pair."""


def test_every_kill_heals_and_leaves_everything_as_it_was(links: LinkMaker) -> None:
    with world(links) as made, load(made) as witness, Killer(made, HEAL_S) as killer:
        for plan in islice(plans(SEED, made.killable()), ROUNDS):
            outcome = killer.carry_out(plan)
            assert not outcome.wrong, f"seed {SEED}, {outcome}"
        assert witness.ended() == []
