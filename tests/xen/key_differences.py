"""Where our ends write otherwise than Linux's, and why; it goes into the document."""

from collections.abc import Iterable, Sequence
from enum import Enum, StrEnum
from typing import Final, NamedTuple

from tests.xen.trace_writes import Who


class Ours(StrEnum):
    """Which end is ours; the other one is Linux's."""

    BACKEND = "xenvirt backend"
    FRONTEND = "xenvirt frontend"


class Reason(Enum):
    """A heading of docs/conformance-keys.md, and its paragraph."""

    NOT_IMPLEMENTED = (
        "Features that our backend does not have",
        "XDP headroom, multicast control and the control ring are not implemented, "
        "and the key says so. It is there, as netback's is, at the same place.",
    )
    FOLLOWS = (
        "What netfront makes of that",
        "netfront writes `xdp-headroom` only for a backend with "
        "`feature-xdp-headroom`; the key is not there while Connected either.",
    )
    NODE_STAYS_GONE = (
        "A key in a transaction",
        "Linux writes these outside of a transaction. Such a WRITE in dom0 makes the "
        "node anew where the toolstack has just removed it. Ours reads its own "
        "`state` in the transaction that writes the key, as Linux itself does for a "
        "state, and writes nothing where there is none. Each key has a transaction of "
        "its own, so that the others see the same changes, one by one, in the same "
        "order.",
    )


class Difference(NamedTuple):
    """Lines of Linux's, as trace_writes.py has them, and what is there in our run."""

    end: Ours
    who: Who
    """Who writes it."""
    linux: tuple[str, ...]
    ours: tuple[str, ...]
    reasons: tuple[Reason, ...]

    def applied(self, lines: Sequence[str]) -> tuple[str, ...]:
        """Linux's lines with ours in their place, wherever they are."""
        changed: list[str] = []
        rest = tuple(lines)
        while rest:
            if rest[: len(self.linux)] == self.linux:
                changed += self.ours
                rest = rest[len(self.linux) :]
            else:
                changed.append(rest[0])
                rest = rest[1:]
        return tuple(changed)


def _denied(feature: str) -> Difference:
    return Difference(
        Ours.BACKEND,
        Who.BACKEND,
        (f"  backend/{feature} = 1",),
        (f"  backend/{feature} = 0",),
        (Reason.NOT_IMPLEMENTED,),
    )


def _checked(end: Ours, who: Who, linux: str, ours: str, *more: Reason) -> Difference:
    return Difference(
        end,
        who,
        (linux,),
        ("start", f"  {ours}", "commit"),
        (*more, Reason.NODE_STAYS_GONE),
    )


DIFFERENCES: Final = (
    _denied("feature-xdp-headroom"),
    _denied("feature-multicast-control"),
    _denied("feature-dynamic-multicast-control"),
    _checked(
        Ours.BACKEND,
        Who.BACKEND,
        "backend/feature-split-event-channels = 1",
        "backend/feature-split-event-channels = 1",
    ),
    _checked(
        Ours.BACKEND,
        Who.BACKEND,
        "backend/multi-queue-max-queues = 1",
        "backend/multi-queue-max-queues = 1",
    ),
    _checked(
        Ours.BACKEND,
        Who.BACKEND,
        "backend/feature-ctrl-ring = 1",
        "backend/feature-ctrl-ring = 0",
        Reason.NOT_IMPLEMENTED,
    ),
    Difference(
        Ours.BACKEND,
        Who.FRONTEND,
        ("frontend/xdp-headroom = 0",),
        (),
        (Reason.FOLLOWS,),
    ),
    _checked(
        Ours.FRONTEND,
        Who.FRONTEND,
        "frontend/xdp-headroom = 0",
        "frontend/xdp-headroom = 0",
    ),
)


def differences(end: Ours) -> Iterable[Difference]:
    """Those of a run with our end."""
    return (each for each in DIFFERENCES if each.end is end)


def expected_changes(end: Ours, who: Who, linux: Sequence[str]) -> tuple[str, ...]:
    """What is to be written in a run with our end, by what is with Linux's."""
    lines = tuple(linux)
    for each in differences(end):
        if each.who is who:
            lines = each.applied(lines)
    return lines


def keys_not_written(end: Ours) -> set[str]:
    """The keys that are not there in a run with our end."""
    return {
        line.strip().partition(" = ")[0]
        for each in differences(end)
        if not each.ours
        for line in each.linux
    }
