"""The processes of a link within one domain of Xen, and what is remembered of them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from xenvirt.errors import NotFoundError, UsageError
from xenvirt.hypervisor import conventions
from xenvirt.toolstack import xen_links
from xenvirt.toolstack.host import Connection, Lookup
from xenvirt.toolstack.rundir import RunDir
from xenvirt.toolstack.xen_links import Process
from xenvirt.xenstore.sync_client import SyncClient


@pytest.fixture
def host(tmp_path: Path) -> Connection:
    """A run directory alone: what is asked here needs no store."""
    return Connection(
        RunDir(tmp_path), cast(Lookup, None), cast(SyncClient, None), conventions.XEN
    )


def sleeper() -> "subprocess.Popen[bytes]":
    program = "import signal; print(flush=True); signal.pause()"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_a_process_is_told_to_end() -> None:
    with sleeper() as running:
        process = Process.of(running.pid)
        assert process is not None
        process.stop()
        assert running.wait(10) == -15
        process.stop()


def test_a_number_that_is_another_s_by_now_is_left_alone() -> None:
    with sleeper() as running:
        process = Process.of(running.pid)
        assert process is not None
        Process(process.pid, process.began - 1).stop()
        assert running.poll() is None
        running.kill()


def test_there_is_no_such_process() -> None:
    with sleeper() as running:
        running.kill()
    assert Process.of(running.pid) is None
    Process(running.pid, 1).stop()


def remember(host: Connection, name: str, **record: object) -> None:
    directory = host.run_dir.path / "links"
    directory.mkdir(exist_ok=True)
    (directory / f"{name}.json").write_text(json.dumps({"name": name, **record}))


def test_a_record_names_the_vif_and_its_processes(host: Connection) -> None:
    remember(host, "web", domid=0, devid=3, processes=[[os.getpid(), 5]])
    record = xen_links.find(host, "web")
    assert record.paths.backend == "/local/domain/0/backend/vif/0/3"
    assert record.processes == (Process(os.getpid(), 5),)
    assert list(xen_links.names(host)) == ["web"]


def test_a_link_that_is_not_there(host: Connection) -> None:
    assert list(xen_links.names(host)) == []
    assert xen_links.down(host, "web", timeout_s=1) is False
    with pytest.raises(NotFoundError, match="there is no link web") as caught:
        xen_links.find(host, "web")
    assert caught.value.hint == "xenvirt up web"


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b"])
def test_a_name_that_is_a_path(host: Connection, name: str) -> None:
    with pytest.raises(UsageError, match="is no name of a link"):
        xen_links.find(host, name)
