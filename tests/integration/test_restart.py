"""A daemon that is killed is started again by itself, and nobody misses anything."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.integration.daemons import (
    PREFIX,
    PROGRAM,
    RunningDaemon,
    eventually,
    gone,
    nothing_left,
    status_of,
)
from tests.integration.links import Link, LinkMaker, tag
from tests.integration.restarts import (
    CONNECTED,
    Ping,
    daemon_of,
    kill_daemon,
    launcher_of,
    leftovers,
    snapshot,
    states,
    store_of,
)
from tests.integration.transfer import Receiver, transfer
from xenvirt.abi.ids import DomId
from xenvirt.errors import HypercallError
from xenvirt.hypervisor.sync_client import SyncClient as Hypercalls
from xenvirt.netdev import namespaces
from xenvirt.toolstack.rundir import RunDir
from xenvirt.xenstore.sync_client import SyncTransaction

pytestmark = pytest.mark.root

NEAR, FAR = "10.214.3.1", "10.214.3.2"


@pytest.fixture
def link(links: LinkMaker) -> Link:
    return links.up("restart", "--ip", f"{FAR}/24", "--peer-ip", f"{NEAR}/24")


def changes(links: LinkMaker) -> int:
    """How often an end has changed its state."""
    return links.log().count(" -> ")


def test_frames_flow_and_links_stay_as_they_are(links: LinkMaker, link: Link) -> None:
    ends, before = links.ends(), changes(links)
    pings = Ping(FAR, seconds=3)
    kills = 0
    while pings.runs:
        kill_daemon(links)
        kills += 1
    assert pings.lost() == 0
    assert links.ends() == ends
    assert states(links, link) == (CONNECTED, CONNECTED)
    assert changes(links) == before
    says = "the daemon died with signal 9, and runs again with 1 domain, "
    assert links.log().count(says) == kills
    assert links.log().count("of 2 ends 2 ran on") == kills


def test_all_commands_work_afterwards(links: LinkMaker, link: Link) -> None:
    kill_daemon(links)
    assert links.counters(link)["back"]["tx_packets"] >= 0
    assert "Connected  (pid" in links.run("show", link.name).stdout
    # The frontend hears of it by its ring, the backend by its socket.
    links.run("network-attach", link.name)
    assert len(links.json("network-list", link.name)["vifs"]) == 2
    kill_daemon(links)
    links.run("network-detach", link.name, "1")
    second = links.up("second")
    assert second.domid == link.domid + 1
    kill_daemon(links)
    links.down(second)
    links.down(link)
    assert [d["name"] for d in links.json("list")["domains"]] == ["Domain-0"]
    assert leftovers(links, tag()) == []


def test_a_tcp_connection_does_not_notice(links: LinkMaker, link: Link) -> None:
    receiver = Receiver(link.netns, FAR)
    sent: list[str] = []
    sender = threading.Thread(
        target=lambda: sent.append(transfer(None, receiver, FAR, 256 << 20))
    )
    sender.start()
    while sender.is_alive():
        kill_daemon(links)
    assert [receiver.digest] == sent
    assert states(links, link) == (CONNECTED, CONNECTED)


def test_every_node_permission_and_generation_is_there(
    links: LinkMaker, link: Link
) -> None:
    gone_link = links.up("gone")
    links.down(gone_link)
    with store_of(links) as store:
        store.write({f"/test/{n}": bytes([n, 0, 255 - n]) for n in range(64)})
        store.write({"/test/big": bytes(4000), "/test/a/b/c/d": "deep"})
        store.set_perms("/test/big", ["n0", f"r{link.domid}"])
        store.set_perms("/test/a", [f"b{link.domid}", "n0"])
        for n in range(0, 64, 3):
            store.rm(f"/test/{n}")
        store.transact(lambda nodes: nodes.write({"/test/7": "in one", "/new": "x"}))
        before = snapshot(store)
        assert len(before) > 140
        for _ in range(3):
            kill_daemon(links)
            assert snapshot(store) == before
        # The next one is a new one.
        store.write({"/test/7": "later"})
        generations = {int(node.generation) for node in before.values()}
        assert int(snapshot(store, "/test/7")["/test/7"].generation) > max(generations)


class Writer(threading.Thread):
    """Writes and remembers what was acknowledged, until it is told to stop."""

    def __init__(self, links: LinkMaker) -> None:
        super().__init__()
        self._links = links
        self.stop = threading.Event()
        self.written: dict[str, str] = {}
        self.removed: set[str] = set()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with store_of(self._links) as store:
                number = 0
                while not self.stop.is_set():
                    number += 1
                    path, text = f"/load/{number % 500}/{number}", str(number)
                    if number % 3:
                        store.write({path: text})
                        self.written[path] = text
                    elif self.written and number % 2:
                        path = next(iter(self.written))
                        # Neither there nor not there, until it is acknowledged.
                        del self.written[path]
                        store.rm(path)
                        self.removed.add(path)
                    else:
                        self._both(store.transact, path, text)
        except BaseException as error:
            self.error = error

    def _both(self, transact: object, path: str, text: str) -> None:
        def work(nodes: SyncTransaction) -> None:
            nodes.write({f"{path}-one": text})
            nodes.write({f"{path}-two": text})

        assert callable(transact)
        transact(work, idempotent=True)
        self.written |= {f"{path}-one": text, f"{path}-two": text}


def test_twenty_kills_lose_nothing_that_was_acknowledged(
    links: LinkMaker, link: Link
) -> None:
    ends = links.ends()
    writer = Writer(links)
    writer.start()
    chance = random.Random(1)
    pings = Ping(FAR, seconds=6)
    pid = None
    for _ in range(20):
        pid = daemon_of(links, after=pid)
        os.kill(pid, signal.SIGKILL)
        # A moment, which may be in the middle of its beginning.
        time.sleep(chance.uniform(0, 0.15))
    with store_of(links) as store:
        enough = len(writer.written) + 200
        eventually(lambda: writer.error or len(writer.written) > enough, "no writes")
        writer.stop.set()
        writer.join(30)
        assert writer.error is None
        wrong = [p for p, text in writer.written.items() if store.read(p) != text]
        assert wrong == []
        assert [path for path in writer.removed if store.exists(path)] == []
    assert pings.lost() == 0
    assert links.ends() == ends
    assert states(links, link) == (CONNECTED, CONNECTED)
    links.run("network-attach", link.name)


def test_a_daemon_killed_while_it_recovers_is_recovered(
    links: LinkMaker, link: Link
) -> None:
    ends = links.ends()
    pid = None
    for _ in range(5):
        # As soon as there is a process, long before it serves.
        pid = daemon_of(links, after=pid)
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
    links.run("network-attach", link.name)
    assert links.ends() == ends
    assert states(links, link) == (CONNECTED, CONNECTED)


@pytest.mark.parametrize("seed", range(8))
def test_a_kill_during_up_ends_in_a_link_or_in_nothing(
    module_links: LinkMaker, seed: int
) -> None:
    links = module_links
    links.run("daemon")
    name = links.name(f"up{seed}")
    process = subprocess.Popen(
        links.command("up", name), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    # Spread over the time that it takes: start of the command, domain, vif.
    time.sleep(0.05 + 0.06 * seed)
    os.kill(daemon_of(links), signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    names = [d["name"] for d in links.json("list")["domains"]]
    if process.returncode == 0:
        assert name in names
        assert links.run("show", name).stdout.count("Connected  (pid") == 2
        links.run("down", name)
    else:
        assert said.strip()
    assert [d["name"] for d in links.json("list")["domains"]] == ["Domain-0"]
    assert [n for n in leftovers(links, tag()) if not n.startswith("xvif")] == []
    with store_of(links) as store:
        assert store.ls("/local/domain") == ["0"]
    assert {role for role, _ in links.ends()} == {"backend"}


@pytest.mark.parametrize("role", ["backend", "frontend"])
def test_an_end_that_dies_with_the_daemon_is_started_again(
    links: LinkMaker, link: Link, role: str
) -> None:
    end = links.ends()[role, 0 if role == "backend" else link.domid]
    os.kill(daemon_of(links), signal.SIGKILL)
    os.kill(end, signal.SIGKILL)
    assert gone(end)

    def answers() -> bool:
        ping = ["ping", "-c", "1", "-W", "0.2", FAR]
        return subprocess.run(ping, capture_output=True).returncode == 0

    eventually(
        lambda: links.ends().get((role, 0 if role == "backend" else link.domid)),
        "not started again",
    )
    eventually(answers, "no answer")
    eventually(lambda: states(links, link) == (CONNECTED, CONNECTED), "not connected")


def test_a_command_that_watches_goes_on(links: LinkMaker, link: Link) -> None:
    watching = subprocess.Popen(
        links.command("xenstore", "watch", "-n", "3", "/watched"),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert watching.stdout is not None
        assert watching.stdout.readline() == "/watched\n"
        kill_daemon(links)
        # Registered anew, it says so: something may have been missed.
        assert watching.stdout.readline() == "/watched\n"
        links.run("xenstore", "write", "/watched/x", "1")
        assert watching.stdout.readline() == "/watched/x\n"
        assert watching.wait(10) == 0
    finally:
        watching.kill()
        watching.communicate()


def test_sigterm_to_the_launcher_takes_everything_down(
    links: LinkMaker, link: Link
) -> None:
    kill_daemon(links)
    launcher = launcher_of(links)
    pids = [launcher, daemon_of(links), *links.ends().values()]
    os.kill(launcher, signal.SIGTERM)
    assert all(gone(pid) for pid in pids)
    assert leftovers(links, tag()) == []
    assert not (links.run_dir / "hypervisor.sock").exists()
    assert list((links.run_dir / "store").iterdir()) == []
    with contextlib.suppress(FileNotFoundError):
        assert list((links.run_dir / "domains").iterdir()) == []


# With dummy ends.


@pytest.fixture
def run_dir() -> Iterator[RunDir]:
    path = Path(tempfile.mkdtemp(prefix="xenvirt-"))
    path.chmod(0o755)
    yield RunDir(path / "run")
    for name in namespaces.list_names():
        if name.startswith(PREFIX):
            namespaces.delete(name)
    shutil.rmtree(path)


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def has_called(client: Hypercalls, domid: int) -> bool:
    """Whether a domain's frontend has its port."""
    return len(client.ports(DomId(domid))) == 2


class Killer(threading.Thread):
    """Kills a daemon again and again, at moments of its own."""

    def __init__(self, daemon: RunningDaemon, seed: int) -> None:
        super().__init__()
        self._daemon = daemon
        self._chance = random.Random(seed)
        self.stop = threading.Event()
        self.kills = 0

    def run(self) -> None:
        while not self.stop.wait(self._chance.uniform(0.02, 0.2)):
            pid = self._daemon.pid
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self.kills += 1


@pytest.mark.parametrize("seed", range(3))
def test_domains_are_made_and_destroyed_as_if_nobody_killed_anything(
    run_dir: RunDir, seed: int
) -> None:
    daemon = RunningDaemon(run_dir)
    killer = Killer(daemon, seed)
    chance = random.Random(seed)
    names: dict[int, str] = {}
    killer.start()
    try:
        with daemon.client() as client:
            number = 0
            while killer.kills < 15:
                number += 1
                if names and chance.random() < 0.4:
                    domid = chance.choice([*names])
                    client.domain_destroy(DomId(domid))
                    del names[domid]
                else:
                    name = f"{PREFIX}n{number}"
                    names[int(str(client.domain_create(name)["domid"]))] = name
            killer.stop.set()
            killer.join()
            domains = client.domain_list()
            assert {d["domid"]: d["name"] for d in domains} == names | {0: "Domain-0"}
            for domid in names:
                eventually(partial(has_called, client, domid), daemon.logged())
        # Nothing else is there: the daemon, the backend, a frontend for each.
        eventually(
            lambda: len(children(daemon.process.pid)) == 2 + len(names), "a stray"
        )
        found = {n for n in namespaces.list_names() if n.startswith(PREFIX)}
        assert found == set(names.values())
    finally:
        killer.stop.set()
        killer.join()
        daemon.end()
    assert nothing_left(run_dir)


def is_stopped(pid: int) -> bool:
    """Whether a process has got its SIGSTOP."""
    return status_of(pid)["State"].startswith("T")


def has_pending_sigterm(pid: int) -> bool:
    """Whether a stopped process was told to end."""
    return bool(int(status_of(pid)["ShdPnd"], 16) >> (signal.SIGTERM - 1) & 1)


def test_a_destruction_that_had_begun_is_completed(run_dir: RunDir) -> None:
    daemon = RunningDaemon(run_dir)
    with daemon.client() as client:
        for name in ("goes", "stays"):
            client.domain_create(f"{PREFIX}{name}")
        eventually(partial(has_called, client, 1), daemon.logged())
        pid = daemon.pid_of(1)
        os.kill(pid, signal.SIGSTOP)
        eventually(partial(is_stopped, pid), "it runs on")
        # Nobody waits for it, or asks again.
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.connect(str(run_dir.hypervisor_socket))
            sock.send(b'{"op": "domain_destroy", "domid": 1}')
            eventually(partial(has_pending_sigterm, pid), "it is not told to end")
        daemon.kill()
        assert gone(pid)
        eventually(
            lambda: [row["domid"] for row in client.domain_list()] == [0, 2],
            daemon.logged(),
        )
        assert namespaces.exists(f"{PREFIX}stays")
        assert not namespaces.exists(f"{PREFIX}goes")
    daemon.end()
    assert nothing_left(run_dir)


POISONED = PROGRAM.replace(
    "sys.exit(daemon",
    """
import os
from xenvirt.toolstack import inheritance
receive = inheritance.receive
def fatal(sock):
    if (Path(sys.argv[1]) / "poison").exists():
        os.abort()
    return receive(sock)
inheritance.receive = fatal
sys.exit(daemon""",
)


def test_a_daemon_that_cannot_begin_is_given_up(run_dir: RunDir) -> None:
    daemon = RunningDaemon(run_dir, POISONED)
    with daemon.client() as client:
        client.domain_create(f"{PREFIX}web")
        pids = [daemon.pid_of(0), daemon.pid_of(1)]
        (run_dir.path / "poison").touch()
        pid = daemon.pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(HypercallError, match="the daemon is gone"):
            client.domain_list()
    assert daemon.wait() == 1
    assert all(gone(pid) for pid in pids)
    assert "died with signal 6, for the 10th time in a row" in daemon.logged()
    assert run_dir.journal.with_suffix(".bad").exists()
    daemon.end()
    assert nothing_left(run_dir)
