"""Hops at work while their peer rewrites the memory that they share (race.c)."""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.fuzz.program import SETTINGS
from tests.fuzz.seeds import ALL, Features

CASES: Final = (
    ("front_tx", ALL),
    ("back_tx", ALL),
    ("back_tx", ALL | Features.COPYING),
    ("back_rx", ALL),
    ("back_rx", ALL | Features.COPYING),
    ("front_rx", ALL),
    ("front_queue", ALL),
    ("back_queue", ALL),
)
"""Hops, the backend's with either way to the payload, and both rings at once."""


def race(
    program: Path, hop: str, features: Features, seconds: int
) -> subprocess.CompletedProcess[str]:
    """Run it; stdout is a line of JSON if nothing went wrong."""
    seed = random.randrange(1 << 32)
    print(f"{hop} {features:#04x}, seed {seed}", file=sys.stderr, flush=True)
    arguments = [hop, *(str(number) for number in (int(features), seconds, seed))]
    return subprocess.run(
        [program, *arguments], env=os.environ | SETTINGS, capture_output=True, text=True
    )
