import os
import select
import time
from pathlib import Path

import pytest

from xenvirt.abi.ids import DevId, DomId
from xenvirt.errors import NotFoundError, UsageError
from xenvirt.toolstack.hotplug import Action, HotplugError, check_script, run_script


def write_script(directory: Path, body: str) -> str:
    script = directory / "vif-test"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    return str(script)


def run(
    script: str,
    action: Action = "online",
    *,
    netdev: str | None = None,
    timeout_s: float = 20,
) -> None:
    run_script(
        script,
        action,
        domid=DomId(7),
        devid=DevId(2),
        vifname="xvif7i2",
        xenstored_path="/run/somewhere/socket",
        netdev=netdev,
        timeout_s=timeout_s,
    )


@pytest.mark.parametrize("action", ["online", "offline"])
@pytest.mark.parametrize("netdev", [None, "eth0"])
def test_a_script_gets_what_libxl_gives(
    tmp_path: Path, action: Action, netdev: str | None
) -> None:
    script = write_script(tmp_path, f'echo "$@" >{tmp_path}/args; env >{tmp_path}/env')
    run(script, action, netdev=netdev)

    assert (tmp_path / "args").read_text() == f"{action} type_if=vif\n"
    environment = (tmp_path / "env").read_text().splitlines()
    assert {
        f"script={script}",
        "XENBUS_TYPE=vif",
        "XENBUS_PATH=backend/vif/7/2",
        "XENBUS_BASE_PATH=backend",
        f"netdev={netdev or ''}",
        "vif=xvif7i2",
        "XENSTORED_PATH=/run/somewhere/socket",
    } <= set(environment)
    assert f"PATH={os.environ['PATH']}" in environment


def test_a_failure_tells_exit_status_and_what_was_printed(tmp_path: Path) -> None:
    script = write_script(tmp_path, "echo 'no such\n bridge' >&2; exit 3")
    with pytest.raises(HotplugError) as caught:
        run(script)
    assert str(caught.value) == (
        f"hotplug script {script} online for xvif7i2 failed: "
        "exit status 3: no such bridge"
    )


def test_a_failure_is_explained_by_the_store() -> None:
    error = HotplugError("it failed", cause="exit status 1", hint="do this")
    explained = error.explained("Could not find bridge device nosuch")
    assert str(explained) == (
        "it failed: Could not find bridge device nosuch (exit status 1)"
    )
    assert explained.hint == "do this"
    assert error.explained(None) is error


def test_a_script_killed_by_a_signal_is_told(tmp_path: Path) -> None:
    with pytest.raises(HotplugError, match=r"killed by signal 9$"):
        run(write_script(tmp_path, "kill -9 $$"))


def test_a_flood_of_output_does_not_block_and_is_cut(tmp_path: Path) -> None:
    script = write_script(tmp_path, "yes | head -c 1000000; echo the end; exit 1")
    with pytest.raises(HotplugError, match=r"the end$") as caught:
        run(script)
    assert len(str(caught.value)) < 3000


def test_a_script_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        script = write_script(tmp_path, f"exec >{fifo}\necho started\nsleep 600 & wait")
        with pytest.raises(HotplugError, match="did not end within 1 s"):
            run(script, timeout_s=1)
        # End of file comes when the last that held the FIFO is gone.
        assert os.read(reader, 100) == b"started\n"
        assert select.select([reader], [], [], 10)[0]
        assert os.read(reader, 100) == b""
    finally:
        os.close(reader)


def test_a_server_that_a_script_leaves_behind_does_not_hold_it(tmp_path: Path) -> None:
    fifo = tmp_path / "stop"
    os.mkfifo(fifo)
    script = write_script(tmp_path, f"cat {fifo} & exit 0")
    begin = time.monotonic()
    run(script)
    assert time.monotonic() - begin < 10
    # Opening succeeds because the server waits there; closing ends it.
    os.close(os.open(fifo, os.O_WRONLY))


def test_a_script_that_is_not_there_is_told_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="No such file") as caught:
        run(str(tmp_path / "nosuch"))
    assert "builtin:bridge" in caught.value.hint


@pytest.mark.parametrize(
    ("script", "path"),
    [
        ("vif-bridge", "/etc/xen/scripts/vif-bridge"),
        ("/opt/vif", "/opt/vif"),
        ("builtin:none", "builtin:none"),
    ],
)
def test_a_relative_script_is_one_of_xens(script: str, path: str) -> None:
    assert check_script(script) == path


def test_an_unknown_builtin_is_refused() -> None:
    with pytest.raises(UsageError, match="built in are"):
        check_script("builtin:nosuch")
