"""From inside of one domain's process, at another domain's: refused, each time.

Two domains have a link each. An intruder runs with everything that the first one's
end has (`intruder.py`), first without the filter of system calls, so that it is seen
that users and rights alone keep it out; then with it.
"""

import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.integration.daemons import child_of
from tests.integration.intruder import DONE, Intruder, open_and_read, syscall
from tests.integration.links import Link, LinkMaker
from tests.integration.restarts import launcher_of
from xenvirt.abi.ids import DomId
from xenvirt.hypervisor.caller import uid_base
from xenvirt.hypervisor.sync_client import SyncClient
from xenvirt.native.privileges import CAPABILITIES
from xenvirt.native.seccomp import filtered_calls
from xenvirt.netdev.rtnetlink import number, text
from xenvirt.xenstore.sync_client import SyncClient as Store

pytestmark = pytest.mark.root

SIGSYS: Final = f"signal {int(signal.SIGSYS)}"
REFUSED: Final = {"EPERM", "EACCES"}
NOBODY: Final = {"EPERM", "EINVAL"}
"""In its user namespace there are no users but the domains': root is no number."""

PTRACE_SEIZE: Final = 0x4206
SYS_PTRACE, SYS_PROCESS_VM_READV, SYS_PROCESS_VM_WRITEV = 101, 310, 311
SYS_PIDFD_GETFD, SYS_SETNS = 438, 308


@dataclass(frozen=True, slots=True)
class World:
    """An intruder's domain, and its victim's: everything that has a name there."""

    links: LinkMaker
    own: Link
    victim: Link
    victim_uuid: str
    victim_ports: tuple[int, ...]
    pids: dict[str, int]

    @property
    def run_dir(self) -> Path:
        return self.links.run_dir

    def hypervisor(self) -> SyncClient:
        return SyncClient(self.run_dir / "hypervisor.sock", timeout_s=10)

    def store(self) -> Store:
        """The intruder's own way to the store."""
        with self.hypervisor() as hypervisor:
            _, (fd,) = hypervisor.call("open_xenbus")
        return Store.from_socket(socket.socket(fileno=fd))


@pytest.fixture(scope="module")
def world(module_links: LinkMaker) -> World:
    own, victim = module_links.up("intruder"), module_links.up("victim")
    ends = module_links.ends()
    launcher = launcher_of(module_links)
    with SyncClient(module_links.run_dir / "hypervisor.sock") as hypervisor:
        (uuid,) = [
            str(row["uuid"])
            for row in hypervisor.domain_list()
            if row["domid"] == victim.domid
        ]
        ports = [int(str(row["port"])) for row in hypervisor.ports(DomId(victim.domid))]
    return World(
        module_links,
        own,
        victim,
        uuid,
        tuple(ports),
        {
            "the other frontend": ends["frontend", victim.domid],
            "the backend": ends["backend", 0],
            "the daemon": child_of(launcher, "daemon"),
            "the launcher": launcher,
        },
    )


@pytest.fixture(params=[False, True], ids=["unfiltered", "filtered"])
def intruder(request: pytest.FixtureRequest, world: World) -> Intruder:
    if request.param and not filtered_calls()["killed"]:
        pytest.skip("a build with a sanitizer has no filter")
    return Intruder(world.links, world.own, request.param)


# Processes and their memory.


def seize(pid: int) -> None:
    syscall(SYS_PTRACE, PTRACE_SEIZE, pid, 0, 0)


def _iovec(place: int) -> bytes:
    return place.to_bytes(8, "little") + (8).to_bytes(8, "little")


_buffer = ctypes.create_string_buffer(8)


def read_memory(pid: int) -> None:
    local = _iovec(ctypes.addressof(_buffer))
    syscall(SYS_PROCESS_VM_READV, pid, local, 1, _iovec(0x10000), 1, 0)


def write_memory(pid: int) -> None:
    local = _iovec(ctypes.addressof(_buffer))
    syscall(SYS_PROCESS_VM_WRITEV, pid, local, 1, _iovec(0x10000), 1, 0)


def take_descriptor(pid: int) -> None:
    syscall(SYS_PIDFD_GETFD, os.pidfd_open(pid), 3, 0)


def spare_from_the_killer(pid: int) -> None:
    fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY)
    os.write(fd, b"1000")


ON_A_PROCESS: Final[dict[str, Callable[[int], object]]] = {
    "mem": lambda pid: open_and_read(f"/proc/{pid}/mem"),
    "maps": lambda pid: open_and_read(f"/proc/{pid}/maps"),
    "environ": lambda pid: open_and_read(f"/proc/{pid}/environ"),
    "fd": lambda pid: os.listdir(f"/proc/{pid}/fd"),
    "a descriptor": lambda pid: os.open(f"/proc/{pid}/fd/3", os.O_RDONLY),
    "map_files": lambda pid: os.listdir(f"/proc/{pid}/map_files"),
    "ns": lambda pid: os.open(f"/proc/{pid}/ns/net", os.O_RDONLY),
    "oom_score_adj": spare_from_the_killer,
    "ptrace": seize,
    "process_vm_readv": read_memory,
    "process_vm_writev": write_memory,
    "pidfd_getfd": take_descriptor,
    "kill": lambda pid: os.kill(pid, signal.SIGTERM),
    "sched_setaffinity": lambda pid: os.sched_setaffinity(pid, {0}),
}
KILLED: Final = {"ptrace", "process_vm_readv", "process_vm_writev"}
"""What the filter has the process die of; others get EPERM from it, or the kernel."""


@pytest.mark.parametrize("what", ON_A_PROCESS)
def test_no_other_process_is_within_reach(
    world: World, intruder: Intruder, what: str
) -> None:
    for whose, pid in world.pids.items():
        came_to = intruder.tries(partial(ON_A_PROCESS[what], pid))
        wanted = {SIGSYS} if intruder.filtered and what in KILLED else REFUSED
        assert came_to in wanted, whose


def read_what_was_inherited(domid: int) -> None:
    """Look for a domain's memory among the descriptors that are open."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        with suppress(FileNotFoundError):
            if f"memfd:xenvirt-{domid} " in os.readlink(f"/proc/self/fd/{fd}"):
                os.pread(fd, 1, 0)
                return
    raise FileNotFoundError(errno.ENOENT, "no such memory")


def test_nothing_of_another_domain_is_inherited(
    world: World, intruder: Intruder
) -> None:
    """Who forks it has every domain's memory open, as the launcher has."""
    attack = partial(read_what_was_inherited, world.victim.domid)
    with world.hypervisor() as hypervisor:
        _, fds = hypervisor.call("memory", domid=world.victim.domid)
    try:
        attack()
        assert intruder.tries(attack) == "ENOENT"
    finally:
        for fd in fds:
            os.close(fd)


def test_the_processes_are_there_as_they_were(world: World) -> None:
    assert (
        world.links.ends()["frontend", world.victim.domid]
        == (world.pids["the other frontend"])
    )


# Being somebody else.


def become_root() -> None:
    os.setuid(0)


def take_all_capabilities() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    wanted = 1 << CAPABILITIES["CAP_SYS_ADMIN"]
    data = (ctypes.c_uint32 * 6)(wanted, wanted, 0, 0, 0, 0)
    if libc.capset(header, data) < 0:
        raise OSError(ctypes.get_errno(), "capset")


def test_its_user_and_capabilities_stay(world: World, intruder: Intruder) -> None:
    uid = uid_base() + world.victim.domid
    assert intruder.tries(become_root) in NOBODY
    assert intruder.tries(lambda: os.setresuid(uid, uid, uid)) in REFUSED
    assert intruder.tries(lambda: os.setgroups([0])) in REFUSED
    assert intruder.tries(take_all_capabilities) in REFUSED


def pretend_to_be(world: World, uid: int) -> None:
    """Send credentials that are not its own."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(str(world.run_dir / "hypervisor.sock"))
        words = [os.getpid(), uid, uid]
        said = b"".join(word.to_bytes(4, "little") for word in words)
        sock.sendmsg([b"{}"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, said)])


def test_it_cannot_say_that_it_is_another(world: World, intruder: Intruder) -> None:
    for uid in (0, uid_base(), uid_base() + world.victim.domid):
        assert intruder.tries(partial(pretend_to_be, world, uid)) in NOBODY


# The other domain's network.


def enter(path: str) -> None:
    syscall(SYS_SETNS, os.open(path, os.O_RDONLY), 0)


class Netlink:
    """rtnetlink(7) as somebody uses it who has read the kernel's source."""

    RTM_NEWLINK, RTM_DELLINK, RTM_NEWNSID, RTM_GETNSID = 16, 17, 88, 90
    IFLA_IFNAME, IFLA_NET_NS_PID, IFLA_TARGET_NETNSID = 3, 19, 46
    NETNSA_NSID, NETNSA_PID = 1, 2
    HEADER = struct.Struct("=IHHII")
    IFINFO = struct.pack("=BxHiII", 0, 0, 0, 0, 0)

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)

    def ask(self, kind: int, body: bytes) -> bytes:
        """One request with its answer, or acknowledgement; OSError."""
        length = self.HEADER.size + len(body)
        # NLM_F_REQUEST, and NLM_F_ACK where there is no other answer.
        flags = 1 if kind == self.RTM_GETNSID else 5
        self._sock.send(self.HEADER.pack(length, kind, flags, 1, 0) + body)
        answer = self._sock.recv(1 << 16)
        (error,) = struct.unpack_from("=i", answer, self.HEADER.size)
        if self.HEADER.unpack_from(answer)[1] == 2 and error:
            raise OSError(-error, os.strerror(-error))
        return answer

    def delete_in_namespace_of(self, pid: int, name: str) -> None:
        """Delete an interface of the namespace that a process is in."""
        process = number(self.NETNSA_PID, pid)
        with suppress(FileExistsError):
            self.ask(
                self.RTM_NEWNSID, bytes(4) + number(self.NETNSA_NSID, pid) + process
            )
        answer = self.ask(self.RTM_GETNSID, bytes(4) + process)
        # struct rtgenmsg, then the attribute's own header.
        (nsid,) = struct.unpack_from("=I", answer, self.HEADER.size + 4 + 4)
        which = text(self.IFLA_IFNAME, name) + number(self.IFLA_TARGET_NETNSID, nsid)
        self.ask(self.RTM_DELLINK, self.IFINFO + which)

    def give_to_namespace_of(self, pid: int, name: str, new_name: str) -> None:
        """Make a further end of a cable in the namespace that a process is in."""
        which = struct.pack("=BxHiII", 0, 0, socket.if_nametoindex(name), 0, 0)
        where = text(self.IFLA_IFNAME, new_name) + number(self.IFLA_NET_NS_PID, pid)
        self.ask(self.RTM_NEWLINK, which + where)


def test_it_does_not_get_into_the_other_namespace(
    world: World, intruder: Intruder
) -> None:
    came_to = intruder.tries(lambda: enter(f"/run/netns/{world.victim.netns}"))
    assert came_to in ({SIGSYS} if intruder.filtered else REFUSED)


def test_its_capability_is_none_in_other_namespaces(
    world: World, intruder: Intruder
) -> None:
    there = {"the other frontend": world.victim.far, "the backend": world.victim.near}
    for whose, name in there.items():
        pid = world.pids[whose]

        def delete(pid: int, name: str) -> None:
            Netlink().delete_in_namespace_of(pid, name)

        def give(pid: int) -> None:
            Netlink().give_to_namespace_of(pid, world.own.far, "intruder0")

        assert intruder.tries(partial(delete, pid, name)) in REFUSED
        assert intruder.tries(partial(give, pid)) in REFUSED


# The run directory.


def connect(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(str(path))


def test_of_the_run_directory_it_has_the_hypercall_socket_alone(
    world: World, intruder: Intruder
) -> None:
    for name in ("xenstored/socket", "xenstored/socket_ro", "xenstored/trace"):
        assert intruder.tries(partial(connect, world.run_dir / name)) in REFUSED
    for name in ("log", "lock", "store/journal", "domains/Domain-0.json"):
        path = world.run_dir / name
        assert intruder.tries(partial(open_and_read, path)) in REFUSED, name
    assert intruder.tries((world.run_dir / "mine").touch) in REFUSED
    assert intruder.tries((world.run_dir / "hypervisor.sock").unlink) in REFUSED


# Hypercalls.


def hypercall(world: World, op: str, **arguments: object) -> None:
    with world.hypervisor() as hypervisor:
        hypervisor.call(op, **arguments)


def publish(world: World, side: str) -> None:
    fd = os.memfd_create("page", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 4096)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    with world.hypervisor() as hypervisor:
        hypervisor.call(
            "publish", [fd], domid=world.victim.domid, devid=0, side=side, queue=0
        )


def test_its_hypercalls_are_its_own_domains(world: World, intruder: Intruder) -> None:
    victim = world.victim.domid

    def come_to(op: str, **arguments: object) -> str:
        return intruder.tries(lambda: hypercall(world, op, **arguments))

    assert come_to("start_info") == DONE
    assert come_to("start_info", **{"as": victim}) == "EPERM"
    assert come_to("start_info", **{"as": 0}) == "EPERM"
    assert come_to("memory", domid=victim) == "EACCES"
    for op, arguments in (
        ("domain_create", {"name": "another"}),
        ("domain_destroy", {"domid": victim}),
        ("domain_list", {}),
        ("ports", {"domid": victim}),
        ("published", {"domid": victim, "devid": 0}),
        ("shutdown", {}),
    ):
        assert come_to(op, **arguments) == "EPERM", op
    for side in ("front", "back"):
        assert intruder.tries(partial(publish, world, side)) == "EACCES"


def test_the_other_domains_event_channels_are_not_for_it(
    world: World, intruder: Intruder
) -> None:
    assert world.victim_ports

    def bind(remote_port: int) -> None:
        hypercall(
            world,
            "bind_interdomain",
            remote_domid=world.victim.domid,
            remote_port=remote_port,
        )

    def close(port: int) -> None:
        hypercall(world, "close_port", port=port)

    for port in world.victim_ports:
        assert intruder.tries(partial(bind, port)) in {"EINVAL", "EPERM"}
        # Numbers are each domain's own: this is a port of the intruder's, or none.
        intruder.tries(partial(close, port))
    with world.hypervisor() as hypervisor:
        found = hypervisor.ports(DomId(world.victim.domid))
    assert [row["port"] for row in found] == [*world.victim_ports]


# Nodes.


def test_the_other_domains_nodes_are_not_for_it(
    world: World, intruder: Intruder
) -> None:
    victim, own = world.victim.domid, world.own.domid

    def come_to(ask: Callable[[Store, str], object], path: str) -> str:
        def attack() -> None:
            with world.store() as store:
                ask(store, path)

        return intruder.tries(attack)

    assert come_to(Store.read, f"/local/domain/{own}/name") == DONE
    attacks: tuple[Callable[[Store, str], object], ...] = (
        lambda store, path: store.read(path),
        lambda store, path: store.ls(path),
        lambda store, path: store.get_perms(path),
        lambda store, path: store.write({path: "mine"}),
        lambda store, path: store.write({f"{path}/mine": "mine"}),
        lambda store, path: store.rm(path),
        lambda store, path: store.set_perms(path, [f"n{own}"]),
    )
    for path in (
        f"/local/domain/{victim}",
        f"/local/domain/{victim}/data",
        f"/local/domain/{victim}/device/vif/{world.victim.devid}",
        f"/local/domain/0/backend/vif/{victim}/{world.victim.devid}",
        f"/vm/{world.victim_uuid}",
        f"/libxl/{victim}",
        "/tool",
    ):
        for attack in attacks:
            assert come_to(attack, path) in REFUSED, path


def test_it_cannot_invent_a_vif_with_the_other_domain(
    world: World, intruder: Intruder
) -> None:
    victim, own = world.victim.domid, world.own.domid
    invented = f"/local/domain/{own}/backend/vif/{victim}/9"

    def invent() -> None:
        with world.store() as store:
            store.write({f"/libxl/{victim}/device/vif/9/backend": invented})

    def invent_as_backend() -> None:
        with world.store() as store:
            front = f"/local/domain/{victim}/device/vif/9"
            store.write({f"{invented}/frontend": front})

    def introduce() -> None:
        with world.store() as store:
            store.introduce(victim, 64, 1)

    assert intruder.tries(invent) in REFUSED
    assert intruder.tries(invent_as_backend) in REFUSED
    assert intruder.tries(introduce) in REFUSED
    assert intruder.tries(lambda: hypercall(world, "memory", domid=victim)) == "EACCES"
