"""Links and vifs that come and go, as a user would have it."""

import json
import random
import subprocess
from collections.abc import Callable
from typing import Final

from tests.soak.world import World

_TIMEOUT_S: Final = 60.0
_PING: Final = ("ping", "-q", "-i", "0.2", "-c", "1", "-w", "10")


class Churn:
    """A step is a link that is made, used and removed, or a vif that is.

    With `may_fail` true what cannot be made, as one of its ends is killed just then, is
    counted in `failed` and not wrong: that nothing is left of it is seen at the end.
    """

    def __init__(self, world: World, seed: int, may_fail: Callable[[], bool]) -> None:
        self.failed = 0
        self._may_fail = may_fail
        self._links = world.links
        self._domain = world.bridged.name
        self._chance = random.Random(seed)
        self._number = 0

    def step(self) -> list[str]:
        """Do one of both; returns what went wrong."""
        keys = [f"queues={self._chance.choice((1, 2, 4))}"]
        if self._chance.random() < 0.5:
            return self._link(keys)
        return self._vif(keys)

    def _link(self, keys: list[str]) -> list[str]:
        self._number += 1
        name = self._links.name(f"churn{self._number}")
        wrong = []
        made = self._xenvirt("--json", "up", name, *keys)
        if made.returncode == 0:
            link = json.loads(made.stdout)["link"]
            address = link["front_addresses"][0].partition("/")[0]
            ping = subprocess.run([*_PING, address], capture_output=True, text=True)
            if ping.returncode != 0:
                wrong.append(f"{name} does not answer: {ping.stdout}{ping.stderr}")
        else:
            wrong += self._not_made(made)
        removed = self._xenvirt("down", name)
        return wrong if removed.returncode == 0 else [*wrong, said(removed)]

    def _vif(self, keys: list[str]) -> list[str]:
        made = self._xenvirt("--json", "network-attach", self._domain, *keys)
        if made.returncode != 0:
            return self._not_made(made)
        devid = str(json.loads(made.stdout)["vif"]["devid"])
        removed = self._xenvirt("network-detach", self._domain, devid)
        return [] if removed.returncode == 0 else [said(removed)]

    def _not_made(self, done: subprocess.CompletedProcess[str]) -> list[str]:
        if not self._may_fail():
            return [said(done)]
        self.failed += 1
        return []

    def _xenvirt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._links.run(*arguments, status=None, timeout_s=_TIMEOUT_S)


def said(done: subprocess.CompletedProcess[str]) -> str:
    """What a command was, and how it ended."""
    text = f"{done.stdout}{done.stderr}".strip()
    return f"{' '.join(done.args[3:])}: exit {done.returncode}: {text}"
