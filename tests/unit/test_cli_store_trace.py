"""xenvirt xenstore trace: everything, in order, with its connection."""

import json
import re
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers_xenstore import RunningStore, listening, running_store
from xenvirt.cli.main import run
from xenvirt.xenstore.sync_client import SyncClient

COMMAND = [sys.executable, "-m", "xenvirt.cli.main", "xenstore"]


@pytest.fixture
def store() -> Iterator[RunningStore]:
    with running_store() as running:
        running.server.trace(listening(str(Path(running.path).with_name("trace"))))
        yield running


class Tracer:
    """The command, from the moment at which it sees what happens."""

    def __init__(self, store: RunningStore, *options: str) -> None:
        command = [*COMMAND, "--socket", store.path, "trace", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self._output = self.process.stdout
        with SyncClient(store.path) as dom0:
            while not select.select([self._output], [], [], 0.01)[0]:
                assert self.process.poll() is None
                dom0.exists("/knock")
            dom0.exists("/begin")

    def __enter__(self) -> "Tracer":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def until(self, end: str) -> list[str]:
        """The lines that came since the beginning, until one holds `end`."""
        lines: list[str] = []
        begun = False
        while not lines or end not in lines[-1]:
            line = self._output.readline()
            assert line
            if begun:
                lines.append(line)
            begun = begun or "/begin" in line
        return lines


def test_requests_replies_and_events_are_lines_in_order(store: RunningStore) -> None:
    with (
        Tracer(store) as tracer,
        SyncClient.from_socket(store.socket(1)) as guest,
        guest.watch("/w"),
        SyncClient.from_socket(store.socket()) as dom0,
    ):
        dom0.write({"/w": 'a"\n'})
        dom0.set_perms("/w", ["r0"])
        with dom0.transaction() as transaction:
            transaction.read("/w")
        assert not dom0.exists("/end")
        lines = tracer.until("/end")
    shown = [re.sub(r"^[0-9:.]{15} ", "", line.rstrip("\n")) for line in lines]
    conns = dict.fromkeys(re.findall(r"conn (\d+)", "\n".join(shown)))
    for number, conn in enumerate(conns):
        shown = [line.replace(f"conn {conn} ", f"C{number} ") for line in shown]
    shown = [re.sub(r"req \d+ tx \d+ ", "", line) for line in shown]
    wanted = [
        'C1 dom 1 → WATCH "/w" "1"',
        'C1 dom 1 ← WATCH "OK"',
        'C1 dom 1 ← WATCH_EVENT "/w" "1"',
        'C2 dom 0 → WRITE "/w" "a\\"\\x0a"',
        'C2 dom 0 ← WRITE "OK"',
        'C2 dom 0 → SET_PERMS "/w" "r0"',
        'C1 dom 1 ← WATCH_EVENT "/w" "1"',
        'C2 dom 0 ← SET_PERMS "OK"',
        'C2 dom 0 → READ "/w"',
        'C2 dom 0 ← READ "a\\"\\x0a"',
        'C2 dom 0 ← TRANSACTION_END "OK"',
        'C2 dom 0 → READ "/end"',
    ]
    assert [line for line in shown if line in wanted] == wanted
    assert "C2 dom 0 connected" in shown


@pytest.mark.parametrize("option", ["-j", "--json"])
def test_each_may_be_one_json_object(store: RunningStore, option: str) -> None:
    with Tracer(store, option) as tracer, SyncClient(store.path) as dom0:
        dom0.write({"/a": b"\xff\0"})
        records = [json.loads(line) for line in tracer.until('"OK"')]
    request = next(r for r in records if r.get("type") == "WRITE")
    assert request["kind"] == "request"
    assert request["domid"] == 0
    assert request["arguments"] == ["/a", "\udcff\0"]
    assert records[-1]["conn"] == request["conn"]
    assert records[-1]["req_id"] == request["req_id"]


def test_one_domain_may_be_chosen_and_a_number(
    store: RunningStore, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = threading.Event()

    def knock() -> None:
        with (
            SyncClient.from_socket(store.socket(1)) as guest,
            SyncClient.from_socket(store.socket(2)) as other,
        ):
            while not stop.is_set():
                guest.domain_path(1)
                other.domain_path(2)

    thread = threading.Thread(target=knock)
    thread.start()
    try:
        command = ["trace", "--domid", "2", "-n", "6"]
        assert run(["xenstore", "--socket", store.path, *command]) == 0
    finally:
        stop.set()
        thread.join(10)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert all(" dom 2 " in line for line in lines)


def test_it_ends_with_the_store(store: RunningStore) -> None:
    with Tracer(store) as tracer:
        store.server.close()
        _, _ = tracer.process.communicate(timeout=20)
        assert tracer.process.returncode == 0


def test_a_store_without_a_trace_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "none")
    assert run(["xenstore", "trace", "--trace-socket", path]) == 3
    assert f"no store gives a trace at {path}" in capsys.readouterr().err
