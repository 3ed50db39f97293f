"""Xen's own command line tools against the store, unmodified; no root needed.

They reach it through a privileged socket and through a domain's, by XENSTORED_PATH
alone. Where C xenstored is installed, what they print and how they end is what they
print there.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.peers import xenstored
from xenvirt.xenstore.server import StoreServer

TOOLS = ("ls", "list", "read", "write", "rm", "exists", "chmod", "watch")
MISSING = [tool for tool in TOOLS if shutil.which(f"xenstore-{tool}") is None]
TEST_XENSTORE = Path("/usr/lib/xen-4.17/bin/test-xenstore")
NO_C_XENSTORED = xenstored.missing()

pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"xenstore-utils: no xenstore-{'/'.join(MISSING)}"
)
beside_c_xenstored = pytest.mark.skipif(
    NO_C_XENSTORED is not None, reason=str(NO_C_XENSTORED)
)
with_test_xenstore = pytest.mark.skipif(
    not TEST_XENSTORE.exists(), reason=f"{TEST_XENSTORE} (Debian: xen-utils-4.17)"
)

Tool = Callable[..., str]
Said = tuple[int, str, str]
"""How a tool ended, and what it printed to where."""


class Shell:
    """Runs tools on the store behind a socket."""

    def __init__(self, path: str) -> None:
        self.environment = {**os.environ, "XENSTORED_PATH": path}

    def say(self, name: str, *arguments: str) -> Said:
        """How one of xenstore-* ends."""
        return self.run(f"xenstore-{name}", *arguments)

    def run(self, *command: str) -> Said:
        """How any command ends."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout, done.stderr

    def must(self, name: str, *arguments: str) -> str:
        """What one of xenstore-* prints; it has to succeed."""
        code, output, errors = self.say(name, *arguments)
        assert code == 0, errors
        return output

    def watch(self, key: str, *changes: tuple[str, ...]) -> list[str]:
        """What xenstore-watch prints at first and after each of the changes."""
        with subprocess.Popen(
            ["xenstore-watch", "-n", str(1 + len(changes)), key],
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as watching:
            assert watching.stdout is not None
            lines = [watching.stdout.readline()]
            for change in changes:
                self.must(*change)
                lines.append(watching.stdout.readline())
            assert watching.wait(20) == 0
        return lines


@pytest.fixture
def shells(tmp_path: Path) -> Iterator[tuple[Shell, Shell]]:
    """Tools of domain 0, and of domain 5 in its own place."""
    paths = [str(tmp_path / name) for name in ("socket", "domain-5")]
    store = StoreServer()
    store.domain_created(5)
    for path, domid in zip(paths, (0, 5), strict=True):
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)
        listening.listen()
        store.listen(listening, domid, privileged=domid == 0)
    dom0, guest = map(Shell, paths)
    yield dom0, guest
    store.close()


@pytest.fixture
def dom0(shells: tuple[Shell, Shell]) -> Shell:
    return shells[0]


@pytest.fixture
def guest(shells: tuple[Shell, Shell]) -> Shell:
    """Domain 5, for which the toolstack has made /local/domain/5."""
    dom0, guest = shells
    dom0.must("write", "/local/domain/5", "")
    dom0.must("chmod", "/local/domain/5", "n5")
    return guest


@pytest.fixture
def tool(dom0: Shell) -> Tool:
    return dom0.must


@pytest.fixture
def c_xenstored(tmp_path: Path) -> Iterator[Shell]:
    directory = tmp_path / "xenstored"
    directory.mkdir()
    peer = xenstored.Xenstored(directory)
    yield Shell(peer.socket)
    peer.close()


def test_a_fresh_store_looks_like_xens(tool: Tool) -> None:
    assert tool("ls", "-f") == '/tool = ""\n/tool/xenstored = ""\n'


def test_values_are_written_in_one_transaction_and_read(tool: Tool) -> None:
    tool("write", "/a/b", "one", "/a/c", "two words")
    assert tool("read", "/a/b", "/a/c") == "one\ntwo words\n"
    assert tool("list", "/a") == "b\nc\n"


def test_a_relative_path_is_below_dom0s_own(tool: Tool) -> None:
    tool("write", "name", "host")
    assert tool("read", "/local/domain/0/name") == "host\n"


def test_existence_is_an_exit_code(dom0: Shell) -> None:
    assert dom0.say("exists", "/tool") == (0, "", "")
    assert dom0.say("exists", "/none")[0] != 0


def test_removal_can_tidy_empty_directories(dom0: Shell) -> None:
    dom0.must("write", "/a/b/c", "v")
    dom0.must("rm", "-t", "/a/b/c")
    assert dom0.must("list", "/") == "tool\n"
    assert dom0.say("read", "/a/b/c")[0] != 0


def test_permissions_are_set_down_a_tree_and_shown(tool: Tool) -> None:
    tool("write", "/a/b", "v")
    tool("chmod", "-r", "/a", "n0", "r5")
    shown = tool("ls", "-p", "/a")
    assert shown.split() == ["b", "=", '"v"', *"." * shown.count(" ."), "(n0,r5)"]


def test_a_huge_directory_is_listed(tool: Tool) -> None:
    names = [f"{'n' * 60}{i}" for i in range(100)]
    tool("write", *(part for name in names for part in (f"/d/{name}", "")))
    assert tool("list", "/d").split() == names


def test_a_watch_prints_each_change(dom0: Shell) -> None:
    changes = (("write", "/w/x", "1"), ("rm", "/w"))
    assert dom0.watch("/w", *changes) == ["/w\n", "/w/x\n", "/w\n"]


def test_a_domain_works_in_its_own_place(dom0: Shell, guest: Shell) -> None:
    guest.must("write", "a/b", "one", "c", "two")
    assert dom0.must("ls", "-f", "/local/domain/5") == (
        '/local/domain/5/a = ""\n'
        '/local/domain/5/a/b = "one"\n'
        '/local/domain/5/c = "two"\n'
    )
    assert guest.must("read", "/local/domain/5/a/b") == "one\n"
    guest.must("rm", "-t", "a/b")
    assert dom0.must("list", "/local/domain/5") == "c\n"


def test_a_domain_owns_what_it_writes(dom0: Shell, guest: Shell) -> None:
    guest.must("write", "a", "v")
    guest.must("chmod", "a", "n5", "r0")
    assert "(n5,r0)" in dom0.must("ls", "-p", "/local/domain/5")


@pytest.mark.parametrize(
    "command",
    [
        ("read", "/tool"),
        ("list", "/"),
        ("ls", "/"),
        ("exists", "/tool"),
        ("write", "/tool", "v"),
        ("write", "/new", "v"),
        ("rm", "/tool"),
        ("chmod", "/tool", "n5"),
        ("chmod", "/local/domain/5", "n0"),
    ],
    ids=" ".join,
)
def test_a_domain_is_refused_what_is_not_its_own(
    guest: Shell, command: tuple[str, ...]
) -> None:
    assert guest.say(*command)[0] != 0


def test_a_domain_watches_what_domain_0_writes(dom0: Shell, guest: Shell) -> None:
    def lines() -> list[str]:
        with subprocess.Popen(
            ["xenstore-watch", "-n", "3", "device"],
            env=guest.environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as watching:
            assert watching.stdout is not None
            seen = [watching.stdout.readline()]
            dom0.must("write", "/tool/hidden", "v", "/local/domain/5/device/vif", "v")
            seen.append(watching.stdout.readline())
            dom0.must("rm", "/local/domain/5/device")
            seen.append(watching.stdout.readline())
            assert watching.wait(20) == 0
        return seen

    assert lines() == ["device\n", "device/vif\n", "device\n"]


SESSION: tuple[tuple[str, ...], ...] = (
    ("list", ""),
    ("write", "a", "one"),
    ("write", "a/b", "two", "a/c/d", "three words", "a/e", ""),
    ("read", "a/b", "a/c/d", "a/e"),
    ("read", "-p", "a/b", "a/c"),
    ("read", "a/b", "a/none"),
    ("list", "a"),
    ("list", "-p", "a"),
    ("list", "a/b", "a/none"),
    ("ls", "a"),
    ("ls", "-f", "a"),
    ("ls", "a/none"),
    ("exists", "a/c"),
    ("exists", "a/c", "a/none"),
    ("write", "x", "\\x00\\x01\\xff\\\\\\n\\t\\037"),
    ("read", "x"),
    ("ls", "-f", "."),
    ("write", "-R", "x", "\\x00"),
    ("read", "-R", "x"),
    ("write", "x"),
    ("write", "a//b", "v"),
    ("write", "a/", "v"),
    ("write", "a b", "v"),
    ("write", "y" * 3000, "v"),
    ("read", "a b"),
    ("rm", "a/b", "a/none"),
    ("rm", "a/none/none"),
    ("list", "a"),
    ("rm", "-t", "a/c/d"),
    ("list", "a"),
    ("rm", "a", "x"),
    ("read", "a"),
    ("chmod", "none", "n0"),
    ("chmod", "x", "q0"),
    ("read",),
    ("ls", "-h"),
    ("watch", "-h"),
)
"""Commands that mean the same to any domain in its own place."""

PRIVILEGED_SESSION: tuple[tuple[str, ...], ...] = (
    ("ls",),
    ("ls", "-fp"),
    ("write", "/a/b/c", "v"),
    ("chmod", "/a/b", "r0", "w0"),
    ("ls", "-p", "/a"),
    ("chmod", "-r", "/a", "b0"),
    ("chmod", "-u", "/a/b", "n0"),
    ("ls", "-fp", "/"),
    ("chmod", "/a", "n99"),
    ("chmod", "/a", "n0", "r99"),
    ("ls", "-p", "/"),
    ("rm", "/"),
    ("rm", "-t", "/a/b/c"),
    ("write", "/", "root"),
    ("read", "/"),
    ("list", "/"),
    ("exists", "/local/domain/0"),
    ("read", "@releaseDomain"),
)


def _transcript(
    shell: Shell, session: tuple[tuple[str, ...], ...]
) -> list[tuple[str, Said]]:
    return [(" ".join(command), shell.say(*command)) for command in session]


@beside_c_xenstored
def test_domain_0s_tools_say_what_they_say_on_c_xenstored(
    dom0: Shell, c_xenstored: Shell
) -> None:
    for session in (PRIVILEGED_SESSION, SESSION):
        assert _transcript(dom0, session) == _transcript(c_xenstored, session)


@beside_c_xenstored
def test_a_domains_tools_say_what_domain_0s_say_on_c_xenstored(
    guest: Shell, c_xenstored: Shell
) -> None:
    c_xenstored.must("write", "/local/domain/0", "")
    assert _transcript(guest, SESSION) == _transcript(c_xenstored, SESSION)


@beside_c_xenstored
def test_a_watch_prints_what_it_prints_on_c_xenstored(
    dom0: Shell, guest: Shell, c_xenstored: Shell
) -> None:
    changes = (
        ("write", "w/a/b", "v"),
        ("write", "w/a/b", "v"),
        ("write", "w", "v"),
        ("rm", "w/a"),
        ("rm", "w"),
    )
    there = c_xenstored.watch("w", *changes)
    assert len(there) == 6
    assert dom0.watch("w", *changes) == there
    assert guest.watch("w", *changes) == there


@with_test_xenstore
@pytest.mark.parametrize("who", ["dom0", "guest"])
def test_xens_own_test_passes(who: str, request: pytest.FixtureRequest) -> None:
    shell: Shell = request.getfixturevalue(who)
    code, output, errors = shell.run(str(TEST_XENSTORE), "-i", "100")
    assert (code, errors) == (0, "")
    assert len(output.splitlines()) == 12, output


@with_test_xenstore
@pytest.mark.parametrize("who", ["dom0", "guest"])
def test_xens_own_random_test_passes(who: str, request: pytest.FixtureRequest) -> None:
    shell: Shell = request.getfixturevalue(who)
    code, _, errors = shell.run(str(TEST_XENSTORE), "-r", "1")
    assert (code, errors) == (0, "")


@with_test_xenstore
@beside_c_xenstored
def test_xens_own_test_runs_the_same_tests(dom0: Shell, c_xenstored: Shell) -> None:
    def names(shell: Shell) -> list[str]:
        _, output, _ = shell.run(str(TEST_XENSTORE))
        return [line.partition(":")[0] for line in output.splitlines()]

    assert names(dom0) == names(c_xenstored)
