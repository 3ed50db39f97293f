"""A run: the peers take turns within each round, so that the machine's moods meet
all of them.
"""

import os
import platform
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.perf.figures import Run
from tests.perf.measures import USUAL_MTU, Work
from tests.perf.peers.link import Link, Peer, Unavailable
from tests.perf.table import plain
from tests.perf.traffic import Programs


def machine() -> str:
    """What the figures were measured on."""
    uname = platform.uname()
    return f"{uname.machine}, Linux {uname.release}, {os.cpu_count()} CPUs"


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def measure(
    peers: Mapping[str, Peer], works: Sequence[Work], rounds: int, seconds: float
) -> Run:
    """Each work of each peer, `rounds` times, about `seconds` long each.

    A peer that does not start, or that fails at a work, is said and left out there.
    """
    run = Run(machine(), rounds, seconds, [])
    with ExitStack() as stack:
        programs = Programs(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        programs.build()
        links = dict(_links(stack, peers, run))
        run.peers = list(links)
        for number in range(rounds):
            for index, work in enumerate(works, 1):
                place = f"round {number + 1}/{rounds}, {index}/{len(works)}"
                done = [
                    f"{name} {shown}"
                    for name, link in links.items()
                    if (shown := _measure(run, name, link, work, programs))
                ]
                say(f"{place} {work.name}: {', '.join(done)}")
    return run


def _links(
    stack: ExitStack, peers: Mapping[str, Peer], run: Run
) -> Iterator[tuple[str, Link]]:
    for number, (name, make) in enumerate(peers.items(), 1):
        try:
            link = stack.enter_context(make(number))
            stack.enter_context(_stopped(link))
        except (Unavailable, RuntimeError) as error:
            run.left_out[name] = str(error)
            say(f"{name} is left out: {error}")
        else:
            yield name, link


@contextmanager
def _stopped(link: Link) -> Iterator[None]:
    """Keep a link that never sleeps from the CPUs of the others."""
    _signal(link, signal.SIGSTOP)
    try:
        yield
    finally:
        # What is stopped cannot end in order.
        _signal(link, signal.SIGCONT)


@contextmanager
def _its_turn(link: Link) -> Iterator[None]:
    _signal(link, signal.SIGCONT)
    try:
        yield
    finally:
        _signal(link, signal.SIGSTOP)


def _signal(link: Link, number: signal.Signals) -> None:
    for pid in link.pids if link.never_sleeps else ():
        os.kill(pid, number)


@contextmanager
def _mtu(link: Link, mtu: int) -> Iterator[None]:
    """Another MTU than the usual one. Raises Unavailable where there is none."""
    if mtu == USUAL_MTU:
        yield
        return
    try:
        link.set_mtu(mtu)
        yield
    finally:
        link.set_mtu(USUAL_MTU)


def _measure(run: Run, name: str, link: Link, work: Work, programs: Programs) -> str:
    """Record what one work gives, and return its first figure to be shown."""
    mtu = f"{name}, MTU {work.mtu:,}"
    if mtu in run.left_out:
        return ""
    try:
        with _its_turn(link), _mtu(link, work.mtu):
            figures = work.measure(programs, link, run.seconds)
    except Unavailable as error:
        run.left_out[mtu] = str(error)
        say(f"{mtu} is left out: {error}")
        return ""
    except RuntimeError as error:
        # What the machine upset may go well in the next round.
        run.left_out[f"{name}, {work.name}"] = f"at least once: {error}"
        say(f"{name}, {work.name}: {error}")
        return ""
    run.record(name, figures)
    return plain(next(iter(figures.values())))
