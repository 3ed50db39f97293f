"""Both queues of a vif against two lists: whatever the order of events, no frame is
lost, changed or overtaken, and no end sleeps while there is work for it.

Each end does what the worker does: hops while they move something, arm, then sleep
until its event channel or its TAP wakes it.
"""

from contextlib import ExitStack
from dataclasses import replace
from typing import Final, Literal

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from tests.native.frames import plain
from tests.native.helpers import EVERYTHING, End, Link, Pair
from xenvirt.native.queue import PeerFeatures

Side = Literal["front", "back"]

SIDES: Final = st.sampled_from(["front", "back"])
FEATURES: Final = st.sampled_from(
    [
        EVERYTHING,
        replace(EVERYTHING, gso_tcpv4=False, gso_tcpv6=False),
        replace(EVERYTHING, sg=False),
    ]
)
MANY_TURNS: Final = 100_000
BUDGETS: Final = st.sampled_from([1, 2, 64])


class PairModel(RuleBasedStateMachine):
    """`sent[side]` is what the network gave that side's TAP and the other must get."""

    copying = False

    @initialize(back_takes=FEATURES, front_takes=FEATURES)
    def begin(self, back_takes: PeerFeatures, front_takes: PeerFeatures) -> None:
        self.opened = ExitStack()
        self.opened.callback(setattr, Link, "copying", Link.copying)
        Link.copying = self.copying
        self.pair = Pair(
            self.opened,
            back_takes=back_takes,
            front_takes=front_takes,
        )
        self.longest = {
            "front": 65535 if back_takes.sg else 4096,
            "back": 65535 if front_takes.sg else 4096,
        }
        self.awake = {"front": True, "back": True}
        self.sent: dict[str, list[bytes]] = {"front": [], "back": []}
        self.got: dict[str, list[bytes]] = {"front": [], "back": []}
        self.seed = 0

    @rule(side=SIDES, length=st.integers(14, 65535), count=st.integers(1, 60))
    def the_network_sends(self, side: Side, length: int, count: int) -> None:
        length = min(length, self.longest[side])
        for _ in range(count):
            self.seed += 1
            frame = plain(length, self.seed)
            try:
                self.end(side).tap.send(frame)
            except BlockingIOError:
                break
            self.sent[side].append(frame)
        self.end(side).queue.tap_ready(readable=True)
        self.awake[side] = True

    @rule(side=SIDES)
    def the_network_stops_taking(self, side: Side) -> None:
        self.end(side).tap.fill()

    @rule(side=SIDES)
    def the_network_takes_again(self, side: Side) -> None:
        self.take(side)

    @rule(side=SIDES, length=st.sampled_from([60, 4096]))
    def a_ring_fills(self, side: Side, length: int) -> None:
        """Its network sends and the other one takes nothing."""
        self.the_network_stops_taking("back" if side == "front" else "front")
        before = -1
        while before != (before := len(self.sent[side])):
            self.the_network_sends(side, length, count=60)
            self.both_run_until_they_sleep(64)

    @rule(side=SIDES, budget=BUDGETS)
    def an_end_runs(self, side: Side, budget: int) -> None:
        self.wake_notified()
        if self.awake[side]:
            self.turn(side, budget)

    @rule(budget=BUDGETS)
    def both_run_until_they_sleep(self, budget: int) -> None:
        self.wake_notified()
        for _ in range(MANY_TURNS):
            if not any(self.awake.values()):
                return
            for side in self.awake:
                if self.awake[side]:
                    self.turn(side, budget)
            self.wake_notified()
        raise AssertionError("an end stays awake without work")

    @invariant()
    def nothing_is_broken(self) -> None:
        assert self.pair.front.stats.broken() is None
        assert self.pair.back.stats.broken() is None

    def teardown(self) -> None:
        if not hasattr(self, "pair"):
            return
        taken = 1
        while taken:
            self.both_run_until_they_sleep(64)
            taken = self.take("front") + self.take("back")
        self.opened.close()
        assert self.got["back"] == self.sent["front"]
        assert self.got["front"] == self.sent["back"]

    def turn(self, side: str, budget: int) -> None:
        queue = self.end(side).queue
        if side == "front":
            moved = queue.front_rx(budget) + queue.front_tx(budget)
        else:
            moved = queue.back_tx(budget) + queue.back_rx(budget)
        if not moved:
            self.awake[side] = queue.arm()

    def wake_notified(self) -> None:
        if self.pair.channel.front_notified():
            self.awake["front"] = True
        if self.pair.channel.back_notified():
            self.awake["back"] = True

    def take(self, side: str) -> int:
        """Take what a TAP wrote; how many frames, what `fill` put there included.

        The queue hears of it as from epoll: only a TAP that was full can become
        writable.
        """
        tap = self.end(side).tap
        was_full = not tap.writable()
        frames = tap.frames()
        self.got[side] += [frame for frame in frames if any(frame[:14])]
        if was_full:
            self.end(side).queue.tap_ready(writable=True)
            self.awake[side] = True
        return len(frames)

    def end(self, side: str) -> End:
        return self.pair.front if side == "front" else self.pair.back


class CopyingPairModel(PairModel):
    """The same with a backend that copies payload."""

    copying = True


TestPairModel = PairModel.TestCase
TestPairModel.settings = settings(max_examples=40, stateful_step_count=25)
TestCopyingPairModel = CopyingPairModel.TestCase
TestCopyingPairModel.settings = TestPairModel.settings
