"""Clients of a hypervisor that is killed: they come back and have what they had."""

import asyncio
import fcntl
import gc
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from xenvirt.abi.ids import DOM0, DevId, DomId
from xenvirt.errors import HypercallError
from xenvirt.hypervisor import wire
from xenvirt.hypervisor.caller import Identities
from xenvirt.hypervisor.client import Client
from xenvirt.hypervisor.domains import Domain
from xenvirt.hypervisor.keeper import Kept, OwnKeeper, Records
from xenvirt.hypervisor.operations import Operations
from xenvirt.hypervisor.server import HandedOver, Server
from xenvirt.hypervisor.session import Session, start_time
from xenvirt.hypervisor.sync_client import SyncClient
from xenvirt.hypervisor.system import System

D1 = DomId(1)
NAME = "0123456789abcdef" * 2


class SlowKeeper(OwnKeeper):
    """Says that it has not kept what it has, until it is told to."""

    def __init__(self, records: Records | None = None) -> None:
        super().__init__(records)
        self.may_settle = asyncio.Event()
        self.may_settle.set()

    @property
    def settled(self) -> bool:
        return self.may_settle.is_set()

    async def settle(self) -> None:
        await self.may_settle.wait()

    def handed_over(self) -> Records:
        return {
            key: Kept(kept.value, [os.dup(fd) for fd in kept.fds])
            for key, kept in self.records.items()
        }


class Hypervisor:
    """One of them after the other, on a socket that stays."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listening.bind(str(path))
        self.listening.listen()
        self.created = 0
        self.may_create = asyncio.Event()
        self.may_create.set()
        self.begin({})
        self.system.create_domain("one", now=0.0)
        self.system.keep_domain(D1)

    def begin(self, records: Records) -> None:
        self.keeper = SlowKeeper(records)
        self.system = System.restore(records, self.keeper)
        self.server = Server(
            socket.socket(fileno=os.dup(self.listening.fileno())),
            self.system,
            Operations(self.system, self, self, self),
            Identities(1_000_000, frozenset({os.geteuid()})),
        )

    def kill(self) -> Records:
        """End every connection and lose every table; what is kept is returned."""
        records = self.keeper.handed_over()
        for connection in list(self.server._connections):
            if connection.slow_call is not None:
                connection.slow_call.cancel()
        self.keeper.put = lambda *args: None  # type: ignore[method-assign]
        self.keeper.drop = lambda *args: None  # type: ignore[method-assign]
        # Not `close`, which refuses whoever comes.
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.server._listening.fileno())
        self.server._listening.close()
        self.server.close()
        self.system.close()
        return records

    def restart(self) -> None:
        self.begin(self.kill())
        self.server.start()

    def close(self) -> None:
        self.server.close()
        self.system.close()
        self.listening.close()

    async def has_vif(self, backend_domid: DomId, frontend_domid: DomId) -> bool:
        return True

    def attach(self, sock: socket.socket, domid: DomId, privileged: bool) -> None:
        sock.close()

    async def domain_create(
        self, name: str, domain_uuid: str | None, bare: bool
    ) -> Domain:
        made = self.system.domains.named(name)
        if made is not None and made.uuid == domain_uuid:
            return made
        self.created += 1
        domain = self.system.create_domain(name, now=1.0, domain_uuid=domain_uuid)
        self.system.keep_domain(domain.domid)
        await self.may_create.wait()
        return domain

    async def domain_destroy(self, domid: DomId) -> None:
        self.system.destroy_domain(domid)

    def ends(self, domid: DomId) -> list[dict[str, object]]:
        return []

    def shutdown(self) -> int:
        return 1


Body = Callable[[Hypervisor], Awaitable[None]]
Run = Callable[[Body], None]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Run a coroutine, and check that no descriptor is left."""
    uvloop.run(asyncio.sleep(0))
    gc.collect()
    before = os.listdir("/proc/self/fd")

    def run_body(body: Body) -> None:
        async def main() -> None:
            hypervisor = Hypervisor(tmp_path / "s")
            hypervisor.server.start()
            try:
                async with asyncio.timeout(20):
                    await body(hypervisor)
            finally:
                hypervisor.close()

        uvloop.run(main())

    yield run_body
    assert os.listdir("/proc/self/fd") == before


def nr_ports(hypervisor: Hypervisor) -> int:
    return len(hypervisor.system.ports.status(D1)) - 1  # less the store's


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - any condition, nobody signals it
        await asyncio.sleep(0)


def test_a_lasting_client_goes_on_with_what_it_had(run: Run) -> None:
    async def body(hypervisor: Hypervisor) -> None:
        client = Client(hypervisor.path, as_domid=D1, lasting=True)
        channel = await client.alloc_unbound(DOM0)
        page = os.memfd_create("page", os.MFD_ALLOW_SEALING)
        os.ftruncate(page, 4096)
        fcntl.fcntl(page, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        await client.publish(D1, DevId(0), "front", 0, page)
        for count in (1, 2):
            hypervisor.restart()
            second = await client.alloc_unbound(DOM0)
            assert second.port == channel.port + count
            assert len(hypervisor.system.published.of_vif(D1, DevId(0))) == 1
            second.close()
        assert hypervisor.system.orphans == {}
        client.close()
        await until(lambda: nr_ports(hypervisor) == 0)
        assert hypervisor.system.published.of_vif(D1, DevId(0)) == []
        assert not [k for k in hypervisor.keeper.records if k.startswith("session")]
        channel.close()
        os.close(page)

    run(body)


def test_a_call_that_was_done_but_not_answered_is_not_done_twice(run: Run) -> None:
    async def body(hypervisor: Hypervisor) -> None:
        client = Client(hypervisor.path, as_domid=D1, lasting=True)
        first = await client.alloc_unbound(DOM0)
        hypervisor.keeper.may_settle.clear()
        calls = [asyncio.ensure_future(client.alloc_unbound(DOM0)) for _ in range(2)]
        await until(lambda: nr_ports(hypervisor) == 2)
        await asyncio.sleep(0)
        hypervisor.restart()
        made = [await call for call in calls]
        assert [channel.port for channel in made] == [first.port + 1, first.port + 2]
        assert nr_ports(hypervisor) == 3
        hypervisor.keeper.may_settle.clear()
        closing = asyncio.ensure_future(client.close_port(first.port))
        await until(lambda: nr_ports(hypervisor) == 2)
        hypervisor.restart()
        await closing
        with pytest.raises(HypercallError, match="is closed"):
            await client.close_port(first.port)
        client.close()
        for channel in (first, *made):
            channel.close()

    run(body)


def test_an_answer_waits_until_it_is_kept_and_has_the_right_descriptors(
    run: Run,
) -> None:
    async def body(hypervisor: Hypervisor) -> None:
        client = Client(hypervisor.path, as_domid=D1)
        hypervisor.keeper.may_settle.clear()
        call = asyncio.ensure_future(client.alloc_unbound(DOM0))
        await until(lambda: nr_ports(hypervisor) == 1)
        (_, entry) = hypervisor.system.ports.status(D1)
        eventfd = os.dup(entry.pending_fd)
        # Gone before it was answered, and its number is somebody else's.
        hypervisor.system.ports.close(D1, entry.port)
        other = os.memfd_create("other")
        for _ in range(20):
            await asyncio.sleep(0)
        assert not call.done()
        hypervisor.keeper.may_settle.set()
        channel = await call
        os.eventfd_write(eventfd, 1)
        assert channel.drain()
        os.close(other)
        os.close(eventfd)
        channel.close()
        client.close()

    run(body)


def test_a_session_that_is_lost_ends_the_client(run: Run) -> None:
    async def body(hypervisor: Hypervisor) -> None:
        client = Client(hypervisor.path, lasting=True)
        await client.call("start_info")
        records = hypervisor.kill()
        for kept in records.values():
            wire.close_fds(kept.fds)
        hypervisor.begin({})
        hypervisor.server.start()
        await client.wait_closed()
        with pytest.raises(HypercallError, match="has closed the connection"):
            await client.call("start_info")

    run(body)


def test_a_daemon_that_is_gone_for_good_ends_the_client(run: Run) -> None:
    async def body(hypervisor: Hypervisor) -> None:
        client = Client(hypervisor.path, lasting=True)
        await client.call("start_info")
        call = asyncio.ensure_future(client.call("domain_create", name="x", uuid=None))
        hypervisor.may_create.clear()
        await until(lambda: hypervisor.created == 1)
        hypervisor.server.stop_listening()
        for connection in list(hypervisor.server._connections):
            assert connection.slow_call is not None
            connection.slow_call.cancel()
        hypervisor.server.close()
        await client.wait_closed()
        with pytest.raises(HypercallError, match="ECONNRESET"):
            await call

    run(body)


def test_what_a_dead_process_had_goes(run: Run) -> None:
    program = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    process = subprocess.Popen(program, stdin=subprocess.PIPE)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead_start = start_time(dead.pid)
    dead.wait()

    async def body(hypervisor: Hypervisor) -> None:
        for pid, started in ((process.pid, None), (dead.pid, dead_start)):
            session = Session(pid, os.geteuid())
            hypervisor.system.name_session(session)
            if started is not None:
                session.started = started
            hypervisor.system.ports.alloc_unbound(D1, DOM0, owner=session)
        assert nr_ports(hypervisor) == 2
        hypervisor.restart()
        assert nr_ports(hypervisor) == 1
        process.communicate(b"")
        await until(lambda: nr_ports(hypervisor) == 0)

    run(body)


def test_a_session_is_its_users_alone_and_its_name_is_checked(run: Run) -> None:
    async def body(hypervisor: Hypervisor) -> None:
        client = Client(hypervisor.path)
        for args, says in (
            ({"name": "x", "resume": False}, "32 hexadecimal digits"),
            ({"name": NAME, "resume": 1}, "truth value"),
            ({"name": NAME}, "needs resume"),
            ({"name": NAME, "resume": True}, "no such session"),
        ):
            with pytest.raises(HypercallError, match=says):
                await client.call("session", **args)
        await client.call("session", name=NAME, resume=False)
        other = Client(hypervisor.path)
        with pytest.raises(HypercallError, match="such a session already"):
            await other.call("session", name=NAME, resume=False)
        client.close()
        other.close()

    run(body)


def test_connections_are_handed_over_to_the_next_image(run: Run) -> None:
    async def body(hypervisor: Hypervisor) -> None:
        client = Client(hypervisor.path, as_domid=D1)
        channel = await client.alloc_unbound(DOM0)
        creator = Client(hypervisor.path)
        hypervisor.may_create.clear()
        creating = asyncio.ensure_future(
            creator.call("domain_create", name="two", uuid=None)
        )
        await until(lambda: hypervisor.created == 1)
        handing = asyncio.ensure_future(hypervisor.server.hand_over())
        late = asyncio.ensure_future(client.alloc_unbound(DOM0))
        await asyncio.sleep(0)
        assert not handing.done()
        hypervisor.may_create.set()
        handed = [
            HandedOver(os.dup(each.fd), each.session, each.lasting)
            for each in await handing
        ]
        assert (await creating)[0]["domid"] == 2
        assert nr_ports(hypervisor) == 1
        hypervisor.begin(hypervisor.kill())
        for each in handed:
            hypervisor.server.take_over(each)
        hypervisor.server.start()
        second = await late
        assert nr_ports(hypervisor) == 2
        # Its client would not know it by name: a crash is the end of it.
        assert not [k for k in hypervisor.keeper.records if k.startswith("session")]
        client.close()
        await until(lambda: nr_ports(hypervisor) == 0)
        creator.close()
        channel.close()
        second.close()

    run(body)


def test_without_a_next_image_the_server_goes_on(run: Run) -> None:
    async def body(hypervisor: Hypervisor) -> None:
        client = Client(hypervisor.path)
        await client.call("start_info")
        await hypervisor.server.hand_over()
        call = asyncio.ensure_future(client.call("start_info"))
        hypervisor.server.go_on()
        assert (await call)[0]["domid"] == 0
        assert not [k for k in hypervisor.keeper.records if k.startswith("session")]
        client.close()

    run(body)


def test_a_command_repeats_what_was_not_answered(run: Run) -> None:
    async def body(hypervisor: Hypervisor) -> None:
        made: list[object] = []
        hypervisor.may_create.clear()

        def command() -> None:
            with SyncClient(hypervisor.path, timeout_s=20) as client:
                made.append(client.domain_create("two")["domid"])
                client.domain_destroy(DomId(2))
                with pytest.raises(HypercallError, match="no domain 2"):
                    client.domain_destroy(DomId(2))

        thread = threading.Thread(target=command)
        thread.start()
        await until(lambda: hypervisor.created == 1)
        hypervisor.restart()
        await asyncio.to_thread(thread.join)
        assert made == [2]
        assert hypervisor.created == 1
        assert [d.domid for d in hypervisor.system.domains] == [0, 1]

    run(body)


def test_a_command_is_told_when_the_daemon_is_gone(run: Run) -> None:
    async def body(hypervisor: Hypervisor) -> None:
        client = SyncClient(hypervisor.path, timeout_s=20)
        await asyncio.to_thread(client.start_info)
        hypervisor.server.stop_listening()
        hypervisor.server.close()
        with pytest.raises(HypercallError, match="the daemon is gone"):
            await asyncio.to_thread(client.start_info)
        client.close()

    run(body)
