"""The daemon's end of the launcher's socket: order, and a launcher that is slow."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterator

import pytest
import uvloop

from xenvirt.errors import HypercallError
from xenvirt.hypervisor import wire
from xenvirt.toolstack.launcher_client import LauncherClient


class Slow:
    """A launcher that reads when the test does."""

    def __init__(self) -> None:
        ours, self.sock = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.setblocking(False)
        self.exits: list[tuple[int, int]] = []
        self.gone = asyncio.Event()
        self.client = LauncherClient(ours)
        self.client.start(
            on_exited=lambda pid, status: self.exits.append((pid, status)),
            on_gone=self.gone.set,
        )

    def read(self) -> wire.Packet | None:
        try:
            return wire.receive(self.sock, wire.MAX_REPLY)
        except BlockingIOError:
            return None

    def say(self, **body: object) -> None:
        wire.send(self.sock, wire.encode(body, wire.MAX_REPLY))

    def fill(self) -> int:
        """Put records until the queue has no room; return how many were put."""
        count = 0
        while self.client.settled:
            self.client.put(f"{count}", {"pad": "x" * 4000})
            count += 1
        return count

    def close(self) -> None:
        self.client.close()
        self.sock.close()


@pytest.fixture
def run() -> Iterator[Callable[[Callable[[Slow], Awaitable[None]]], None]]:
    uvloop.run(asyncio.sleep(0))
    before = os.listdir("/proc/self/fd")

    def run_body(body: Callable[[Slow], Awaitable[None]]) -> None:
        async def main() -> None:
            launcher = Slow()
            try:
                async with asyncio.timeout(10):
                    await body(launcher)
            finally:
                launcher.close()

        uvloop.run(main())

    yield run_body
    assert os.listdir("/proc/self/fd") == before


Run = Callable[[Callable[[Slow], Awaitable[None]]], None]


def test_a_record_is_safe_at_once_while_there_is_room(run: Run) -> None:
    async def body(launcher: Slow) -> None:
        fd = os.memfd_create("kept")
        launcher.client.put("a", {"n": 1}, [fd])
        launcher.client.drop("b")
        assert launcher.client.settled
        await launcher.client.settle()
        packet = launcher.read()
        assert packet is not None
        assert packet.body == {"op": "keep", "key": "a", "value": {"n": 1}}
        assert os.path.samestat(os.fstat(packet.fds[0]), os.fstat(fd))
        wire.close_fds([fd, *packet.fds])
        packet = launcher.read()
        assert packet is not None
        assert packet.body == {"op": "drop", "key": "b"}

    run(body)


def test_a_slow_launcher_gets_everything_in_order(run: Run) -> None:
    async def body(launcher: Slow) -> None:
        count = launcher.fill()
        fd = os.memfd_create("kept")
        ino = os.fstat(fd).st_ino
        launcher.client.put("with", {}, [fd])
        # The caller closes its own, and the number becomes somebody else's.
        os.close(fd)
        other = os.memfd_create("other")
        answers: list[object] = []
        launcher.client.request(answers.append, "spawn")
        settled = asyncio.ensure_future(launcher.client.settle())
        idle = asyncio.ensure_future(launcher.client.become_idle())
        await asyncio.sleep(0)
        assert not settled.done()
        seen: list[str] = []
        while "spawn" not in seen:
            packet = launcher.read()
            if packet is None:
                await asyncio.sleep(0)
                continue
            seen.append(str(packet.body.get("key", packet.body["op"])))
            if packet.fds:
                assert [os.fstat(fd).st_ino for fd in packet.fds] == [ino]
                wire.close_fds(packet.fds)
        assert seen == [*map(str, range(count)), "with", "spawn"]
        await settled
        assert not idle.done()
        launcher.say(ok={})
        await idle
        assert len(answers) == 1
        os.close(other)

    run(body)


def test_events_and_answers_come_in_their_order(run: Run) -> None:
    async def body(launcher: Slow) -> None:
        call = asyncio.ensure_future(launcher.client.call("spawn"))
        await asyncio.sleep(0)
        launcher.say(event="exited", pid=1, status=9)
        launcher.say(ok={"pid": 2})
        assert await call == {"pid": 2}
        assert launcher.exits == [(1, 9)]
        refused = asyncio.ensure_future(launcher.client.call("spawn"))
        await asyncio.sleep(0)
        launcher.say(error="EIO", why="no processes left")
        with pytest.raises(HypercallError, match="no processes left"):
            await refused

    run(body)


def test_a_launcher_that_is_gone_keeps_nobody_waiting(run: Run) -> None:
    async def body(launcher: Slow) -> None:
        launcher.fill()
        fd = os.memfd_create("kept")
        launcher.client.put("late", {}, [fd])
        os.close(fd)
        settled = asyncio.ensure_future(launcher.client.settle())
        call = asyncio.ensure_future(launcher.client.call("spawn"))
        await asyncio.sleep(0)
        launcher.sock.close()
        await launcher.gone.wait()
        await settled
        with pytest.raises(HypercallError, match="the launcher has ended"):
            await call
        launcher.client.put("later", {})
        assert launcher.client.settled

    run(body)
