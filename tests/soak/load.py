"""Traffic through both links of a world for as long as a run takes."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from tests.soak.stream import Stream
from tests.soak.world import BRIDGE_FAR, BRIDGE_NEAR, PLAIN_FAR, PLAIN_NEAR, World

_PORT: Final = "5301"


class Load:
    """iperf3 through one link as fast as it goes, and a checked stream each way.

    `errors` grows with what is found wrong.
    """

    def __init__(self, world: World, *, with_iperf3: bool) -> None:
        self._processes: list[subprocess.Popen[str]] = []
        self._streams = {
            "to plain": Stream(None, world.plain.netns, PLAIN_FAR),
            "from plain": Stream(world.plain.netns, None, PLAIN_NEAR),
            "to bridged": Stream(None, world.bridged.netns, BRIDGE_FAR),
            "from bridged": Stream(world.bridged.netns, None, BRIDGE_NEAR),
        }
        self._errors: list[str] | None = None
        if with_iperf3:
            self._start_iperf3(world)

    @property
    def bytes(self) -> int:
        """How many all streams have carried, and were right."""
        return sum(stream.received for stream in self._streams.values())

    def ended(self) -> list[str]:
        """End all of it, and say what was wrong; again says the same."""
        if self._errors is not None:
            return self._errors
        self._errors = []
        ended = any(process.poll() is not None for process in self._processes)
        for process in self._processes:
            process.kill()
            said, _ = process.communicate()
            if ended:
                self._errors.append(f"iperf3 has ended: {said.strip()}")
        for name, stream in self._streams.items():
            wrong = stream.stop()
            if wrong is not None:
                self._errors.append(f"TCP {name}: {wrong}")
        return self._errors

    def _start_iperf3(self, world: World) -> None:
        inside = ("ip", "netns", "exec", world.plain.netns)
        server = self._popen(*inside, "iperf3", "-s", "-p", _PORT, "--forceflush")
        assert server.stdout is not None
        for line in server.stdout:
            if "listening" in line:
                break
        self._popen("iperf3", "-c", PLAIN_FAR, "-p", _PORT, "-t", "86400", "-i", "0")

    def _popen(self, *command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._processes.append(process)
        return process


@contextmanager
def load(world: World, *, with_iperf3: bool = True) -> Iterator[Load]:
    """Have it while the block runs."""
    with ExitStack() as stack:
        made = Load(world, with_iperf3=with_iperf3)
        stack.callback(made.ended)
        yield made
