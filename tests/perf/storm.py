"""What a link gets while somebody else's end storms, beside what it gets without.

An attacker of events computes as much as it can, so it is compared with the same
program that notifies nobody: what is left is what its victim makes of it. The others
run with SCHED_IDLE and are compared with one that computes likewise, as a second CPU
that is busy slows down the first.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from subprocess import DEVNULL
from typing import Final

from tests.integration.event_storms import Storm, compiled, cpu_s, notifying
from tests.integration.links import Link as Made
from tests.integration.links import LinkMaker, tag
from tests.integration.restarts import daemon_of
from tests.integration.store_storms import flip, flood
from tests.perf.peers.link import Link, run
from tests.perf.traffic import Direction, ping_us, tcp
from xenvirt.testing.peer import Frontend, TxRequest

THROUGHPUT_MIN: Final = 0.8
LATENCY_MAX: Final = 2.0
PING_INTERVAL_S: Final = 0.005
FLIPS: Final = 20_000
WITNESS, ATTACKER = 1, 2
"""Numbers of the links, and so of their networks."""

_BAD_FRAMES: Final = 200
"""At a time, of the 256 slots."""

NOTHING: Final = "nothing"
DECOY: Final = "a program that notifies nobody"
IDLE_DECOY: Final = "one that computes when nobody else does"


@dataclass(frozen=True, slots=True)
class Weather:
    """A storm: what it is compared with, and the process that it is meant for.

    Round trips are compared with nothing else going on: a CPU that is busy is faster to
    take one, as it need not be woken up.
    """

    name: str
    calm: str
    victim: str
    storm: Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the witness gets, and which share of a CPU the victim takes."""

    to_gbit_s: float
    from_gbit_s: float
    round_trip_us: float
    victim: float


class Attacked:
    """The link whose ends are attackers and victims; `rates` are those of events."""

    def __init__(self, links: LinkMaker, link: Made, program: Path) -> None:
        self._links = links
        self._link = link
        self._program = program
        self.rates: list[float] = []

    def process(self, who: str) -> int:
        """The `frontend`, the `backend` or the `store`, as it is now."""
        if who == "store":
            return daemon_of(self._links)
        domid = self._link.domid if who == "frontend" else 0
        return self._links.ends()[who, domid]

    @contextmanager
    def events(self, attacker: str, victim: str) -> Iterator[None]:
        """One notifies the other; "" is nobody."""
        storm = Storm(self._program)
        with ExitStack() as stack:
            fds = []
            if victim:
                ends = self.process(attacker), self.process(victim)
                fds = stack.enter_context(notifying(*ends))
                assert fds
            stack.enter_context(storm.upon(fds))
            yield
        self.rates.append(storm.rate)

    @contextmanager
    def flips(self) -> Iterator[None]:
        """The frontend's state changes; afterwards the frontend is a new one."""
        domid = self._link.domid
        node = f"/local/domain/{domid}/device/vif/0/state"
        states = ("4", "5", "6", "1")
        with in_idle_child(partial(flip, self._links, node, states, FLIPS, domid)):
            yield
        # Again while the domain has used up what the store grants it, by a storm of
        # before: a frontend that gets no transaction gives up, as Linux's does.
        answered = False
        while not answered:
            os.kill(self.process("frontend"), signal.SIGKILL)
            ping = ("ping", "-q", "-c", "1", "-w", "5", f"10.213.{ATTACKER}.2")
            answered = subprocess.run(ping, stdout=DEVNULL).returncode == 0

    def bad_frames(self) -> AbstractContextManager[None]:
        """A domain of its own sends what is too small for a frame, and no more."""
        return in_idle_child(partial(sending_bad_frames, self._links))

    def requests(self) -> AbstractContextManager[None]:
        """The domain asks the store without a pause."""
        return in_idle_child(partial(flooding, self._links, self._link.domid))


@contextmanager
def in_idle_child(work: Callable[[], None]) -> Iterator[None]:
    """Do it again and again in a process that gets what is left of the CPUs."""
    pid = os.fork()
    if pid == 0:
        try:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            while True:
                work()
        finally:
            os._exit(1)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def computing() -> None:
    """Keep a CPU busy for a while."""
    sum(range(1_000_000))


def flooding(links: LinkMaker, domid: int) -> None:
    """Flood the store as a domain for a second."""
    with flood(links, domid):
        time.sleep(1)


def sending_bad_frames(links: LinkMaker) -> None:
    """Send frames of a byte for a second, of which the backend would log each."""
    with Frontend(links.run_dir) as front:
        queue = front.connect()
        page = queue.page_with(bytes(1))
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            queue.send(*(TxRequest(page, size=1, id=n) for n in range(_BAD_FRAMES)))


def storms(attacked: Attacked) -> Iterator[Weather]:
    """All of them, the calm ones first."""
    yield Weather(NOTHING, NOTHING, "backend", nullcontext)
    yield Weather(DECOY, DECOY, "backend", partial(attacked.events, "", ""))
    yield Weather(IDLE_DECOY, IDLE_DECOY, "backend", partial(in_idle_child, computing))
    for name, attacker, victim in (
        ("events to the backend (XSA-332)", "frontend", "backend"),
        ("events to the frontend (XSA-391)", "backend", "frontend"),
        ("events to the store", "frontend", "store"),
    ):
        yield Weather(name, DECOY, victim, partial(attacked.events, attacker, victim))
    yield Weather(
        "state flips of a frontend (XSA-349)", IDLE_DECOY, "backend", attacked.flips
    )
    yield Weather("bad frames (XSA-43)", IDLE_DECOY, "backend", attacked.bad_frames)
    # The last one: for seconds afterwards the domain gets no transaction.
    yield Weather(
        "requests to the store without end", IDLE_DECOY, "store", attacked.requests
    )


def read(
    weather: Weather, attacked: Attacked, witness: Link, seconds: float
) -> Reading:
    """Measure the witness meanwhile."""
    with weather.storm():
        victim = attacked.process(weather.victim)
        before, begin = cpu_s(victim), time.monotonic()
        times = ping_us(witness, seconds, "-i", f"{PING_INTERVAL_S:g}")
        share = (cpu_s(victim) - before) / (time.monotonic() - begin)
        to_domain, from_domain = (
            tcp(witness, seconds, 1, direction, 4).received_s * 8 / 1e9
            for direction in (Direction.TO, Direction.FROM)
        )
    return Reading(to_domain, from_domain, statistics.median(times), share)


@dataclass(frozen=True, slots=True)
class Result:
    """What was read of each storm, and how many events a second there were."""

    each: list[Weather]
    readings: list[list[Reading]]
    rates: list[float]


def measure(rounds: int, seconds: float) -> Result:
    """Every storm in each round."""
    with tempfile.TemporaryDirectory(prefix="xenvirt-bench-") as directory:
        os.chmod(directory, 0o755)
        links = LinkMaker(Path(directory), tag())
        try:
            made, other = (up(links, number) for number in (WITNESS, ATTACKER))
            witness = Link(WITNESS, made.netns, made.near, made.far)
            run("ping", "-c", "1", "-w", "5", witness.address("far"))
            attacked = Attacked(links, other, compiled(Path(directory)))
            each = list(storms(attacked))
            readings: list[list[Reading]] = [[] for _ in each]
            for _ in range(rounds):
                for weather, found in zip(each, readings, strict=True):
                    found.append(read(weather, attacked, witness, seconds))
        finally:
            links.close()
    return Result(each, readings, attacked.rates)


def up(links: LinkMaker, number: int) -> Made:
    """A link with addresses of that number."""
    near, far = (f"10.213.{number}.{host}/24" for host in (1, 2))
    return links.up(f"storm{number}", "--ip", far, "--peer-ip", near)


def spread(values: list[float]) -> str:
    """The median, and the least and the most."""
    return f"{statistics.median(values):.3g} ({min(values):.3g}..{max(values):.3g})"


@dataclass(frozen=True, slots=True)
class Row:
    """A storm's figures, as text, and how they relate to the calm."""

    name: str
    victim: str
    to_gbit_s: str
    from_gbit_s: str
    round_trip_us: str
    throughput: float
    latency: float

    @property
    def holds(self) -> bool:
        """Whether the witness keeps what it is to keep."""
        return self.throughput >= THROUGHPUT_MIN and self.latency <= LATENCY_MAX


def rows(result: Result) -> Iterator[Row]:
    """The table."""
    pairs = list(zip(result.each, result.readings, strict=True))
    by_name = {weather.name: found for weather, found in pairs}
    for weather, found in pairs:
        calm = by_name[weather.calm]
        yield Row(
            weather.name,
            spread([reading.victim for reading in found]),
            spread([reading.to_gbit_s for reading in found]),
            spread([reading.from_gbit_s for reading in found]),
            spread([reading.round_trip_us for reading in found]),
            min(
                _ratio(found, calm, lambda reading: reading.to_gbit_s),
                _ratio(found, calm, lambda reading: reading.from_gbit_s),
            ),
            _ratio(found, by_name[NOTHING], lambda reading: reading.round_trip_us),
        )


def _ratio(
    found: list[Reading], calm: list[Reading], of: Callable[[Reading], float]
) -> float:
    return statistics.median(map(of, found)) / statistics.median(map(of, calm))


def main() -> None:
    """Measure and print; the exit status is 1 when a limit does not hold."""
    parser = argparse.ArgumentParser(prog="bench storm", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="for each figure")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = measure(arguments.rounds, arguments.seconds)
    table = list(rows(result))
    if arguments.json:
        fields = [asdict(row) for row in table]
        print(
            json.dumps({"schema": "xenvirt/1", "storm": fields, "rates": result.rates})
        )
    else:
        show(table, result.rates)
    raise SystemExit(not all(row.holds for row in table))


def show(table: list[Row], rates: list[float]) -> None:
    """Print as Markdown."""
    uname = platform.uname()
    print(f"{uname.machine}, Linux {uname.release}, {os.cpu_count()} CPUs")
    print(f"Events a second: {spread(rates)}\n")
    print(
        "| storm | victim's CPU | to the domain, Gbit/s | from it, Gbit/s "
        "| round trip, µs | throughput | latency |"
    )
    print("|---|---|---|---|---|---|---|")
    for row in table:
        values = (row.victim, row.to_gbit_s, row.from_gbit_s, row.round_trip_us)
        ratios = (f"{row.throughput:.2f}", f"{row.latency:.2f}")
        print(f"| {' | '.join((row.name, *values, *ratios))} |")
    for row in table:
        if not row.holds:
            print(f"{row.name}: NOT held")


if __name__ == "__main__":
    main()
