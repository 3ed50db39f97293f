"""On which CPUs an end's workers run, and how long they poll before they sleep.

What a frame fills at one end is still in the CPU's cache at the other end if both run
on the same CPU, and waking the other end costs no interrupt. So where there are no
CPUs to spare the two workers of a queue are paired on one.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from xenvirt.abi.netif import MAX_QUEUES_DEFAULT
from xenvirt.errors import UsageError

CPUS_VARIABLE: Final = "XENVIRT_WORKER_CPUS"
POLL_VARIABLE: Final = "XENVIRT_POLL_US"

_FEW_CPUS: Final = 2
_POLL_US: Final = 50
_POLL_MAX_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Placement:
    """`cpus`: each worker's, by its number; empty: Linux chooses, anew all the time.

    `poll_us`: how long a queue is looked at, at most, before its worker sleeps.
    """

    cpus: tuple[int, ...]
    poll_us: int


def choose(*, peer_is_here: bool, environ: Mapping[str, str] = os.environ) -> Placement:
    """What the environment says, or what fits this machine.

    `peer_is_here`: the other ends run on the same machine. UsageError for a variable
    that says nothing that can be.
    """
    cpus = sorted(os.sched_getaffinity(0))[:MAX_QUEUES_DEFAULT]
    default = "paired" if peer_is_here and len(cpus) <= _FEW_CPUS else "free"
    how = environ.get(CPUS_VARIABLE, default)
    if how not in ("paired", "free"):
        raise UsageError(
            f"{CPUS_VARIABLE}={how} is not known", hint="set it to paired, or to free"
        )
    paired = how == "paired"
    # A worker that polls beside its peer only keeps the CPU from it.
    text = environ.get(POLL_VARIABLE, "0" if paired else str(_POLL_US))
    digits = len(str(_POLL_MAX_US))
    if not (
        text.isascii()
        and text.isdigit()
        and len(text) <= digits
        and int(text) <= _POLL_MAX_US
    ):
        raise UsageError(
            f"{POLL_VARIABLE}={text} is not a time",
            cause=f"0 to {_POLL_MAX_US} microseconds can be",
            hint=f"set it to 0 for no polling, or to {_POLL_US}",
        )
    return Placement(tuple(cpus) if paired else (), int(text))
