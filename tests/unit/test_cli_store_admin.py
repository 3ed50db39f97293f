"""xenvirt xenstore features, quota and control; and what all commands have in JSON."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers_xenstore import running_server
from xenvirt.cli.main import run
from xenvirt.xenstore.sync_client import SyncClient

Captured = pytest.CaptureFixture[str]
Command = Callable[..., int]


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    socket = str(tmp_path / "socket")
    with running_server(socket) as server:
        server.domain_created(1)
        with SyncClient(socket) as dom0:
            dom0.write({"/t/a": b"v\xff", "/t/b": ""})
            dom0.set_perms("/t/a", ["n1", "r0"])
        yield socket


@pytest.fixture
def xenstore(path: str) -> Command:
    return lambda *arguments: run(["xenstore", "--socket", path, *arguments])


@pytest.fixture
def as_json(path: str, capsys: Captured) -> Callable[..., dict[str, object]]:
    """What a command prints with --json."""

    def call(*arguments: str, status: int = 0) -> dict[str, object]:
        line = ["--json", "xenstore", "--socket", path, *arguments]
        assert run(line) == status
        found: dict[str, object] = json.loads(capsys.readouterr().out)
        assert found.pop("schema") == "xenvirt/1"
        return found

    return call


def test_features_are_listed_and_set(xenstore: Command, capsys: Captured) -> None:
    assert xenstore("features") == 0
    assert "watch-depth\n" in capsys.readouterr().out
    assert xenstore("features", "1", "--set", "error,watch-depth") == 0
    assert xenstore("features", "1", "--set", "") == 0
    assert capsys.readouterr().out == "error\nwatch-depth\n"
    assert xenstore("features", "1", "--set", "speed") == 2
    assert "one of reconnection, error" in capsys.readouterr().err
    assert xenstore("features", "--set", "error") == 2
    assert xenstore("features", "77") == 1
    assert "features of domain 77" in capsys.readouterr().err


def test_quotas_are_listed_and_set(xenstore: Command, capsys: Captured) -> None:
    assert xenstore("quota", "nodes", "7", "--domid", "1") == 0
    assert xenstore("quota", "nodes") == 0
    assert capsys.readouterr().out == "7\n1000\n"
    assert xenstore("quota", "--domid", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["quota", "value"]
    assert lines[1].split() == ["nodes", "7"]
    assert xenstore("quota", "none") == 1
    assert "cannot get quota none" in capsys.readouterr().err
    assert xenstore("quota", "nodes", "many") == 2


def test_the_store_is_told_to_do_something(xenstore: Command, capsys: Captured) -> None:
    assert xenstore("control", "check") == 0
    assert xenstore("control", "quota", "1") == 0
    shown = capsys.readouterr().out
    assert "Domain 1:" in shown
    assert not shown.endswith("\n\n")
    assert xenstore("control", "dance") == 1
    assert "the store refuses dance" in capsys.readouterr().err


def test_every_command_has_json(as_json: Callable[..., dict[str, object]]) -> None:
    assert as_json("ls", "/t") == {
        "nodes": [
            {"path": "/t/a", "value": "v\udcff", "perms": ["n1", "r0"]},
            {"path": "/t/b", "value": "", "perms": ["n0"]},
        ]
    }
    assert as_json("read", "/t/a", "/t/b") == {
        "values": {"/t/a": "v\udcff", "/t/b": ""}
    }
    assert as_json("list", "/t") == {"children": {"/t": ["a", "b"]}}
    assert as_json("write", "/t/c", "1", "/t/d", "2") == {"written": ["/t/c", "/t/d"]}
    assert as_json("exists", "/t/c", "/none", status=1) == {
        "exists": {"/t/c": True, "/none": False}
    }
    assert as_json("chmod", "-r", "/t", "n1") == {
        "changed": ["/t", "/t/a", "/t/b", "/t/c", "/t/d"]
    }
    assert as_json("rm", "/t/c") == {"removed": ["/t/c"]}
    assert as_json("watch", "-n", "1", "/t") == {"path": "/t"}
    assert as_json("quota", "nodes") == {"quotas": {"nodes": 1000}}
    assert as_json("features", "1", "--set", "error") == {
        "features": {"value": 2, "names": ["error"]}
    }
    assert "help" in str(as_json("control", "help")["control"])
    assert "XENSTORED_PATH" in str(as_json("env"))
    error = as_json("read", "/none", status=1)["error"]
    assert error == {
        "what": "couldn't read path /none",
        "cause": "No such file or directory (ENOENT)",
        "do": None,
        "exit_code": 1,
    }
