import asyncio
import fcntl
import gc
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from xenvirt.abi.ids import DOM0, DevId, DomId, Port
from xenvirt.errors import HypercallError, NotFoundError
from xenvirt.hypervisor import wire
from xenvirt.hypervisor.caller import Identities
from xenvirt.hypervisor.client import Client
from xenvirt.hypervisor.domains import Domain
from xenvirt.hypervisor.memory import NR_PAGES
from xenvirt.hypervisor.operations import Operations
from xenvirt.hypervisor.server import MAX_CONNECTIONS_PER_UID, Server
from xenvirt.hypervisor.sync_client import SyncClient
from xenvirt.hypervisor.system import System

D1, D2, D3 = DomId(1), DomId(2), DomId(3)


class World:
    """A server with domains 1 to 3 on a socket; domain 2 serves a vif of domain 1."""

    def __init__(self, path: Path, *, base: int, privileged: bool = True) -> None:
        self.path = path
        self.system = System(now=0.0)
        for name in ("one", "two", "three"):
            self.system.create_domain(name, now=0.0)
        self.xenbus: list[tuple[socket.socket, DomId, bool]] = []
        self.released: list[tuple[DomId, DomId]] = []
        self.may_create = asyncio.Event()
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listening.bind(str(path))
        listening.listen()
        uids = frozenset({os.geteuid()}) if privileged else frozenset[int]()
        self.server = Server(
            listening,
            self.system,
            Operations(self.system, self, self, self),
            Identities(base, uids),
        )
        self.server.start()

    def close(self) -> None:
        self.server.close()
        self.system.close()
        for sock, _, _ in self.xenbus:
            sock.close()

    async def has_vif(self, backend_domid: DomId, frontend_domid: DomId) -> bool:
        return (backend_domid, frontend_domid) == (D2, D1)

    def attach(self, sock: socket.socket, domid: DomId, privileged: bool) -> None:
        self.xenbus.append((sock, domid, privileged))

    async def domain_create(
        self, name: str, domain_uuid: str | None, bare: bool
    ) -> Domain:
        await self.may_create.wait()
        return self.system.create_domain(
            name, now=1.0, domain_uuid=domain_uuid, bare=bare
        )

    async def domain_destroy(self, domid: DomId) -> None:
        self.system.destroy_domain(domid)

    def ends(self, domid: DomId) -> list[dict[str, object]]:
        return [{"role": "frontend", "pid": 1, "restarts": 0}] if domid else []

    def shutdown(self) -> int:
        raise RuntimeError("a bug")

    def client(self, domid: DomId | None = None) -> Client:
        return Client(self.path, as_domid=domid)


Body = Callable[[World], Awaitable[None]]
Run = Callable[..., None]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Run a coroutine against a world and check that no descriptor is left."""
    uvloop.run(asyncio.sleep(0))  # The first loop opens what it keeps for good.
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))

    def run_body(body: Body, **kwargs: bool) -> None:
        async def main() -> None:
            world = World(tmp_path / "s", base=1_000_000, **kwargs)
            try:
                await body(world)
            finally:
                world.close()

        uvloop.run(main())

    yield run_body
    assert len(os.listdir("/proc/self/fd")) == before


async def raw(world: World) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, str(world.path))
    return sock


async def ask(sock: socket.socket, data: bytes) -> dict[str, object]:
    sock.send(data)
    readable = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sock.fileno(), readable.set)
    await asyncio.wait_for(readable.wait(), 5)
    loop.remove_reader(sock.fileno())
    packet = wire.receive(sock, wire.MAX_REPLY)
    assert packet is not None
    assert not packet.fds
    return packet.body


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until the condition holds, five seconds at most."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - any condition, nobody signals it
            await asyncio.sleep(0)


def page(*, seals: int = fcntl.F_SEAL_SHRINK, length: int = 4096) -> int:
    fd = os.memfd_create("page", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, length)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def test_a_domain_learns_who_it_is(run: Run) -> None:
    async def body(world: World) -> None:
        client = world.client(D1)
        info = await client.start_info()
        assert (info.domid, info.name, info.store_gfn) == (1, "one", 64)
        assert info.memory is not None
        assert info.store is not None
        assert info.memory.nr_pages == NR_PAGES
        assert info.store.port == 1
        info.close()
        client.close()

    run(body)


def test_domain_0_has_neither_memory_nor_ring(run: Run) -> None:
    async def body(world: World) -> None:
        client = world.client()
        info = await client.start_info()
        assert (info.domid, info.memory, info.store) == (0, None, None)
        client.close()

    run(body)


@pytest.mark.parametrize(
    ("caller", "domid", "errno_name"),
    [
        (D1, 1, None),
        (D2, 1, None),
        (None, 1, None),
        (D1, 2, "EACCES"),
        (D3, 1, "EACCES"),
        (DOM0, 1, "EACCES"),
        (D1, 0, "EINVAL"),
        (D1, 9, "ESRCH"),
        (D1, 0x7FF0, "EINVAL"),
        (D1, -1, "EINVAL"),
    ],
)
def test_memory_goes_to_its_owner_and_to_the_backends_of_its_vifs(
    run: Run,
    caller: DomId | None,
    domid: int,
    errno_name: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("xenvirt.hypervisor.memory.Memory.release", lambda *_: 0)

    async def body(world: World) -> None:
        client = world.client(caller)
        if errno_name is None:
            (await client.memory(DomId(domid))).close()
        else:
            with pytest.raises(HypercallError) as caught:
                await client.memory(DomId(domid))
            assert caught.value.errno_name == errno_name
        client.close()

    run(body)


def test_in_use_bits_are_released_when_the_last_process_of_a_backend_is_gone(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[DomId] = []

    def release(_: object, backend_domid: DomId) -> int:
        released.append(backend_domid)
        return 1

    monkeypatch.setattr("xenvirt.hypervisor.memory.Memory.release", release)

    async def body(world: World) -> None:
        backend, other = world.client(D2), world.client(D2)
        for client in (backend, other):
            (await client.memory(D1)).close()
        backend.close()
        (await other.memory(D1)).close()
        assert released == []
        other.close()
        await until(lambda: bool(released))
        assert released == [D2]

    run(body)


def test_two_ends_meet_through_a_port(run: Run) -> None:
    async def body(world: World) -> None:
        front, back, third = (world.client(d) for d in (D1, D2, D3))
        ours = await front.alloc_unbound(D2)
        with pytest.raises(HypercallError, match="waits for domain 2, not for"):
            await third.bind_interdomain(D1, ours.port)
        theirs = await back.bind_interdomain(D1, ours.port)
        assert theirs.drain()
        ours.notify()
        assert select.select([theirs], [], [], 5)[0]
        await back.close_port(theirs.port)
        again = await back.bind_interdomain(D1, ours.port)
        again.notify()
        assert ours.drain()
        for thing in (ours, theirs, again):
            thing.close()
        for client in (front, back, third):
            client.close()

    run(body)


def test_ports_go_with_the_connection_but_the_stores_port_stays(run: Run) -> None:
    async def body(world: World) -> None:
        client = world.client(D1)
        (await client.alloc_unbound(DOM0)).close()
        with pytest.raises(HypercallError, match="is the store's") as caught:
            await client.close_port(Port(1))
        assert caught.value.errno_name == "EPERM"
        assert len(world.system.ports.status(D1)) == 2
        client.close()
        await until(lambda: len(world.system.ports.status(D1)) == 1)
        assert world.system.ports.status(D1)[0].port == 1

    run(body)


def test_calls_are_pipelined_and_answered_in_order(run: Run) -> None:
    async def body(world: World) -> None:
        client = world.client()
        slow = asyncio.create_task(client.call("domain_create", name="four"))
        quick = asyncio.create_task(client.call("start_info"))
        other = world.client()
        await other.start_info()
        assert not quick.done()
        world.may_create.set()
        assert (await slow)[0] == {"domid": 4, "store_gfn": 64, "store_port": 1}
        assert (await quick)[0]["domid"] == 0
        client.close()
        other.close()

    run(body)


def test_a_cancelled_call_leaks_nothing_and_does_not_shift_answers(run: Run) -> None:
    async def body(world: World) -> None:
        client = world.client(D1)
        task = asyncio.create_task(client.start_info())
        await asyncio.sleep(0)
        task.cancel()
        channel = await client.alloc_unbound(D2)
        assert channel.port == 2
        channel.close()
        client.close()

    run(body)


def test_a_slow_call_of_a_dead_client_is_finished(run: Run) -> None:
    async def body(world: World) -> None:
        sock = await raw(world)
        sock.send(b'{"op":"domain_create","name":"four"}')
        other = world.client()
        await other.start_info()
        sock.close()
        world.may_create.set()
        await world.server.drain()
        assert DomId(4) in world.system.domains
        other.close()

    run(body)


def test_a_client_killed_in_mid_call_takes_its_ports_with_it(run: Run) -> None:
    script = (
        "import sys, os, signal\n"
        "from pathlib import Path\n"
        "from xenvirt.hypervisor.sync_client import SyncClient\n"
        "client = SyncClient(Path(sys.argv[1]))\n"
        "client.call('alloc_unbound', remote_domid=2, **{'as': 1})\n"
        "print('ready', flush=True)\n"
        "client.call('domain_create', name='four')\n"
    )

    async def body(world: World) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, str(world.path), stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        assert len(world.system.ports.status(D1)) == 2
        process.send_signal(signal.SIGKILL)
        await process.wait()
        world.may_create.set()
        await until(lambda: len(world.system.ports.status(D1)) == 1)

    run(body)


@pytest.mark.parametrize(
    ("request_bytes", "errno_name", "says"),
    [
        (b"", None, ""),
        (b"{", "EINVAL", "not JSON"),
        (b"[]", "EINVAL", "an array"),
        (b"{}", "EINVAL", "no op"),
        (b'{"op":1}', "EINVAL", "no op"),
        (b'{"op":"evil"}', "ENOSYS", "no hypercall 'evil'"),
        (b'{"op":"memory"}', "EINVAL", "memory needs domid"),
        (b'{"op":"memory","domid":"1"}', "EINVAL", "domid is a string, not a whole"),
        (b'{"op":"memory","domid":true}', "EINVAL", "domid is a truth value"),
        (b'{"op":"memory","domid":1.0}', "EINVAL", "domid is a number, not a whole"),
        (b'{"op":"memory","domid":1e99}', "EINVAL", "not a whole number"),
        (b'{"op":"memory","domid":null}', "EINVAL", "domid is null"),
        (b'{"op":"memory","domid":32752}', "EINVAL", "domid 32752 is not in 0..32751"),
        (b'{"op":"memory","domid":1,"x":1}', "EINVAL", "takes no argument 'x'"),
        (b'{"op":"close_port","port":0}', "EINVAL", "port 0 is not in 1..131071"),
        (
            b'{"op":"close_port","port":131072}',
            "EINVAL",
            "port 131072 is not in 1..131071",
        ),
        (b'{"op":"close_port","port":9}', "EINVAL", "port 9 of domain 0 is closed"),
        (b'{"op":"start_info","as":9}', "ESRCH", "no domain 9"),
        (b'{"op":"start_info","as":"x"}', "EINVAL", "as is a string"),
        (b'{"op":"domain_list","as":1}', "EPERM", "not domain 1"),
        (b'{"op":"domain_create","name":7}', "EINVAL", "name is a number"),
        (b'{"op":"domain_destroy","domid":0}', "EINVAL", "domain 0"),
        (b'{"op":"published","domid":9,"devid":0}', "ESRCH", "no domain 9"),
        (b'{"op":"publish","domid":1,"devid":0,"side":"front","queue":0}',
         "EINVAL", "takes 1 descriptors, not 0"),
        (b'{"op":"shutdown"}', "EIO", "inside the daemon"),
    ],
)  # fmt: skip
def test_a_bad_request_is_answered_in_words_and_the_connection_lives(
    run: Run, request_bytes: bytes, errno_name: str | None, says: str
) -> None:
    async def body(world: World) -> None:
        world.may_create.set()
        sock = await raw(world)
        if errno_name is None:
            sock.send(request_bytes)
            await until(lambda: select.select([sock], [], [], 0)[0] != [])
            assert sock.recv(1) == b""
        else:
            answer = await ask(sock, request_bytes)
            assert answer["error"] == errno_name
            assert says in str(answer["why"])
            assert "ok" in await ask(sock, b'{"op":"start_info"}')
        sock.close()

    run(body)


def test_an_uninvited_descriptor_is_closed(run: Run) -> None:
    async def body(world: World) -> None:
        client = world.client()
        fd = page()
        with pytest.raises(HypercallError, match="takes 0 descriptors, not 2"):
            await client.call("start_info", [fd] * 2)
        os.close(fd)
        client.close()

    run(body)


def test_a_client_that_does_not_read_is_dropped(run: Run) -> None:
    async def body(world: World) -> None:
        sock = await raw(world)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(10):
            while True:
                try:
                    await loop.sock_sendall(sock, b'{"op":"domain_list"}')
                except (BrokenPipeError, ConnectionResetError):
                    break
        sock.close()
        client = world.client()
        await client.start_info()
        client.close()

    run(body)


def test_uids_tell_the_domain(run: Run) -> None:
    identities = Identities(1_000_000, frozenset({0, 42}))
    assert identities.identify(42) == (0, True)
    assert identities.identify(1_000_000) == (0, False)
    assert identities.identify(1_000_000 + 0x7FEF) == (0x7FEF, False)
    for stranger in (1_000_000 - 1, 1_000_000 + 0x7FF0, 1000):
        with pytest.raises(HypercallError, match=f"uid {stranger} is no domain's"):
            identities.identify(stranger)


def test_a_stranger_is_refused_everything(run: Run) -> None:
    async def body(world: World) -> None:
        client = world.client()
        with pytest.raises(HypercallError, match="no domain's") as caught:
            await client.start_info()
        assert caught.value.errno_name == "EPERM"
        client.close()

    run(body, privileged=False)


def test_a_domain_acts_as_no_other_and_has_a_bound_of_connections(
    run: Run, tmp_path: Path
) -> None:
    async def main() -> None:
        # This process's uid is domain 1's.
        world = World(tmp_path / "t", base=os.geteuid() - 1, privileged=False)
        clients = [world.client() for _ in range(MAX_CONNECTIONS_PER_UID + 1)]
        info = await clients[0].start_info()
        assert info.domid == 1
        info.close()
        for op, args in (("start_info", {"as": 2}), ("ports", {"domid": 1})):
            with pytest.raises(HypercallError) as caught:
                await clients[0].call(op, **args)
            assert caught.value.errno_name == "EPERM"
        async with asyncio.timeout(5):
            await clients[-1].wait_closed()
        world.server.drop_domain(D1)
        async with asyncio.timeout(5):
            for client in clients:
                await client.wait_closed()
        world.close()

    uvloop.run(main())


def test_without_descriptors_a_client_waits_and_the_server_does_not_spin(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(world: World) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.setblocking(False)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            sock.connect(str(world.path))
            await until(lambda: bool(caplog.messages))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert "ok" in await ask(sock, b'{"op":"start_info"}')
        assert caplog.messages == [
            "cannot accept a hypercall client: Too many open files"
        ]
        sock.close()

    run(body)


def test_xenbus_sockets_speak_as_the_caller(run: Run) -> None:
    async def body(world: World) -> None:
        for caller, privileged in ((D1, False), (None, True)):
            client = world.client(caller)
            sock = await client.open_xenbus()
            server_end, domid, was_privileged = world.xenbus[-1]
            assert (domid, was_privileged) == (caller or 0, privileged)
            server_end.send(b"x")
            assert sock.recv(1) == b"x"
            sock.close()
            client.close()

    run(body)


def test_pages_are_shown_while_their_end_runs(run: Run) -> None:
    async def body(world: World) -> None:
        front, back = world.client(D1), world.client(D2)
        fd = page()
        os.pwrite(fd, b"front", 0)
        await front.publish(D1, DevId(0), "front", 0, fd)
        await front.publish(D1, DevId(0), "front", 0, fd)
        await back.publish(D1, DevId(0), "back", 1, fd)
        os.close(fd)
        with SyncClient(world.path) as tool:
            pages = await asyncio.to_thread(tool.published, D1, DevId(0))
            assert [(p.side, p.queue, p.pid) for p in pages] == [
                ("back", 1, os.getpid()),
                ("front", 0, os.getpid()),
            ]
            assert os.pread(pages[1].fd, 5, 0) == b"front"
            for shown in pages:
                os.close(shown.fd)
            back.close()
            await until(lambda: len(world.system.published.of_vif(D1, DevId(0))) == 1)
            # Only who showed them, and only of that side.
            await front.unpublish(D1, DevId(0), "back")
            await front.unpublish(D1, DevId(1), "front")
            assert len(world.system.published.of_vif(D1, DevId(0))) == 1
            await front.unpublish(D1, DevId(0), "front")
            assert world.system.published.of_vif(D1, DevId(0)) == []
        front.close()

    run(body)


@pytest.mark.parametrize(
    ("caller", "side", "seals", "length", "errno_name"),
    [
        (D1, "back", fcntl.F_SEAL_SHRINK, 4096, "EACCES"),
        (D2, "front", fcntl.F_SEAL_SHRINK, 4096, "EACCES"),
        (D3, "back", fcntl.F_SEAL_SHRINK, 4096, "EACCES"),
        (D1, "front", 0, 4096, "EINVAL"),
        (D1, "front", fcntl.F_SEAL_SHRINK, 0, "EINVAL"),
        (D1, "front", fcntl.F_SEAL_SHRINK, 2**20 + 1, "EINVAL"),
    ],
)
def test_a_page_that_is_not_the_callers_or_not_safe_is_refused(
    run: Run, caller: DomId, side: str, seals: int, length: int, errno_name: str
) -> None:
    async def body(world: World) -> None:
        client = world.client(caller)
        fd = page(seals=seals, length=length)
        args = {"domid": 1, "devid": 0, "side": side, "queue": 0}
        with pytest.raises(HypercallError) as caught:
            await client.call("publish", [fd], **args)
        assert caught.value.errno_name == errno_name
        os.close(fd)
        client.close()

    run(body)


def test_long_lists_come_whole(run: Run) -> None:
    async def body(world: World) -> None:
        for number in range(300):
            world.system.create_domain(f"d{number}", now=1.0)
        with SyncClient(world.path) as tool:
            domains = await asyncio.to_thread(tool.domain_list)
            assert [row["domid"] for row in domains] == list(range(304))
            assert domains[1]["ends"] == [{"role": "frontend", "pid": 1, "restarts": 0}]
            ports = await asyncio.to_thread(tool.ports, D1)
            assert ports == [
                {"port": 1, "state": "unbound", "remote_domid": 0, "remote_port": None}
            ]

    run(body)


def test_calls_that_wait_fail_when_the_server_goes(run: Run) -> None:
    async def body(world: World) -> None:
        client = world.client()
        waiting = asyncio.create_task(client.call("domain_create", name="four"))
        other = world.client()
        await other.start_info()
        world.server.close()
        with pytest.raises(HypercallError, match="closed the connection"):
            await waiting
        await client.wait_closed()
        with pytest.raises(HypercallError, match="closed the connection"):
            await client.start_info()
        other.close()

    run(body)


def test_nobody_behind_the_socket_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no daemon answers"):
        SyncClient(tmp_path / "none")


def test_the_commands_client_needs_no_event_loop() -> None:
    script = (
        "import sys, xenvirt.hypervisor.sync_client; sys.exit('asyncio' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
