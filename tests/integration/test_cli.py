"""The command as its users type it, against a daemon, and what it leaves: nothing.

host | domain's namespace
xvif<domid>i<devid> ==rings== xennet<devid>
"""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.integration.links import LinkMaker
from xenvirt.netdev import links as netlinks
from xenvirt.netdev import namespaces

pytestmark = pytest.mark.root

TIMEOUT_S = 20
ROOTS = [
    f'{path} = ""'
    for path in (
        "/local",
        "/local/domain",
        "/local/domain/0",
        "/vm",
        "/libxl",
        "/local/domain/0/backend",
    )
]
"""Made with the first vif, and of no single one."""


@pytest.fixture
def cli(module_links: LinkMaker) -> Iterator[LinkMaker]:
    """The command; whatever a test leaves fails it."""
    module_links.run("daemon")
    before = left(module_links)
    yield module_links
    after = left(module_links)
    module_links.run("down", "--all")
    assert after == before


@pytest.fixture
def domain(cli: LinkMaker, request: pytest.FixtureRequest) -> Iterator[str]:
    """A domain without a vif."""
    name = cli.name(f"d{abs(hash(request.node.name)) % 10**8}")
    cli.run("create", name)
    yield name
    cli.run("down", name)


def left(cli: LinkMaker) -> tuple[list[str], list[str], list[str]]:
    """What there is: domains, interfaces, nodes of the store."""
    domains = [d["name"] for d in cli.json("list")["domains"]]
    return domains, netlinks.owned(str(cli.run_dir)), store(cli)


def store(cli: LinkMaker) -> list[str]:
    lines = cli.run("xenstore", "ls", "-f").stdout.splitlines()
    return [line for line in lines if line not in ROOTS]


def fails(cli: LinkMaker, status: int, *arguments: str) -> str:
    """Run a command that must fail; return what it says."""
    done = cli.run(*arguments, status=status)
    assert done.stdout == ""
    assert done.stderr.startswith("xenvirt: ")
    return done.stderr


def frontend_pid(cli: LinkMaker, name: str) -> int:
    (shown,) = cli.json("list", name)["domains"]
    (pid,) = [end["pid"] for end in shown["ends"] if end["role"] == "frontend"]
    assert isinstance(pid, int)
    return pid


@pytest.fixture
def bridge() -> Iterator[Callable[..., str]]:
    """Makes bridges in the host's namespace."""
    made: list[str] = []

    def make(mtu: int = 1500) -> str:
        name = f"xb{os.getpid()}-{len(made)}"
        subprocess.run(
            ["ip", "link", "add", name, "mtu", str(mtu), "type", "bridge"], check=True
        )
        made.append(name)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        return name

    yield make
    for name in made:
        subprocess.run(["ip", "link", "delete", name], check=True)


# --- up and down ---


def test_up_makes_a_link_that_can_be_pinged(cli: LinkMaker) -> None:
    name = cli.name("web")
    done = cli.run("up", name)
    match = re.search(
        r"^(\S+): xennet0 (10\.\d+\.\d+\.2)/24 .* <-> (xvif\d+i0) 10\.\d+\.\d+\.1/24 "
        r"\(host\)  Connected in \d+ ms$",
        done.stdout,
        re.MULTILINE,
    )
    assert match is not None, done.stdout
    assert match[1] == name
    assert f"xenvirt down {name}" in done.stdout
    assert netlinks.exists(match[3])
    subprocess.run(
        ["ping", "-n", "-c", "1", "-W", "5", match[2]], check=True, capture_output=True
    )
    assert cli.run("down", name).stdout == f"{name}: removed\n"
    assert not netlinks.exists(match[3])
    assert name not in namespaces.list_names()


def test_down_of_a_link_that_is_gone_says_nothing(cli: LinkMaker) -> None:
    done = cli.run("down", cli.name("never"))
    assert (done.stdout, done.stderr) == ("", "")


def test_verbose_shows_the_handshake_of_this_link_alone(cli: LinkMaker) -> None:
    name = cli.name("talk")
    done = cli.run("-v", "up", name)
    (domid,) = re.findall(r" domain (\d+) \(\S+\) created", done.stderr)
    for says in (
        r"xenbus0: using event channel \d+",
        r"xennet0: using event channel \d+",
        r"xennet0: using RX copy mode",
        r"xennet0: Initialising -> Connected",
        rf"xvif{domid}i0: Ethernet address fe:ff:ff:ff:ff:ff",
        rf"xvif{domid}i0: InitWait -> Connected",
    ):
        assert re.search(says, done.stderr), says
    cli.run("down", name)


def test_a_name_that_is_taken_is_refused_with_who_has_it(cli: LinkMaker) -> None:
    name = cli.name("twice")
    domid = cli.json("up", name)["link"]["domain"]["domid"]
    before = left(cli)
    says = fails(cli, 1, "up", name)
    assert f"the name {name} is taken" in says
    assert f"domain {domid} has it" in says
    assert f"xenvirt down {name}" in says
    assert left(cli) == before
    cli.run("down", name)


def test_a_namespace_of_somebody_elses_is_left_alone(cli: LinkMaker) -> None:
    name = cli.name("theirs")
    namespaces.create(name)
    try:
        says = fails(cli, 1, "up", name)
        assert f"ip netns delete {name}" in says
        assert namespaces.exists(name)
    finally:
        namespaces.delete(name)


def test_addresses_may_be_chosen_of_both_families(cli: LinkMaker) -> None:
    name = cli.name("chosen")
    cli.run(
        "up", name,
        "--ip", "fd00:7e57::2/64", "--ip", "198.18.7.2/30",
        "--peer-ip", "fd00:7e57::1/64", "--peer-ip", "198.18.7.1/30",
    )  # fmt: skip
    shown = cli.run("exec", name, "--", "ip", "-br", "addr", "show", "xennet0").stdout
    assert "198.18.7.2/30" in shown
    assert "fd00:7e57::2/64" in shown
    for address in ("fd00:7e57::2", "198.18.7.2"):
        subprocess.run(
            ["ping", "-n", "-c", "1", "-W", "5", address],
            check=True,
            capture_output=True,
        )
    cli.run("down", name)


def test_one_address_is_enough(cli: LinkMaker) -> None:
    name = cli.name("half")
    made = cli.json("up", name, "--ip", "198.18.8.9/24")["link"]
    assert made["front_addresses"] == ["198.18.8.9/24"]
    assert made["back_addresses"] == ["198.18.8.1/24"]
    cli.run("down", name)


def test_several_at_once_get_different_networks(cli: LinkMaker) -> None:
    names = [cli.name(f"many{number}") for number in range(4)]
    made: dict[str, dict[str, object]] = {}

    def up(name: str) -> None:
        made[name] = cli.json("up", name)["link"]

    threads = [threading.Thread(target=up, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert len({str(link["front_addresses"]) for link in made.values()}) == len(names)
    cli.run("down", *names)


def test_an_interrupted_up_leaves_nothing(cli: LinkMaker) -> None:
    """A script by path holds the command up, and then it gets ^C."""
    script = cli.run_dir.parent / "holds-up"
    running = cli.run_dir.parent / "running"
    os.mkfifo(running)
    script.write_text(f"#!/bin/sh\n[ $1 = offline ] || exec tail -f {running}\n")
    script.chmod(0o755)
    name = cli.name("interrupted")
    process = subprocess.Popen(cli.command("up", name, f"script={script}"))
    try:
        # It opens when the script opens the other end.
        with running.open("w"):
            assert name in namespaces.list_names()
            process.send_signal(signal.SIGINT)
            process.wait(TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode == 130
    assert name not in namespaces.list_names()


# --- domains ---


def test_domains_are_listed_in_xls_columns(cli: LinkMaker, domain: str) -> None:
    header, *rows = cli.run("list").stdout.splitlines()
    assert header == (
        "Name                                        ID   Mem VCPUs\tState\tTime(s)"
    )
    domid = cli.run("domid", domain).stdout.strip()
    assert rows[0].startswith("Domain-0" + " " * 32)
    row = next(row for row in rows if row.startswith(domain))
    assert re.fullmatch(
        rf"{domain:<40} {domid:>5} +128     1     [rb-]{{6}} +\d+\.\d", row
    )
    assert cli.run("domname", domid).stdout == f"{domain}\n"


def test_long_list_is_json_with_everything(cli: LinkMaker, domain: str) -> None:
    shown = json.loads(cli.run("list", "-l", domain).stdout)
    (only,) = shown["domains"]
    assert shown["schema"] == "xenvirt/1"
    assert only["name"] == domain
    assert only["vifs"] == []
    assert only["ends"][0]["role"] == "frontend"


@pytest.mark.parametrize(
    "arguments",
    [
        ("destroy", "nosuch"),
        ("list", "nosuch"),
        ("domid", "nosuch"),
        ("network-attach", "nosuch"),
        ("network-list", "nosuch"),
        ("network-detach", "nosuch", "0"),
        ("show", "nosuch"),
        ("exec", "nosuch", "true"),
    ],
)
def test_a_domain_that_is_not_there(cli: LinkMaker, arguments: tuple[str, ...]) -> None:
    assert "there is no domain nosuch" in fails(cli, 3, *arguments)


def test_the_host_cannot_be_destroyed(cli: LinkMaker) -> None:
    assert "is the host" in fails(cli, 2, "destroy", "Domain-0")
    assert "is the host" in fails(cli, 2, "network-attach", "0")


def test_exec_runs_in_the_domains_namespace(cli: LinkMaker, domain: str) -> None:
    script = "readlink /proc/self/ns/net; exit 7"
    done = cli.run("exec", domain, "--", "sh", "-c", script, status=7)
    assert done.stdout.strip() != os.readlink("/proc/self/ns/net")
    done = cli.run("exec", "0", "readlink", "/proc/self/ns/net")
    assert done.stdout.strip() == os.readlink("/proc/self/ns/net")
    assert "cannot run nosuch" in fails(cli, 127, "exec", domain, "nosuch")
    assert "cannot run /etc" in fails(cli, 126, "exec", domain, "/etc")


def test_a_shell_starts_in_the_namespace(cli: LinkMaker, domain: str) -> None:
    done = subprocess.run(
        cli.command("shell", domain),
        input="readlink /proc/self/ns/net; echo $debian_chroot\n",
        env=os.environ | {"SHELL": "/bin/sh"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    namespace, prompt = done.stdout.split()
    assert namespace != os.readlink("/proc/self/ns/net")
    assert prompt == domain


# --- vifs ---


def test_vifs_are_listed_in_xls_columns_and_detached(
    cli: LinkMaker, domain: str
) -> None:
    cli.run("network-attach", domain, "mac=00:16:3e:00:00:01")
    cli.run("network-attach", domain, "devid=7,mtu=9000,rate=10Mb/s")
    domid = cli.run("domid", domain).stdout.strip()
    header, first, second = cli.run("network-list", domain).stdout.splitlines()
    assert header.rstrip() == (
        "Idx BE Mac Addr.         handle state evt-ch   tx-/rx-ring-ref BE-path"
    )
    back = f"/local/domain/0/backend/vif/{domid}"
    assert re.fullmatch(
        rf"0   0  00:16:3e:00:00:01     0     4 +\d+ +\d+/\d+ +{back}/0 *", first
    )
    assert re.fullmatch(
        rf"7   0  00:16:3e:(..:?){{3}}     7     4 +\d+ +\d+/\d+ +{back}/7 *", second
    )
    assert "mtu 9000" in cli.run("exec", domain, "ip", "link").stdout
    assert cli.run("xenstore", "read", f"{back}/7/rate").stdout == "62500,50000\n"
    assert "has a vif 7 already" in fails(cli, 1, "network-attach", domain, "devid=7")
    cli.run("network-detach", domain, "00:16:3E:00:00:01")
    cli.run("network-detach", domain, "7")
    assert len(cli.run("network-list", domain).stdout.splitlines()) == 1
    assert "has no vif 7" in fails(cli, 3, "network-detach", domain, "7")
    assert "neither" in fails(cli, 2, "network-detach", domain, "x")


def test_show_has_both_ends(cli: LinkMaker, domain: str) -> None:
    cli.run("network-attach", domain, "x-front-without=gso", "x-back-without=csum")
    (vif,) = cli.json("show", f"{domain}/0")["vifs"]
    assert vif["front"]["state"] == vif["back"]["state"] == "Connected"
    assert vif["waiting"] == ""
    assert vif["front"]["process"]["pid"] == frontend_pid(cli, domain)
    assert not vif["front"]["takes"]["gso_tcpv4"]
    assert not vif["back"]["takes"]["csum_v6"]
    assert vif["event_channels"][0]["back_port"] is not None
    assert vif["back"]["queues"][0]["counters"]["tx_packets"] >= 0
    assert vif["front"]["queues"][0]["broken"] is None
    text = cli.run("show", domain).stdout
    for says in ("xennet0", "Connected", "event-channel", "RX may have", "mtu"):
        assert says in text
    assert "has no vif 3" in fails(cli, 3, "show", f"{domain}/3")


def test_a_backend_may_be_another_domain(cli: LinkMaker, domain: str) -> None:
    other = cli.name("driver")
    cli.run("create", other)
    cli.run("network-attach", domain, f"backend={other}")
    (vif,) = cli.json("network-list", domain)["vifs"]
    assert vif["backend_id"] == int(cli.run("domid", other).stdout)
    assert vif["ifname"] in cli.run("exec", other, "ip", "link").stdout
    cli.run("network-detach", domain, "0")
    cli.run("destroy", other)


def test_a_bare_domain_has_neither_processes_nor_a_namespace(cli: LinkMaker) -> None:
    name = cli.name("bare")
    assert cli.json("create", "--bare", name)["domain"]["ends"] == []
    (shown,) = cli.json("list", name)["domains"]
    assert shown["state"] == "---s--"
    assert "cause  it is bare" in fails(cli, 3, "exec", name, "true")
    cli.run("destroy", name)


def test_a_bridge_gets_the_backends_interface(
    cli: LinkMaker, domain: str, bridge: Callable[..., str]
) -> None:
    lan = bridge(1400)
    cli.run("network-attach", domain, f"bridge={lan}", f"vifname=p{os.getpid()}")
    port = netlinks.get(f"p{os.getpid()}")
    assert port is not None
    assert port.master == lan
    assert port.mtu == 1400
    assert "mtu 1400" in cli.run("exec", domain, "ip", "link").stdout
    shown = cli.run("show", domain).stdout.splitlines()
    assert ["bridge", lan] in [line.split() for line in shown]


def test_a_name_of_an_interface_that_is_taken(
    cli: LinkMaker, domain: str, bridge: Callable[..., str]
) -> None:
    lan = bridge()
    says = fails(cli, 1, "network-attach", domain, f"vifname={lan}")
    assert f"cannot open TAP {lan}" in says
    assert netlinks.exists(lan)
    assert len(cli.run("network-list", domain).stdout.splitlines()) == 1


@pytest.mark.skipif(
    not os.path.exists("/etc/xen/scripts/vif-bridge"),
    reason="xen-utils-common: no /etc/xen/scripts/vif-bridge",
)
def test_xens_own_script_plugs_into_a_bridge(
    cli: LinkMaker, domain: str, bridge: Callable[..., str]
) -> None:
    lan = bridge(1300)
    cli.run("network-attach", domain, f"bridge={lan}", "script=vif-bridge")
    (vif,) = cli.json("show", domain)["vifs"]
    port = netlinks.get(vif["back"]["ifname"])
    assert port is not None
    assert port.master == lan
    assert vif["hotplug_status"] == "connected"
    assert vif["mtu"] == 1300
    cli.run("network-detach", domain, "0")
    says = fails(cli, 1, "network-attach", domain, "bridge=nobr", "script=vif-bridge")
    assert "Could not find bridge device nobr" in says


# --- bad input: what it says, and that nothing is left ---


@pytest.mark.parametrize(
    ("keys", "status", "says"),
    [
        ("brigde=br0", 2, "did you mean bridge?"),
        ("mac=00:16:3e:00:00", 2, "six pairs of hex digits"),
        ("mac=01:16:3e:00:00:01", 2, "multicast"),
        ("rate=fast", 2, "write 10Mb/s"),
        ("mtu=67", 2, "68 to 65521"),
        ("mtu=65522", 2, "68 to 65521"),
        ("vifname=a-name-too-long-for-linux", 2, "1 to 15"),
        ("bridge=nobridge", 3, "could not find bridge device nobridge"),
        ("bridge=lo", 1, "lo is not a bridge"),
        ("backend=nosuch", 3, "there is no domain nosuch"),
        ("script=builtin:magic", 2, "builtin:bridge"),
        ("script=builtin:bridge", 2, "write bridge=NAME"),
        ("script=/nonexistent/script", 3, "No such file or directory"),
        ("script=/bin/false", 1, "exit status 1"),
    ],
)
def test_a_vif_that_cannot_be_is_refused_and_leaves_nothing(
    cli: LinkMaker, domain: str, keys: str, status: int, says: str
) -> None:
    before = left(cli)
    assert says in fails(cli, status, "network-attach", domain, keys)
    assert left(cli) == before
    name = cli.name("never")
    assert says in fails(cli, status, "up", name, keys)
    assert left(cli) == before
    assert name not in namespaces.list_names()


def test_the_largest_mtu_is_taken(cli: LinkMaker, domain: str) -> None:
    cli.run("network-attach", domain, "mtu=65521")
    assert "mtu 65521" in cli.run("exec", domain, "ip", "link").stdout


def test_a_frontend_that_never_answers_ends_in_a_timeout(
    cli: LinkMaker, domain: str
) -> None:
    pid = frontend_pid(cli, domain)
    os.kill(pid, signal.SIGSTOP)
    try:
        before = left(cli)
        # In which the backend has to come to InitWait.
        says = fails(cli, 5, "--timeout", "3", "network-attach", domain)
        assert "did not connect within 3 s" in says
        assert "frontend Initialising, backend InitWait" in says
        assert "hotplug-status connected" in says
        assert re.search(r"backend in domain 0 waits for the frontend", says)
        assert "--timeout" in says
        assert left(cli) == before
        assert re.search(rf"{domain} .* --p---", cli.run("list").stdout)
    finally:
        os.kill(pid, signal.SIGCONT)
    cli.run("network-attach", domain)


def test_an_error_is_json_if_asked_for(cli: LinkMaker, domain: str) -> None:
    done = cli.run("--json", "network-attach", domain, "bridge=nobridge", status=3)
    assert done.stderr == ""
    assert json.loads(done.stdout)["error"]["exit_code"] == 3


def test_other_links_go_on_while_one_fails(cli: LinkMaker, domain: str) -> None:
    cli.run("network-attach", domain)
    fails(cli, 3, "up", cli.name("bad"), "bridge=nobridge")
    (vif,) = cli.json("network-list", domain)["vifs"]
    assert vif["state"] == 4


# --- the store ---


TOOLS = pytest.mark.skipif(
    shutil.which("xenstore-ls") is None, reason="xenstore-utils: no xenstore-ls"
)
VALUES = bytes(range(1, 256))


def debians(cli: LinkMaker, tool: str, *arguments: str) -> tuple[int, str]:
    """Run one of Xen's own tools on the daemon's store."""
    path = cli.run("xenstore", "env").stdout.strip().partition("=")[2]
    done = subprocess.run(
        [f"xenstore-{tool}", *arguments],
        env=os.environ | {"XENSTORED_PATH": path},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    return done.returncode, done.stdout


def ours(cli: LinkMaker, tool: str, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        cli.command("xenstore", tool, *arguments),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    return done.returncode, done.stdout


@pytest.fixture
def values(cli: LinkMaker) -> Iterator[LinkMaker]:
    """Nodes below /test with values of every kind."""
    escaped = "".join(f"\\x{byte:02x}" for byte in VALUES)
    cli.run(
        "xenstore", "write",
        "/test/one", "1", "/test/empty", "", "/test/long", "x" * 200,
        "/test/deep/er", "a b", "/test/bytes", escaped,
    )  # fmt: skip
    cli.run("xenstore", "chmod", "/test/one", "n0", "r0", "b0")
    yield cli
    cli.run("xenstore", "rm", "-t", "/test")


@TOOLS
@pytest.mark.parametrize(
    "arguments",
    [
        ("ls", "/test"),
        ("ls", "-f", "/test"),
        ("ls", "-p", "/test"),
        ("ls", "-fp", "/test"),
        ("ls",),
        ("ls", "/nosuch"),
        ("read", "/test/one", "/test/bytes"),
        ("read", "-p", "/test/one", "/test/long"),
        ("read", "/test/one", "/nosuch"),
        ("list", "/test", "/test/deep"),
        ("list", "-p", "/test"),
        ("list", "/nosuch"),
        ("exists", "/test/one"),
        ("exists", "/test/one", "/nosuch"),
        ("rm", "/nosuch/below"),
        ("watch", "-n", "1", "/test"),
    ],
)
def test_the_store_is_shown_as_xens_tools_show_it(
    values: LinkMaker, arguments: tuple[str, ...]
) -> None:
    assert ours(values, *arguments) == debians(values, *arguments)


@TOOLS
def test_xens_tools_read_what_we_write_and_we_what_they_write(
    values: LinkMaker,
) -> None:
    debians(values, "write", "/test/theirs", "tab\\there \\x41")
    assert ours(values, "read", "/test/theirs") == (0, "tab\\there A\n")
    ours(values, "write", "/test/ours", "tab\\there \\x41")
    assert debians(values, "read", "/test/ours") == (0, "tab\\there A\n")
    ours(values, "write", "-R", "/test/raw", "\\x41")
    assert debians(values, "read", "-R", "/test/raw") == (0, "\\x41")
    ours(values, "rm", "-t", "/test/deep/er")
    assert debians(values, "exists", "/test/deep")[0] == 1
    ours(values, "chmod", "-r", "/test", "r0")
    assert "(r0)" in debians(values, "ls", "-p", "/test")[1]


def test_the_store_as_json(values: LinkMaker) -> None:
    nodes = values.json("xenstore", "ls", "/test")["nodes"]
    assert {"path": "/test/deep/er", "value": "a b", "perms": ["n0"]} in nodes
    read = values.json("xenstore", "read", "/test/one", "/test/empty")
    assert read["values"] == {"/test/one": "1", "/test/empty": ""}
    assert values.json("xenstore", "list", "/test/deep")["children"] == {
        "/test/deep": ["er"]
    }
    assert values.json("xenstore", "write", "/test/x", "y")["written"] == ["/test/x"]


def test_a_write_is_all_or_nothing(values: LinkMaker) -> None:
    says = fails(values, 1, "xenstore", "write", "/test/new", "1", "/test//bad", "2")
    assert "could not write path /test//bad" in says
    assert values.run("xenstore", "exists", "/test/new", status=1)


# --- daemon ---


def test_a_daemon_in_the_foreground_is_told_by_sigterm(links: LinkMaker) -> None:
    process = subprocess.Popen(
        links.command("daemon", "--foreground"), stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "ready in" in line)
        assert str(links.run_dir) in line
        links.run("list")
        process.terminate()
        process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "no daemon runs" in fails(links, 3, "list")


def test_a_second_daemon_finds_the_first(links: LinkMaker) -> None:
    links.run("daemon")
    pid = (links.run_dir / "lock").read_text()
    links.run("daemon")
    assert (links.run_dir / "lock").read_text() == pid
    assert links.json("daemon", "--stop")["stopped"] == int(pid)
    assert links.json("daemon", "--stop")["stopped"] is None


# --- demo ---


def test_demo_shows_the_main_job_and_leaves_nothing(links: LinkMaker) -> None:
    done = links.run("demo", "--time", "1", timeout_s=120)
    for says in (
        "using RX copy mode",
        "5 packets transmitted, 5 received",
        "Gbit/s",
        "what each ring carried",
        "removing it all",
    ):
        assert says in done.stdout, done.stdout
    # It had to start the daemon, so it ended it.
    assert "no daemon runs" in fails(links, 3, "list")


def test_demo_does_without_iperf3(links: LinkMaker) -> None:
    links.run("daemon")
    tools = links.run_dir.parent / "bin"
    tools.mkdir()
    ping = shutil.which("ping")
    assert ping is not None
    (tools / "ping").symlink_to(ping)
    done = subprocess.run(
        links.command("--json", "demo"),
        env=os.environ | {"PATH": str(tools)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "iperf3 is not installed" in done.stderr
    shown = json.loads(done.stdout)
    assert shown["throughput"]["tx"]["carried_bytes"] == 256 * 1024 * 1024
    rx = [q["counters"]["rx_bytes"] for q in shown["vif"]["back"]["queues"]]
    assert sum(rx) > 256 * 1024 * 1024
    # The daemon was there before, and stays.
    assert [d["name"] for d in links.json("list")["domains"]] == ["Domain-0"]
