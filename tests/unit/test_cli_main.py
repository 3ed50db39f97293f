"""The command line without a daemon: parsing, errors, exit codes, JSON."""

import json
import os
import sys
from pathlib import Path

import click
import pytest

from xenvirt import __version__
from xenvirt.cli import main as cli_main
from xenvirt.cli.main import cli, run
from xenvirt.cli.settings import sudo_command

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def no_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("XENVIRT_"):
            monkeypatch.delenv(name)
    run_dir = tmp_path / "run"
    monkeypatch.setenv("XENVIRT_RUN_DIR", str(run_dir))
    return run_dir


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["xenvirt", "up", "my web", "mtu=9000"])


def test_every_command_is_there_and_explains_itself(capsys: Captured) -> None:
    assert run(["--help"]) == 0
    listing = capsys.readouterr().out
    for name in cli_main._COMMANDS:
        assert f"\n  {name} " in listing
        assert run([name, "--help"]) == 0
        assert f"Usage: xenvirt {name}" in capsys.readouterr().out


def test_version(capsys: Captured) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"xenvirt, version {__version__}\n"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["netwrok-list"], "Did you mean network-list?"),
        (["list", "--json"], "xenvirt --json list"),
        (["--timeout", "0", "list"], "--timeout"),
        (["down"], "--all"),
        (["down", "--all", "web"], "--all"),
        (["domid"], "NAME"),
        (["network-attach", "web", "brigde=br0"], "did you mean bridge?"),
        (["up", "web", "mac=33:33:00:00:00:01"], "multicast"),
        (["up", "web", "rate=0Mb/s"], "rate=0Mb/s"),
        (["up", "web", "mtu=67"], "68 to 65521"),
        (["up", "web", "mtu=65522"], "68 to 65521"),
        (["up", "web", "x-front-without=tso"], "sg, gso, csum"),
        (["up", "1234"], "read as a domid"),
        (["up", "a b"], "characters"),
        (["up", "web", "--ip", "10.0.0.2"], "/24"),
        (["up", "web", "--ip", "10.0.0.1/24", "--peer-ip", "10.0.0.1/24"], "both"),
        (["up", "web", "--peer-ip", "10.0.0.1/24", "bridge=br0"], "exclude"),
        (["exec", "web", "--"], "no command"),
        (["xenstore", "write", "/a"], "no value"),
        (["daemon", "--foreground", "--stop"], "exclude"),
        (["completion", "tcsh"], "tcsh"),
    ],
)
def test_usage_errors_say_what_and_exit_with_2(
    args: list[str], says: str, capsys: Captured, no_daemon: Path
) -> None:
    assert run(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("xenvirt: ")
    assert says in err
    assert not no_daemon.exists(), "a mistake must not start a daemon"


@pytest.mark.parametrize(
    "args",
    [
        ["list"],
        ["show", "web"],
        ["destroy", "web"],
        ["domid", "web"],
        ["network-list", "web"],
        ["xenstore", "ls"],
    ],
)
def test_without_a_daemon_the_user_is_told_how_to_start_one(
    args: list[str], capsys: Captured, no_daemon: Path
) -> None:
    assert run(args) == 3
    err = capsys.readouterr().err
    assert f"xenvirt: no daemon runs in {no_daemon}\n" in err
    assert "xenvirt up" in err
    assert not no_daemon.exists()


def test_errors_are_one_json_object_if_asked_for(capsys: Captured) -> None:
    assert run(["--json", "up", "web", "mtu=67"]) == 2
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == {
        "schema": "xenvirt/1",
        "error": {
            "what": "mtu=67 is out of range",
            "cause": "68 to 65521 can be",
            "do": "write mtu=1500, or mtu=9000 for jumbo frames",
            "exit_code": 2,
        },
    }


@pytest.mark.parametrize("args", [["--json", "nosuch"], ["-j", "--nosuch", "list"]])
def test_mistakes_before_the_command_are_json_too(
    args: list[str], capsys: Captured
) -> None:
    assert run(args) == 2
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 2


def test_options_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("XENVIRT_JSON", "1")
    assert run(["list"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 3


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    "args",
    [
        ["up", "web"],
        ["down", "web"],
        ["demo"],
        ["network-attach", "web"],
        ["network-detach", "web", "0"],
        ["exec", "web", "true"],
        ["shell", "web"],
    ],
)
def test_who_is_not_root_is_told_what_to_type(
    args: list[str], capsys: Captured
) -> None:
    assert run(args) == 4
    err = capsys.readouterr().err
    assert f"xenvirt: {args[0]} needs root" in err
    assert "sudo " in err
    assert "up 'my web' mtu=9000" in err


def test_sudo_is_given_a_path_that_it_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "xenvirt-elsewhere"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert sudo_command([str(program), "up"]) == f"sudo {program} up"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sudo_command([program.name, "up"]) == f"sudo {program} up"
    assert sudo_command(["sh", "-c", "a b"]) == "sudo sh -c 'a b'"
    assert sudo_command(["/bin/sh", "up"]) == "sudo sh up"


def test_store_environment_needs_no_daemon(capsys: Captured, no_daemon: Path) -> None:
    assert run(["xenstore", "env"]) == 0
    out = capsys.readouterr().out
    assert out == f"export XENSTORED_PATH={no_daemon}/xenstored/socket\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str, capsys: Captured) -> None:
    assert run(["completion", shell]) == 0
    assert "_XENVIRT_COMPLETE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("xenvirt ne", ["network-attach", "network-list", "network-detach"]),
        ("xenvirt domid ", []),
        ("xenvirt show w", []),
        ("xenvirt network-detach web ", []),
        ("xenvirt network-attach web mt", ["mtu="]),
        ("xenvirt network-attach web backend=", []),
    ],
)
def test_completion_never_fails_nor_starts_a_daemon(
    words: str,
    completed: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    no_daemon: Path,
) -> None:
    monkeypatch.setenv("_XENVIRT_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    with pytest.raises(SystemExit) as status:
        run([])
    assert status.value.code == 0
    found = capsys.readouterr().out.split()
    assert found == [f"plain,{word}" for word in completed]
    assert not no_daemon.exists()


def test_down_of_nothing_is_no_error(capsys: Captured) -> None:
    if os.geteuid() != 0:
        pytest.skip("xenvirt down needs root")
    assert run(["down", "web"]) == 0
    assert run(["--json", "down", "--all"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == []


def test_commands_do_without_the_heavy_modules() -> None:
    import subprocess

    code = (
        "import sys, xenvirt.cli.main, xenvirt.cli.links; "
        "sys.exit(str({'asyncio', 'uvloop', 'pyroute2', 'cffi'} & {*sys.modules}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.stderr.strip() == "set()"


def test_every_option_is_named_after_itself_in_the_environment() -> None:
    for name in cli.list_commands(None):  # type: ignore[arg-type]
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        for option in command.params:
            if not isinstance(option, click.Option) or option.name == "help":
                continue
            long = max(option.opts, key=len).lstrip("-").replace("-", "_")
            wanted = f"XENVIRT_{name}_{long}".replace("-", "_").upper()
            derived = f"XENVIRT_{name}_{option.name}".replace("-", "_").upper()
            assert (option.envvar or derived) == wanted, wanted
