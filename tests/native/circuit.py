"""Two vifs joined at both ends, so that frames go round without anybody's help.

Front A, TX ring, back A, back B, RX ring, front B, and front A again; and the same
the other way round. Nobody makes or takes a frame, so none may come to be missing.
"""

from contextlib import ExitStack
from typing import Final

from tests.native.frames import plain
from tests.native.helpers import FakeTap, Pair, socket_pair

LENGTHS: Final = (60, 1514, 4096, 9000)
FRAMES: Final = 24


def joined_taps(stack: ExitStack) -> tuple[FakeTap, FakeTap]:
    """Two TAPs, each the other one's network."""
    one, other = socket_pair(stack)
    return FakeTap((one, other)), FakeTap((other, one))


class Circuit:
    """The pairs A and B, and the frames that go round each way."""

    def __init__(self, stack: ExitStack) -> None:
        fronts, backs = joined_taps(stack), joined_taps(stack)
        self.pairs = [
            Pair(stack, taps=(front, back))
            for front, back in zip(fronts, backs, strict=True)
        ]
        self.queues = [end.queue for p in self.pairs for end in (p.front, p.back)]
        self.sent = [
            [plain(LENGTHS[n % len(LENGTHS)], 100 * way + n) for n in range(FRAMES)]
            for way in range(2)
        ]
        for pair, frames in zip(self.pairs, self.sent, strict=True):
            for frame in frames:
                pair.front.tap.send(frame)
        self.collected: list[list[bytes]] = [[], []]

    def entries(self) -> int:
        """Ring entries that the fronts have written and taken so far."""
        indices = [pair.front.stats.indices() for pair in self.pairs]
        return sum(each["tx_req"] + each["rx_rsp"] for each in indices)

    def collect(self) -> bool:
        """Take what came out at the fronts, which no worker has. True: all of it."""
        for pair in self.pairs:
            pair.front.queue.tap_ready(writable=True)
            pair.front.queue.front_rx(64)
        # What front B writes is what front A would read: it belongs to A's way.
        self.collected[0] += self.pairs[1].front.tap.frames()
        self.collected[1] += self.pairs[0].front.tap.frames()
        return sum(map(len, self.collected)) >= 2 * FRAMES

    def run_backs(self) -> None:
        """Move what is on its way, when no worker has the backs either."""
        for pair in self.pairs:
            pair.back.queue.tap_ready(readable=True, writable=True)
            pair.back.queue.back_tx(64)
            pair.back.queue.back_rx(64)

    def in_the_order_of(self, way: int) -> bool:
        """Did the frames of a way come out as they went in, begun anywhere?"""
        sent, got = self.sent[way], self.collected[way]
        return any(got == sent[n:] + sent[:n] for n in range(FRAMES))
