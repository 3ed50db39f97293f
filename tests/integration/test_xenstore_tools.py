"""Xen's own command line tools against the server; no root needed."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers_xenstore import running_server

TOOLS = ("ls", "list", "read", "write", "rm", "exists", "chmod", "watch")
MISSING = [tool for tool in TOOLS if shutil.which(f"xenstore-{tool}") is None]

pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"xenstore-utils: no xenstore-{'/'.join(MISSING)}"
)

Tool = Callable[..., str]


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment that leads the tools to a running server."""
    path = str(tmp_path / "socket")
    with running_server(path):
        yield {**os.environ, "XENSTORED_PATH": path}


@pytest.fixture
def tool(environment: dict[str, str]) -> Tool:
    """Runs one tool and returns what it prints; fails as the tool does."""

    def call(name: str, *arguments: str) -> str:
        done = subprocess.run(
            [f"xenstore-{name}", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
        return done.stdout

    return call


def test_a_fresh_store_looks_like_xens(tool: Tool) -> None:
    assert tool("ls", "-f") == '/tool = ""\n/tool/xenstored = ""\n'


def test_values_are_written_in_one_transaction_and_read(tool: Tool) -> None:
    tool("write", "/a/b", "one", "/a/c", "two words")
    assert tool("read", "/a/b", "/a/c") == "one\ntwo words\n"
    assert tool("list", "/a") == "b\nc\n"


def test_a_relative_path_is_below_dom0s_own(tool: Tool) -> None:
    tool("write", "name", "host")
    assert tool("read", "/local/domain/0/name") == "host\n"


def test_existence_is_an_exit_code(tool: Tool) -> None:
    tool("exists", "/tool")
    with pytest.raises(subprocess.CalledProcessError):
        tool("exists", "/none")


def test_removal_can_tidy_empty_directories(tool: Tool) -> None:
    tool("write", "/a/b/c", "v")
    tool("rm", "-t", "/a/b/c")
    assert tool("list", "/") == "tool\n"
    with pytest.raises(subprocess.CalledProcessError):
        tool("read", "/a/b/c")


def test_permissions_are_set_down_a_tree_and_shown(tool: Tool) -> None:
    tool("write", "/a/b", "v")
    tool("chmod", "-r", "/a", "n0", "r1")
    shown = tool("ls", "-p", "/a")
    assert shown.split() == ["b", "=", '"v"', *"." * shown.count(" ."), "(n0,r1)"]


def test_a_huge_directory_is_listed(tool: Tool) -> None:
    names = [f"{'n' * 60}{i}" for i in range(100)]
    tool("write", *(part for name in names for part in (f"/d/{name}", "")))
    assert tool("list", "/d").split() == names


def test_a_watch_prints_each_change(tool: Tool, environment: dict[str, str]) -> None:
    with subprocess.Popen(
        ["xenstore-watch", "-n", "3", "/w"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline() == "/w\n"
        tool("write", "/w/x", "1")
        assert watching.stdout.readline() == "/w/x\n"
        tool("rm", "/w")
        assert watching.stdout.readline() == "/w\n"
        assert watching.wait(20) == 0
