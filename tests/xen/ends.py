"""What tests in dom0 share: our ends as processes, the store, the kernel's choice."""

import contextlib
import operator
import os
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, Self

from xenvirt.abi.ids import DevId, DomId
from xenvirt.hypervisor.kernel_drivers import BACKEND_BUS, FRONTEND_BUS
from xenvirt.hypervisor.page_links import PageLinks
from xenvirt.hypervisor.xen import XENSTORED_SOCKET
from xenvirt.vif import queue_stats
from xenvirt.xenstore.sync_client import SyncClient

PATIENCE_S: Final = 60.0
"""Under software emulation everything takes its time."""

NOOP: Final = "/etc/xen/scripts/vif-noop"


def eventually(condition: Callable[[], object], what: Callable[[], str]) -> None:
    """Wait until the condition holds; `what` says what was there instead."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


class RunningEnd:
    """`xenvirt backend` or `xenvirt frontend` in dom0; a context manager."""

    def __init__(self, kind: str, *arguments: str, netns: str | None = None) -> None:
        prefix = () if netns is None else ("ip", "netns", "exec", netns)
        self._directory = tempfile.TemporaryDirectory(prefix="xenvirt-test-")
        self.run_dir = Path(self._directory.name) / "run"
        self.kind = kind
        self._command = [
            *prefix, "xenvirt", "--run-dir", str(self.run_dir), kind, *arguments
        ]  # fmt: skip
        try:
            self.start()
        except BaseException:
            self.process.kill()
            self._directory.cleanup()
            raise

    def start(self) -> None:
        """Start it, or the next one after `kill`; it serves when this returns."""
        self._log = Path(self._directory.name) / f"log-{time.monotonic_ns()}"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.wait_for(f"the {self.kind} of domain ")

    def log(self) -> str:
        """What the process that runs now has said."""
        return self._log.read_text()

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until the process has logged it so often."""
        eventually(lambda: self.log().count(text) >= times, self.log)

    def kill(self) -> None:
        """Let it end at once, as in a crash."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> str:
        """Have it end in order; what it has logged."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE_S) == 0, self.log()
        return self.log()

    def counters(self, domid: int, devid: int = 0) -> dict[str, int]:
        """What a vif's queues have counted together."""
        total = Counter[str]()
        for page in PageLinks(self.run_dir).pages(DomId(domid), DevId(devid)):
            if self.kind.startswith(page.side):
                total.update(queue_stats.read(page.fd, page.queue).counters())
            os.close(page.fd)
        assert total
        return total

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.stop()
        log = self.log()
        self._directory.cleanup()
        assert "Traceback" not in log, log


@contextlib.contextmanager
def kernel_takes_no_new_vif() -> Iterator[None]:
    """Keep the kernel's netback, and its netfront, from vifs that appear meanwhile."""
    with contextlib.ExitStack() as undo:
        for bus in (BACKEND_BUS, FRONTEND_BUS):
            autoprobe = bus / "drivers_autoprobe"
            undo.callback(autoprobe.write_text, autoprobe.read_text())
            autoprobe.write_text("0")
        yield


@contextlib.contextmanager
def store() -> Iterator[SyncClient]:
    """xenstored, as dom0."""
    with SyncClient(XENSTORED_SOCKET) as client:
        yield client


def front_path(domid: int, devid: int = 0) -> str:
    """The frontend's node of a vif."""
    return f"/local/domain/{domid}/device/vif/{devid}"


def back_path(domid: int, devid: int = 0) -> str:
    """Its backend's node in dom0."""
    return f"/local/domain/0/backend/vif/{domid}/{devid}"


def wait_for_states(domid: int, front: str, back: str, devid: int = 0) -> None:
    """Wait until both ends of a vif have shown these states."""
    with store() as client:
        for path, state in (
            (front_path(domid, devid), front),
            (back_path(domid, devid), back),
        ):
            client.wait_for(
                f"{path}/state", partial(operator.eq, state), timeout_s=PATIENCE_S
            )
