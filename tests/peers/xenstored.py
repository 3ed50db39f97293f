"""Debian's C xenstored 4.17, run without a hypervisor and without root.

The hypervisor is xenstored_shim.c, preloaded, and a directory. Guests are played
from here: each has a ring page and an event channel there.
"""

from __future__ import annotations

import functools
import mmap
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

XENSTORED: Final = Path("/usr/lib/xen-4.17/bin/xenstored")
SHIM: Final = Path(__file__).with_name("xenstored_shim.c")
VIRQ_PORT: Final = 1
FIRST_DOMAIN_PORT: Final = 16
PAGE_SIZE: Final = 4096


def missing() -> str | None:
    """What keeps it from running here, or None."""
    if not XENSTORED.exists():
        return f"{XENSTORED} is not installed (Debian: xen-utils-4.17)"
    if shutil.which("cc") is None:
        return "no C compiler for tests/peers/xenstored_shim.c"
    if not Path("/usr/include/xenctrl.h").exists():
        return "/usr/include/xenctrl.h is not installed (Debian: libxen-dev)"
    return None


@functools.cache
def _shim() -> tuple[tempfile.TemporaryDirectory[str], Path]:
    # The directory lives, and goes, with this process.
    directory = tempfile.TemporaryDirectory(prefix="xenstored-shim-")
    library = Path(directory.name) / "shim.so"
    flags = ["-std=gnu11", "-O1", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, "-o", library, SHIM], check=True)
    return directory, library


class Xenstored:
    """One xenstored on `directory`, which has to be empty; `socket` leads to it."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.socket = str(directory / "socket")
        (directory / "xsd_port").write_text("3")
        (directory / "xsd_kva").write_bytes(bytes(PAGE_SIZE))
        os.mkfifo(directory / "doorbell")
        self._log = (directory / "log").open("wb")
        self._process = subprocess.Popen(
            [XENSTORED, "--no-fork", *options],
            env={
                "LD_PRELOAD": str(_shim()[1]),
                "XENSTORED_SHIM": str(directory),
                "XENSTORED_RUNDIR": str(directory),
                "XENSTORED_ROOTDIR": str(directory),
            },
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        self._pages: dict[int, mmap.mmap] = {}
        self._wakes: dict[int, int] = {}
        self._wait_for_socket()
        self._doorbell = os.open(directory / "doorbell", os.O_WRONLY)

    def _wait_for_socket(self) -> None:
        # It neither forks nor says when it is ready, so there is nothing to wait on.
        deadline = time.monotonic() + 10
        while not os.path.exists(self.socket):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no xenstored: {self.log()}")
            time.sleep(0.001)

    def log(self) -> str:
        """What it has said so far."""
        return (self.directory / "log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def create_domain(self, domid: int) -> None:
        """Make a domain, with an empty ring page."""
        path = self.directory / f"domain-{domid}"
        path.write_bytes(bytes(PAGE_SIZE))
        with path.open("r+b") as file:
            page = mmap.mmap(file.fileno(), PAGE_SIZE)
        os.mkfifo(self.directory / f"notify-{domid}")
        wake = os.open(self.directory / f"notify-{domid}", os.O_RDWR | os.O_NONBLOCK)
        self._pages[domid], self._wakes[domid] = page, wake

    def page(self, domid: int) -> mmap.mmap:
        """The domain's ring page."""
        return self._pages[domid]

    def wake_fd(self, domid: int) -> int:
        """Readable when xenstored has notified the domain."""
        return self._wakes[domid]

    def notify(self, domid: int) -> None:
        """Send xenstored an event from the domain."""
        self._ring(FIRST_DOMAIN_PORT + domid)

    def destroy_domain(self, domid: int) -> None:
        """The domain is gone."""
        self._forget(domid)
        self._ring(VIRQ_PORT)

    def _forget(self, domid: int) -> None:
        os.close(self._wakes.pop(domid))
        del self._pages[domid]
        (self.directory / f"domain-{domid}").unlink()
        (self.directory / f"notify-{domid}").unlink()

    def _ring(self, port: int) -> None:
        os.write(self._doorbell, struct.pack("<i", port))

    def close(self) -> None:
        """Stop it; the directory stays."""
        os.close(self._doorbell)
        for domid in list(self._pages):
            self._forget(domid)
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._log.close()
