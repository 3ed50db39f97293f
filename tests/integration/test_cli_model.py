"""The command's verbs in any order, two at the same time, ends killed meanwhile.

After each step what is listed, the store's nodes, interfaces, namespaces and processes
are what the model says. XENVIRT_CLI_EXAMPLES=N runs N sequences, each time others, in
place of the few that are always the same.
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, TypeAlias

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from tests.integration.cli_model import Model, Verb, World, domids_of, serial
from tests.integration.daemons import child_of
from tests.integration.links import LinkMaker
from tests.integration.restarts import launcher_of

pytestmark = [pytest.mark.root, pytest.mark.slow]

EXAMPLES: Final = int(os.environ.get("XENVIRT_CLI_EXAMPLES", "0"))
STEPS: Final = 7
SETTLE_S: Final = 15.0

NAMES: Final = ("a", "b")
DEVIDS: Final = (0, 1, 2)
NUMBERS: Final = st.integers(0, (1 << 32) - 1)
"""What a step draws from, with its place: hypothesis begins with ever the same."""


KINDS: Final = (
    *("up", "up", "create", "attach", "attach", "attach", "detach", "detach"),
    *("down", "destroy", "all"),
)


def verb(chance: random.Random) -> Verb:
    """Any verb; those that make something come more often."""
    name = chance.choice(NAMES)
    kind = chance.choice(KINDS)
    match kind:
        case "attach":
            return Verb("network-attach", name, chance.choice((None, *DEVIDS)))
        case "detach":
            return Verb("network-detach", name, chance.choice(DEVIDS))
        case "all":
            return Verb("down", "")
    return Verb(kind, name)


Done: TypeAlias = subprocess.CompletedProcess[str]


class CliModel(RuleBasedStateMachine):
    """`links` has a daemon that all sequences share."""

    links: LinkMaker

    @initialize()
    def begin(self) -> None:
        self.model: Model = {}
        self.steps = 0

    @rule(number=NUMBERS)
    def one(self, number: int) -> None:
        chosen = verb(self._chance(number))
        status = self._said(chosen, self._run(chosen))
        assert (status == 0) == (chosen.after(self.model) is not None), chosen
        self._is_one_of([serial(self.model, chosen)])

    @rule(number=NUMBERS)
    def two_at_once(self, number: int) -> None:
        """What comes of it is what one after the other would have done."""
        chance = self._chance(number)
        first, second = verb(chance), verb(chance)
        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(self._run, (first, second)))
        for each, its in zip((first, second), done, strict=True):
            self._said(each, its)
        orders = ((first, second), (second, first))
        self._is_one_of([serial(self.model, *order) for order in orders])

    @rule(number=NUMBERS)
    def killed_meanwhile(self, number: int) -> None:
        """It is done, or nothing of it is; without a frontend the backend is killed."""
        chance = self._chance(number)
        chosen, name = verb(chance), chance.choice((*NAMES, ""))
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(self._run, chosen)
            # The moment itself, within what a command takes.
            time.sleep(chance.uniform(0, 0.5))
            self._kill(name)
            status = self._said(chosen, running.result())
        outcomes = [serial(self.model, chosen)]
        if status != 0:
            outcomes.append(self.model)
        self._is_one_of(outcomes)

    def teardown(self) -> None:
        self.links.run("down", "--all")
        self._is_one_of([{}])

    def _chance(self, number: int) -> random.Random:
        self.steps += 1
        return random.Random(f"{number} {self.steps}")

    def _run(self, chosen: Verb) -> Done:
        return self.links.run(*chosen.arguments(self.links), status=None)

    def _said(self, chosen: Verb, done: Done) -> int:
        """Have a failing sequence shown with what its commands said."""
        note(f"{chosen}: exit {done.returncode} {done.stdout}{done.stderr}")
        return done.returncode

    def _kill(self, name: str) -> None:
        # The rest of the world is about to change.
        domids = domids_of(self.links)
        process = f"frontend-{domids[name]}" if name in domids else "backend-0"
        pid = child_of(launcher_of(self.links), process)
        if pid:
            # What the last verb ended may still be there.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _is_one_of(self, models: Sequence[Model]) -> None:
        """Wait until the world is as one of the models says, and go on with that."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            seen, domids = World.look(self.links)
            for model in models:
                if domids.keys() == model.keys() and seen == World.of(
                    model, self.links, domids
                ):
                    self.model = model
                    return
            if time.monotonic() > deadline:
                raise AssertionError(f"{seen} is none of {models}")


@pytest.fixture
def machine(links: LinkMaker) -> type[CliModel]:
    links.run("daemon")
    CliModel.links = links
    return CliModel


def test_the_verbs_in_any_interleaving(machine: type[CliModel]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES or 3,
            stateful_step_count=STEPS if not EXAMPLES else 3 * STEPS,
            derandomize=not EXAMPLES,
            deadline=None,
            database=None,
            # A sequence takes seconds: a failing one is shown as it was.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
