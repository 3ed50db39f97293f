"""xenvirt xenstore snapshot and restore, as typed."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers_xenstore import listening, running_server
from xenvirt.cli.main import run
from xenvirt.xenstore.sync_client import SyncClient

Captured = pytest.CaptureFixture[str]
Command = Callable[..., int]

TEXT = '# xenvirt snapshot 1 of /t\n. (n0) = ""\na (n1) = "v\\xff"\n'


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    socket = str(tmp_path / "socket")
    with running_server(socket) as server:
        server.domain_created(1)
        server.listen(listening(str(tmp_path / "guest")), 1, privileged=False)
        with SyncClient(socket) as dom0:
            dom0.write({"/t/a": b"v\xff"})
            dom0.set_perms("/t/a", ["n1"])
        yield socket


@pytest.fixture
def xenstore(path: str) -> Command:
    return lambda *arguments: run(["xenstore", "--socket", path, *arguments])


def test_a_snapshot_goes_to_standard_output(
    xenstore: Command, capsys: Captured
) -> None:
    assert xenstore("snapshot", "/t") == 0
    assert capsys.readouterr().out == TEXT


def test_a_snapshot_goes_to_a_file_and_back(
    xenstore: Command, tmp_path: Path, capsys: Captured
) -> None:
    file = str(tmp_path / "t.snapshot")
    assert xenstore("snapshot", "/t", "-o", file) == 0
    assert xenstore("rm", "/t") == 0
    assert xenstore("restore", file) == 0
    assert xenstore("restore", file, "--to", "/u/v") == 0
    assert xenstore("snapshot", "/u/v") == 0
    assert capsys.readouterr().out == TEXT.replace("/t\n", "/u/v\n")
    assert xenstore("snapshot", "/t") == 0
    assert capsys.readouterr().out == TEXT


def test_standard_input_is_restored(
    xenstore: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    file = tmp_path / "t.snapshot"
    file.write_text(TEXT.replace("v\\xff", "new"))
    with file.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert xenstore("restore", "-") == 0
    assert xenstore("read", "/t/a") == 0
    assert capsys.readouterr().out == "new\n"


def test_json_says_the_same(path: str, tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "t.snapshot"
    file.write_text(TEXT)
    assert run(["-j", "xenstore", "--socket", path, "snapshot", "/t"]) == 0
    taken = json.loads(capsys.readouterr().out)
    assert taken["path"] == "/t"
    assert taken["nodes"][1] == {"path": "a", "perms": ["n1"], "value": "v\udcff"}
    assert run(["-j", "xenstore", "--socket", path, "restore", str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["restored"] == 2


def test_nothing_is_written_for_what_is_not_there(
    xenstore: Command, tmp_path: Path, capsys: Captured
) -> None:
    file = tmp_path / "none"
    assert xenstore("snapshot", "/none", "-o", str(file)) == 1
    assert "cannot read all of /none" in capsys.readouterr().err
    assert not file.exists()


@pytest.mark.parametrize(
    ("text", "status", "what"),
    [
        ("nonsense", 2, "is no snapshot"),
        (TEXT + "a\n", 2, "t.snapshot:4:"),
        (TEXT + 'b (n9999) = ""\n', 1, "nothing was changed"),
    ],
)
def test_what_cannot_be_restored_changes_nothing(
    xenstore: Command,
    tmp_path: Path,
    capsys: Captured,
    text: str,
    status: int,
    what: str,
) -> None:
    file = tmp_path / "t.snapshot"
    file.write_text(text)
    assert xenstore("restore", str(file)) == status
    assert what in capsys.readouterr().err
    assert xenstore("snapshot", "/t") == 0
    assert capsys.readouterr().out == TEXT


def test_what_a_guest_may_not_hold_is_said(
    path: str, xenstore: Command, tmp_path: Path, capsys: Captured
) -> None:
    file = tmp_path / "t.snapshot"
    lines = [f'n{number} (n1) = ""' for number in range(40)]
    file.write_text("\n".join([TEXT.replace("n0", "n1").rstrip(), *lines]) + "\n")
    with SyncClient(path) as dom0:
        dom0.mkdir("/local/domain/1")
        dom0.set_perms("/local/domain/1", ["n1"])
    assert xenstore("quota", "transaction-nodes", "20", "--domid", "1") == 0
    guest = str(tmp_path / "guest")
    assert run(["xenstore", "--socket", guest, "restore", str(file), "--to", "x"]) == 1
    assert "a quota of this client" in capsys.readouterr().err
    assert xenstore("list", "/local/domain/1") == 0
    assert capsys.readouterr().out == ""
