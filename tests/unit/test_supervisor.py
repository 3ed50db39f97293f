import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from xenvirt.abi.ids import DOM0, DomId
from xenvirt.errors import HypercallError
from xenvirt.hypervisor import wire
from xenvirt.hypervisor.keeper import Kept
from xenvirt.toolstack.inheritance import RunningEnd
from xenvirt.toolstack.launcher_client import LauncherClient
from xenvirt.toolstack.supervisor import End, Policy, Supervisor, describe_exit

WEB = End("frontend", DomId(1), "web", "web")
BACK = End("backend", DOM0, "Domain-0", None)
KILLED = int(signal.SIGKILL)
FAILED = 1 << 8
KEY = "end/frontend/1"


def running(policy: Policy, end: End, pid: int, now: float) -> None:
    policy.want(end)
    policy.started(end, pid, now)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (9, "died with signal 9"),
        (31, "died with signal 31 (SIGSYS: a forbidden system call)"),
        (139, "died with signal 11"),
        (0, "exited with status 0"),
        (0x100, "exited with status 1"),
    ],
)
def test_exits_are_put_into_words(status: int, says: str) -> None:
    assert describe_exit(status) == says


def test_an_end_that_dies_is_started_again_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy = Policy()
    running(policy, WEB, 100, now=0.0)
    assert policy.exited(100, KILLED, now=1.0) is WEB
    assert caplog.messages == [
        "frontend of domain 1 (web) died with signal 9; starting it again"
    ]
    assert policy.next_due() == 1.0
    assert policy.take_due(1.0) == [WEB]
    assert policy.take_due(1.0) == []


def test_one_that_keeps_dying_waits_ever_longer_up_to_five_seconds() -> None:
    policy = Policy()
    running(policy, WEB, 1, now=0.0)
    now, delays = 0.0, []
    for pid in range(1, 11):
        policy.exited(pid, FAILED, now)
        due = policy.next_due()
        assert due is not None
        delays.append(round(due - now, 3))
        assert policy.take_due(due - 0.001 if due > now else due - 1) == []
        now = due
        assert policy.take_due(now) == [WEB]
        policy.started(WEB, pid + 1, now)
    assert delays == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5]


def test_ten_seconds_alive_and_the_next_start_is_at_once() -> None:
    policy = Policy()
    running(policy, WEB, 1, now=0.0)
    for pid, now in ((1, 0.0), (2, 0.0)):
        policy.exited(pid, FAILED, now)
        policy.take_due(now + 1)
        policy.started(WEB, pid + 1, now)
    policy.exited(3, FAILED, now=10.0)
    assert policy.next_due() == 10.0


def test_one_that_is_killed_has_not_failed_however_often_it_happens() -> None:
    policy = Policy()
    running(policy, WEB, 1, now=0.0)
    for pid in range(1, 20):
        policy.exited(pid, KILLED, now=float(pid))
        assert policy.next_due() == pid
        assert policy.take_due(pid) == [WEB]
        policy.started(WEB, pid + 1, now=float(pid))


def test_one_that_is_killed_at_once_each_time_is_started_ten_times_a_second() -> None:
    policy = Policy()
    running(policy, WEB, 1, now=5.0)
    policy.exited(1, KILLED, now=5.025)
    assert policy.next_due() == pytest.approx(5.1)


def test_an_unwanted_end_is_forgotten_when_it_exits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    policy = Policy()
    running(policy, WEB, 1, now=0.0)
    policy.unwant("frontend", DomId(1))
    assert policy.knows("frontend", DomId(1))
    policy.exited(1, 0, now=1.0)
    assert not policy.knows("frontend", DomId(1))
    assert policy.next_due() is None
    assert caplog.messages == ["frontend of domain 1 (web) exited with status 0"]


def test_one_that_waits_to_be_started_is_forgotten_at_once() -> None:
    policy = Policy()
    running(policy, WEB, 1, now=0.0)
    policy.exited(1, KILLED, now=1.0)
    policy.unwant("frontend", DomId(1))
    assert policy.next_due() is None
    assert not policy.knows("frontend", DomId(1))


def test_one_that_is_being_started_is_known_until_its_process_has_gone() -> None:
    policy = Policy()
    policy.want(WEB)
    policy.unwant("frontend", DomId(1))
    assert policy.knows("frontend", DomId(1))
    policy.started(WEB, 1, now=0.0)
    assert not policy.wants("frontend", DomId(1))
    assert policy.pid("frontend", DomId(1)) == 1
    policy.exited(1, 0, now=1.0)
    assert not policy.knows("frontend", DomId(1))


def test_a_start_that_fails_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    policy = Policy()
    running(policy, WEB, 1, now=0.0)
    policy.exited(1, FAILED, now=0.0)
    policy.take_due(0.0)
    policy.not_started(WEB, "no memory", now=0.0)
    assert policy.next_due() == 0.1
    assert "cannot start frontend of domain 1 (web): no memory" in caplog.messages[-1]


def test_the_same_end_is_not_wanted_twice() -> None:
    policy = Policy()
    policy.want(WEB)
    with pytest.raises(HypercallError, match="there is a frontend of domain 1"):
        policy.want(WEB)


def test_a_process_that_is_no_end_is_nobodys() -> None:
    assert Policy().exited(7, 0, now=0.0) is None


def test_the_report_counts_restarts() -> None:
    policy = Policy()
    running(policy, BACK, 5, now=0.0)
    running(policy, WEB, 6, now=0.0)
    policy.exited(6, FAILED, now=0.0)
    policy.take_due(0.0)
    assert policy.report(DomId(1)) == [{"role": "frontend", "pid": None, "restarts": 1}]
    assert policy.report(DOM0) == [{"role": "backend", "pid": 5, "restarts": 0}]
    assert policy.ends("backend") == [BACK]


class ScriptedLauncher:
    """The launcher's end of the socket: the test answers what the supervisor asks."""

    def __init__(self) -> None:
        ours, self.sock = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.setblocking(False)
        self.restarted: list[End] = []
        self.gone = asyncio.Event()
        self.records: dict[str, object] = {}
        self.supervisor = Supervisor(
            LauncherClient(ours),
            before_restart=self.restarted.append,
            on_launcher_gone=self.gone.set,
        )

    async def asked(self) -> dict[str, object]:
        """The next order; what is only to be kept is kept."""
        loop = asyncio.get_running_loop()
        while True:
            async with asyncio.timeout(5):
                data = await loop.sock_recv(self.sock, wire.MAX_REQUEST)
            order = wire.decode(data, wire.MAX_REQUEST)
            if not self.keep(order):
                return order

    def keep(self, order: dict[str, object]) -> bool:
        if order["op"] == "keep":
            self.records[str(order["key"])] = order["value"]
        elif order["op"] == "drop":
            del self.records[str(order["key"])]
        return order["op"] in ("keep", "drop")

    def keep_the_rest(self) -> None:
        """Take what has been sent already, of which nothing is an order."""
        with contextlib.suppress(BlockingIOError):
            while True:
                data = self.sock.recv(wire.MAX_REQUEST)
                assert self.keep(wire.decode(data, wire.MAX_REQUEST))

    def say(self, **body: object) -> None:
        wire.send(self.sock, wire.encode(body, wire.MAX_REPLY))

    def close(self) -> None:
        self.supervisor.close()
        self.sock.close()


def with_launcher(body: Callable[[ScriptedLauncher], Awaitable[None]]) -> None:
    async def main() -> None:
        launcher = ScriptedLauncher()
        try:
            async with asyncio.timeout(10):
                await body(launcher)
        finally:
            launcher.close()

    uvloop.run(main())


def test_start_and_restart_go_through_the_launcher() -> None:
    async def body(launcher: ScriptedLauncher) -> None:
        spawn = {
            "op": "spawn", "role": "frontend", "domid": 1, "name": "web", "netns": "web"
        }  # fmt: skip
        start = asyncio.create_task(launcher.supervisor.start(WEB))
        assert await launcher.asked() == spawn
        # An end that dies at once: the event right behind the answer.
        launcher.say(ok={"pid": 9})
        launcher.say(event="exited", pid=9, status=9)
        await start
        assert launcher.records == {KEY: {"name": "web", "netns": "web", "restarts": 0}}
        assert await launcher.asked() == spawn
        assert launcher.restarted == [WEB]
        assert launcher.records == {KEY: {"name": "web", "netns": "web", "restarts": 1}}
        launcher.say(ok={"pid": 10})

    with_launcher(body)


def test_an_end_that_cannot_be_started_is_not_wanted() -> None:
    async def body(launcher: ScriptedLauncher) -> None:
        start = asyncio.create_task(launcher.supervisor.start(WEB))
        await launcher.asked()
        launcher.say(error="EIO", why="no processes left")
        with pytest.raises(HypercallError, match="no processes left"):
            await start
        assert not launcher.supervisor.policy.knows("frontend", DomId(1))
        launcher.keep_the_rest()
        assert launcher.records == {}

    with_launcher(body)


def test_stopping_an_end_that_is_being_started_stops_it() -> None:
    async def body(launcher: ScriptedLauncher) -> None:
        start = asyncio.create_task(launcher.supervisor.start(WEB))
        await launcher.asked()
        stop = asyncio.create_task(launcher.supervisor.stop("frontend", DomId(1)))
        await asyncio.sleep(0)
        launcher.say(ok={"pid": 9})
        await start
        assert await launcher.asked() == {"op": "signal", "pid": 9, "sig": 15}
        launcher.say(ok={})
        launcher.say(event="exited", pid=9, status=15)
        await stop
        launcher.keep_the_rest()
        assert launcher.records == {}

    with_launcher(body)


def test_one_that_ignores_sigterm_is_killed() -> None:
    async def body(launcher: ScriptedLauncher) -> None:
        launcher.supervisor.hurry()
        start = asyncio.create_task(launcher.supervisor.start(WEB))
        await launcher.asked()
        launcher.say(ok={"pid": 9})
        await start
        stop = asyncio.create_task(launcher.supervisor.stop_all("frontend"))
        for sig in (15, 9):
            assert await launcher.asked() == {"op": "signal", "pid": 9, "sig": sig}
            launcher.say(ok={})
        launcher.say(event="exited", pid=9, status=9)
        await stop

    with_launcher(body)


def test_nobody_waits_for_a_launcher_that_is_gone() -> None:
    async def body(launcher: ScriptedLauncher) -> None:
        start = asyncio.create_task(launcher.supervisor.start(BACK))
        await launcher.asked()
        launcher.say(ok={"pid": 9})
        await start
        stop = asyncio.create_task(launcher.supervisor.stop("backend", DOM0))
        start = asyncio.create_task(launcher.supervisor.start(WEB))
        await launcher.asked()
        launcher.sock.close()
        await stop
        with pytest.raises(HypercallError, match="the launcher has ended"):
            await start
        assert launcher.gone.is_set()
        with pytest.raises(HypercallError, match="the launcher has ended"):
            await launcher.supervisor.start(WEB)

    with_launcher(body)


def kept(end: End, restarts: int) -> dict[str, Kept]:
    value = {"name": end.name, "netns": end.netns, "restarts": restarts}
    return {f"end/{end.role}/{end.domid}": Kept(value)}


def test_ends_of_an_earlier_daemon_are_taken_over() -> None:
    async def body(launcher: ScriptedLauncher) -> None:
        supervisor = launcher.supervisor
        supervisor.adopt(
            {**kept(WEB, 3), **kept(BACK, 0)},
            [RunningEnd(9, "frontend", WEB.domid)],
            {DOM0, WEB.domid},
        )
        assert supervisor.policy.running() == 1
        await supervisor.begin()
        # The backend died while there was nobody to notice.
        assert (await launcher.asked())["role"] == "backend"
        assert launcher.restarted == [BACK]
        launcher.say(ok={"pid": 10})
        launcher.say(event="exited", pid=9, status=9)
        assert (await launcher.asked())["role"] == "frontend"
        assert launcher.records[KEY] == {"name": "web", "netns": "web", "restarts": 4}

    with_launcher(body)


def test_an_end_that_nobody_wants_is_killed() -> None:
    async def body(launcher: ScriptedLauncher) -> None:
        launcher.records = dict.fromkeys([KEY])
        launcher.supervisor.adopt(
            kept(WEB, 0), [RunningEnd(9, "frontend", WEB.domid)], {DOM0}
        )
        begin = asyncio.create_task(launcher.supervisor.begin())
        assert await launcher.asked() == {"op": "signal", "pid": 9, "sig": 9}
        launcher.say(ok={})
        assert not begin.done()
        launcher.say(event="exited", pid=9, status=9)
        await begin
        assert launcher.supervisor.policy.ends() == []
        assert launcher.records == {}

    with_launcher(body)


def test_an_end_of_a_dying_domain_is_not_started_again() -> None:
    async def body(launcher: ScriptedLauncher) -> None:
        launcher.records = dict.fromkeys([KEY, "end/backend/2"])
        launcher.supervisor.adopt(
            {**kept(WEB, 0), **kept(End("backend", DomId(2), "two", "two"), 0)},
            [RunningEnd(9, "backend", DomId(2))],
            {WEB.domid, DomId(2)},
            is_dying=lambda domid: True,
        )
        await launcher.supervisor.begin()
        assert launcher.supervisor.policy.next_due() is None
        assert launcher.supervisor.policy.pid("backend", DomId(2)) == 9
        launcher.keep_the_rest()
        assert [*launcher.records] == ["end/backend/2"]

    with_launcher(body)
