"""The works: what each makes a link do, and the figures that it gives."""

import statistics
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import product
from typing import Final

from tests.perf import figures as f
from tests.perf.cpu import Meter
from tests.perf.figures import Figure, Figures
from tests.perf.lossfree import loss_free
from tests.perf.peers.link import Link
from tests.perf.traffic import Direction, Programs, ping_us, tcp, tcp_load, udp

FLOWS: Final = (1, 4, 16)
TO, FROM, BOTH = Direction
USUAL_MTU: Final = 1500
MTUS: Final = (USUAL_MTU, 9000)
FRAMES: Final = (64, 1400)
IDLE_INTERVAL_S: Final = 0.01
"""Between pings of an idle link: much longer than any end polls before it sleeps."""
LOADED_INTERVAL_S: Final = 0.005
SEARCH_SHARE: Final = 0.5
"""A trial's part of a figure's seconds: a search takes about seven."""

Measure = Callable[[Programs, Link, float], Figures]


@dataclass(frozen=True, slots=True)
class Work:
    """One row of what is done, and how; not every one is done by default."""

    name: str
    measure: Measure
    mtu: int = USUAL_MTU
    default: bool = True


def works() -> list[Work]:
    """All of them, in the order of the table and with few changes of the MTU."""
    return [*_tcp(), *_udp(), *_round_trips()]


def _tcp() -> Iterator[Work]:
    for mtu, version, flows in product(MTUS, (4, 6), FLOWS):
        for direction in Direction:
            flow = "1 flow" if flows == 1 else f"{flows} flows"
            name = f"{flow} {direction}, MTU {mtu:,}, IPv{version}"
            measure = _tcp_measure(name, flows, direction, version)
            default = tcp_by_default(mtu, version, flows, direction)
            yield Work(f"TCP, {name}", measure, mtu, default)


def tcp_by_default(mtu: int, version: int, flows: int, direction: Direction) -> bool:
    """Whether a default run has it: 19 of the 36, so that it ends in time.

    All with the usual MTU and IPv4; of the others, those that show most of what
    the MTU and the version change.
    """
    if (mtu, version) == (USUAL_MTU, 4):
        return True
    if version == 4:
        return flows == 1 or (flows == 16 and direction is not BOTH)
    return flows == 1 and (mtu == USUAL_MTU or direction is not BOTH)


def _tcp_measure(name: str, flows: int, direction: Direction, version: int) -> Measure:
    def measure(_: Programs, link: Link, seconds: float) -> Figures:
        with Meter(link.pids) as cpu:
            done = tcp(link, seconds, flows, direction, version)
        found = {Figure(f.TCP, name): done.received_s * 8 / 1e9}
        if gbytes := done.received / 1e9:
            found[Figure(f.CPU_BYTES, name)] = cpu.machine_s / gbytes
            if link.pids:
                found[Figure(f.LINK_CPU_BYTES, name)] = cpu.link_s / gbytes
        return found

    return measure


def _udp() -> Iterator[Work]:
    for frame, direction in product(FRAMES, (FROM, TO)):
        name = f"{frame:,}-byte frames {direction}"
        yield Work(f"UDP, {name}", _flood(name, frame, direction))
    for frame, direction in product(FRAMES, (FROM, TO)):
        name = f"{frame:,}-byte frames {direction}"
        search = _search(name, frame, direction)
        yield Work(f"UDP without a loss, {name}", search, default=direction is FROM)


def _flood(name: str, frame: int, direction: Direction) -> Measure:
    def measure(programs: Programs, link: Link, seconds: float) -> Figures:
        with Meter(link.pids) as cpu:
            done = udp(programs, link, seconds, direction, frame)
        found = {Figure(f.DELIVERED, name): done.delivered_s / 1e3}
        if millions := done.received / 1e6:
            found[Figure(f.CPU_PACKETS, name)] = cpu.machine_s / millions
            if link.pids:
                found[Figure(f.LINK_CPU_PACKETS, name)] = cpu.link_s / millions
        return found

    return measure


def _search(name: str, frame: int, direction: Direction) -> Measure:
    def measure(programs: Programs, link: Link, seconds: float) -> Figures:
        trial_s = seconds * SEARCH_SHARE

        def trial(rate: float) -> float | None:
            done = udp(programs, link, trial_s, direction, frame, rate)
            return done.offered_s if done.received >= done.sent else None

        # Nothing can be without a loss above what is sent when nothing limits it.
        most = udp(programs, link, trial_s, direction, frame).offered_s
        return {Figure(f.LOSS_FREE, name): loss_free(trial, most) / 1e3}

    return measure


def _round_trips() -> Iterator[Work]:
    yield Work("round trip, idle", _pings("idle", IDLE_INTERVAL_S))
    yield Work("round trip, back to back", _pings("back to back", None))
    for direction in (TO, FROM):
        name = f"under TCP {direction}"
        measure = _pings(name, LOADED_INTERVAL_S, direction)
        yield Work(f"round trip, {name}", measure)


def _pings(
    name: str, interval_s: float | None, load: Direction | None = None
) -> Measure:
    """Pings at an interval, or each as soon as the last is answered."""

    def measure(_: Programs, link: Link, seconds: float) -> Figures:
        pace = ("-A",) if interval_s is None else ("-i", f"{interval_s:g}")
        with tcp_load(link, load) if load else nullcontext():
            times = ping_us(link, seconds, *pace)
        return {
            Figure(f.ROUND_TRIP, f"{name}, median"): statistics.median(times),
            Figure(f.ROUND_TRIP, f"{name}, p99"): p99(times),
        }

    return measure


def p99(values: list[float]) -> float:
    """The least value that 99 % of them do not exceed."""
    return sorted(values)[-(-99 * len(values) // 100) - 1]
