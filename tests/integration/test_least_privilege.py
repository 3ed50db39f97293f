"""What /proc says of every process of running links: it has no more than it needs.

There are two links, and a driver domain for a second vif of the other one, so that what
is another domain's can be told from what is one's own. docs/security.md says the same
in words.
"""

import os
import re
import signal
import stat
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Final

import pytest

from tests.integration.daemons import child_of, eventually, status_of
from tests.integration.descriptors import (
    descriptors_of,
    interfaces_of,
    memory_of,
    objects_of,
    sockets_of,
    unix_peers,
)
from tests.integration.links import Link, LinkMaker
from tests.integration.restarts import daemon_of, kill_daemon, launcher_of
from xenvirt.hypervisor.caller import callers_gid, daemon_uid, uid_base
from xenvirt.native.privileges import CAPABILITIES
from xenvirt.native.seccomp import filtered_calls

pytestmark = pytest.mark.root

ENDS: Final = {
    "backend": ("backend", "Domain-0"),
    "frontend": ("frontend", "least"),
    "other frontend": ("frontend", "other"),
    "driver domain's backend": ("backend", "driver"),
    "driver domain's frontend": ("frontend", "driver"),
}
"""Each end's role, and its domain."""

ROLES: Final = ("launcher", "daemon", *ENDS)

VIFS: Final = {
    "frontend": {"backend"},
    "other frontend": {"backend", "driver domain's backend"},
}
"""Which backends serve a frontend's vifs."""

FILTERED: Final = ("daemon", *ENDS) if filtered_calls()["killed"] else ()
"""Those with a seccomp filter: none in a build with a sanitizer."""

KEPT: Final = {
    "launcher": {"KILL", "NET_ADMIN", "SETGID", "SETPCAP", "SETUID", "SYS_ADMIN"},
    "daemon": set[str](),
    **{what: {"NET_ADMIN"} for what in ENDS},
}

STATISTICS: Final = {"memfd:xvifNiN", "memfd:xennetN"}
COMMON: Final = {"/dev/null", "LOG", "socket", "eventfd", "memfd:xenvirt-N"}
END: Final = {*COMMON, "pipe", "eventpoll", "/dev/net/tun"}

DESCRIPTORS: Final = {
    "launcher": {*COMMON, *STATISTICS, "LOCK", "pipe"},
    "daemon": {
        *COMMON, *STATISTICS, "LOCK", "JOURNAL", "STORE", "pipe", "eventpoll", "pidfd",
    },
    "backend": {*END, "memfd:xvifNiN"},
    "frontend": {*END, "memfd:xennetN"},
}  # fmt: skip
"""What a process may have open, by role."""

SOCKETS: Final = {
    "launcher": Counter({"listening": 3, "daemon": 1, "itself": 2}),
    "backend": Counter({"daemon": 2, "itself": 2, "netlink 0": 1}),
    "frontend": Counter({"daemon": 1, "itself": 2, "netlink 0": 1}),
}
"""Where its sockets lead, by role: to the hypervisor, and a backend's to the store as
well; from itself to itself, which is how signals get into a loop. What the daemon has
are its clients', who come and go."""


@dataclass(frozen=True, slots=True)
class Running:
    """Links, their domains by name, and their processes by what they are."""

    links: LinkMaker
    link: Link
    domids: dict[str, int]
    pids: dict[str, int]

    def domid_of(self, what: str) -> int:
        """An end's domain."""
        return self.domids[ENDS[what][1]]


@pytest.fixture(scope="module")
def running(module_links: LinkMaker) -> Running:
    least, other = module_links.up("least"), module_links.up("other")
    driver = module_links.name("driver")
    module_links.run("create", driver)
    module_links.run("network-attach", other.name, f"backend={driver}")
    domids = {
        "Domain-0": 0,
        "least": least.domid,
        "other": other.domid,
        "driver": int(module_links.run("domid", driver).stdout),
    }
    return Running(module_links, least, domids, pids_of(module_links, domids))


def pids_of(links: LinkMaker, domids: dict[str, int]) -> dict[str, int]:
    launcher = launcher_of(links)
    ends = links.ends()
    return {
        "launcher": launcher,
        "daemon": child_of(launcher, "daemon"),
        **{what: ends[role, domids[name]] for what, (role, name) in ENDS.items()},
    }


def role_of(what: str) -> str:
    """What kind of process that is."""
    return ENDS[what][0] if what in ENDS else what


def threads_of(pid: int) -> list[dict[str, str]]:
    """What /proc says of each of a process's threads."""
    return [status_of(int(tid)) for tid in os.listdir(f"/proc/{pid}/task")]


def core_limit(pid: int) -> list[str]:
    """The largest core file of a process, soft and hard."""
    limits = Path(f"/proc/{pid}/limits").read_text()
    (line,) = re.findall(r"^Max core file size +(\S+) +(\S+)", limits, re.MULTILINE)
    return [*line]


def check_process(running: Running, what: str, pid: int) -> None:
    """Fail unless every thread of the process has what it needs, and no more."""
    if what in ENDS:
        uid, groups = uid_base() + running.domid_of(what), [callers_gid()]
    else:
        uid = {"launcher": 0, "daemon": daemon_uid()}[what]
        groups = {"launcher": [], "daemon": [daemon_uid()]}[what]
    mask = sum(1 << CAPABILITIES[f"CAP_{name}"] for name in KEPT[what])
    for status in threads_of(pid):
        assert status["Uid"].split() == [str(uid)] * 4
        assert status["Gid"].split() == [str(uid)] * 4
        assert status["Groups"].split() == [str(group) for group in groups]
        assert status["NoNewPrivs"] == "1"
        for kind, wanted in (
            ("CapEff", mask), ("CapPrm", mask), ("CapBnd", mask), ("CapInh", 0),
            ("CapAmb", 0),
        ):  # fmt: skip
            assert int(status[kind], 16) == wanted, (kind, status[kind])
        assert status["Seccomp"] == ("2" if what in FILTERED else "0")
    # What is not dumpable belongs to root in /proc, and leaves no core.
    assert os.stat(f"/proc/{pid}/mem").st_uid == 0
    assert core_limit(pid) == ["0", "0"]


@pytest.mark.parametrize("what", ROLES)
def test_each_thread_has_what_it_needs_and_no_more(running: Running, what: str) -> None:
    check_process(running, what, running.pids[what])


def test_a_frontends_capability_is_of_its_own_user_namespace(running: Running) -> None:
    def user_namespace(pid: int | str) -> str:
        return os.readlink(f"/proc/{pid}/ns/user")

    own = user_namespace("self")
    for what in ("launcher", "daemon", "backend"):
        assert user_namespace(running.pids[what]) == own
    by_domid = {
        running.domid_of(what): user_namespace(running.pids[what]) for what in ENDS
    }
    assert len({*by_domid.values()}) == len(by_domid)
    for what in ENDS:
        whose = by_domid[running.domid_of(what)]
        assert user_namespace(running.pids[what]) == whose


def test_an_end_has_worker_threads_that_are_filtered_too(running: Running) -> None:
    for role in ("backend", "frontend"):
        assert len(threads_of(running.pids[role])) > 1


@pytest.mark.parametrize("what", ROLES)
def test_descriptors_are_closed_by_an_exec(running: Running, what: str) -> None:
    pid = running.pids[what]
    for fd, text in descriptors_of(pid):
        # It may have been closed meanwhile.
        with suppress(FileNotFoundError):
            info = Path(f"/proc/{pid}/fdinfo/{fd}").read_text()
            flags = int(re.findall(r"^flags:\s+(\d+)$", info, re.MULTILINE)[0], 8)
            assert int(fd) <= 2 or flags & os.O_CLOEXEC, text


def descriptor_kind(text: str, run_dir: Path) -> str:
    """What a descriptor is, from its link in /proc, without numbers."""
    known = {
        f"{run_dir}/log": "LOG",
        f"{run_dir}/lock": "LOCK",
        f"{run_dir}/store": "STORE",
        f"{run_dir}/store/journal": "JOURNAL",
    }
    if text in known:
        return known[text]
    text = re.sub(r"^anon_inode:|[\[\]]|:\[\d+\]$|^/(?=memfd:)| \(deleted\)$", "", text)
    return re.sub(r"\d+", "N", text)


@pytest.mark.parametrize("what", ROLES)
def test_a_process_has_nothing_else_open(running: Running, what: str) -> None:
    pid, run_dir = running.pids[what], running.links.run_dir
    kinds = {descriptor_kind(text, run_dir) for _, text in descriptors_of(pid)}
    assert kinds <= DESCRIPTORS[role_of(what)]


def domains_seen(running: Running, what: str) -> set[int]:
    """The domains whose memory a process is to have; domain 0 shares none."""
    if what not in ENDS:
        return {*running.domids.values()} - {0}
    served = [front for front, backs in VIFS.items() if what in backs]
    return {running.domid_of(each) for each in (what, *served)} - {0}


@pytest.mark.parametrize("what", ROLES)
def test_a_process_has_the_memory_of_no_other_domain(
    running: Running, what: str
) -> None:
    assert memory_of(running.pids[what]) == domains_seen(running, what)


@pytest.mark.parametrize("what", ENDS)
def test_an_end_has_the_interfaces_of_its_vifs_alone(
    running: Running, what: str
) -> None:
    least, other = running.domids["least"], running.domids["other"]
    expected = {
        "backend": {f"xvif{least}i0", f"xvif{other}i0"},
        "frontend": {"xennet0"},
        "other frontend": {"xennet0", "xennet1"},
        "driver domain's backend": {f"xvif{other}i1"},
        "driver domain's frontend": set(),
    }
    assert interfaces_of(running.pids[what]) == expected[what]


@pytest.mark.parametrize("what", ["launcher", *ENDS])
def test_a_process_has_no_other_sockets(running: Running, what: str) -> None:
    others = {"daemon": running.pids["daemon"]}
    names = [running.links.name(name) for name in ("least", "other", "driver")]
    expected = SOCKETS[role_of(what)]

    def sockets() -> Counter[str]:
        return sockets_of(running.pids[what], others, unix_peers(names))

    # One that set a vif up may just be closing.
    with suppress(AssertionError):
        eventually(lambda: sockets() == expected, "")
    assert sockets() == expected


@pytest.mark.parametrize(("one", "another"), [*combinations(ENDS, 2)])
def test_two_ends_share_no_more_than_a_vif_or_a_domain_of_both(
    running: Running, one: str, another: str
) -> None:
    """Memory that both are to have, and event channels between them or to the store."""
    both = objects_of(running.pids[one]) & objects_of(running.pids[another])
    seen = domains_seen(running, one) & domains_seen(running, another)
    expected = {f"/memfd:xenvirt-{domid}" for domid in seen}
    if (
        running.domid_of(one) == running.domid_of(another)
        or another in VIFS.get(one, ())
        or one in VIFS.get(another, ())
    ):
        expected.add("eventfd")
    assert {kind for kind, _ in both} == expected


def test_the_run_directory_is_open_to_those_who_need_it(running: Running) -> None:
    found = {}
    for path in sorted(running.links.run_dir.rglob("*")):
        info = path.lstat()
        if not stat.S_ISLNK(info.st_mode):
            name = str(path.relative_to(running.links.run_dir))
            found[name] = (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)
    daemon = daemon_uid()
    assert stat.S_IMODE(running.links.run_dir.stat().st_mode) == 0o755
    assert found == {
        "domains": (0o700, 0, 0),
        "domains/Domain-0.json": (0o644, 0, 0),
        **{
            f"domains/{running.links.name(name)}.json": (0o644, 0, 0)
            for name in ("least", "other", "driver")
        },
        "hypervisor.sock": (0o660, 0, callers_gid()),
        "lock": (0o600, 0, 0),
        "log": (0o640, 0, 0),
        "store": (0o770, daemon, 0),
        "store/journal": (0o600, daemon, daemon),
        "xenstored": (0o755, 0, 0),
        "xenstored/socket": (0o600, 0, 0),
        "xenstored/trace": (0o600, 0, 0),
    }


def test_what_is_started_again_or_updated_has_no_more(running: Running) -> None:
    links = running.links
    links.run("daemon", "live-update")
    check_process(running, "daemon", running.pids["daemon"])
    kill_daemon(links)
    check_process(running, "daemon", daemon_of(links))
    for what in ("backend", "frontend"):
        pid = running.pids[what]
        os.kill(pid, signal.SIGKILL)
        eventually(partial(works_anew, running, what, pid), f"no {what}")
        new = pids_of(links, running.domids)[what]
        check_process(running, what, new)
        assert memory_of(new) <= domains_seen(running, what)


def works_anew(running: Running, role: str, before: int) -> bool:
    """Whether there is another process in that role, with a queue to serve."""
    pid = running.links.ends().get(
        (role, 0 if role == "backend" else running.link.domid), before
    )
    # None or 0 while it is dead.
    return bool(pid) and pid != before and len(threads_of(pid)) > 1
