"""QEMU with Xen in it, for one session in dom0.

There is no KVM: Xen 4.17 in it needs an instruction that KVM may not emulate, and the
lab is to run anywhere.
"""

import ctypes
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

from tests.xenlab.errors import LabError
from tests.xenlab.image import Images
from tests.xenlab.work import Work

QEMU: Final = "qemu-system-x86_64"
READY: Final = b"LAB-READY"
"""What a session says before everything else."""

_MEMORY_MIB: Final = 3072
_DOM0_MIB: Final = 1280
_BOOT_TIMEOUT_S: Final = 180
_STOP_TIMEOUT_S: Final = 30
_CONSOLE_TAIL: Final = 40
_BLOCK: Final = 65536
_PR_SET_PDEATHSIG: Final = 1

_XEN_OPTIONS: Final = (
    f"console=com1 com1=115200,8n1 dom0_mem={_DOM0_MIB}M,max:{_DOM0_MIB}M loglvl=info "
    "bootscrub=0"
)
_DOM0_OPTIONS: Final = (
    "console=hvc0 earlyprintk=xen rdinit=/init loglevel=6 net.ifnames=0"
)


class Machine:
    """A context manager: the machine runs inside it, and nothing of it afterwards."""

    def __init__(self, work: Work, images: Images, *, cpus: int) -> None:
        self._work = work
        self._command = _command(work, images, cpus)
        self._channel: socket.socket

    def __enter__(self) -> "Machine":
        self._work.console.unlink(missing_ok=True)
        self._channel, theirs = socket.socketpair()
        end_with_us = _ending_with(os.getpid())
        with theirs:
            channel = f"socket,id=channel,fd={theirs.fileno()}"
            self._process = subprocess.Popen(
                [*self._command, "-chardev", channel],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                # ^C is for us alone.
                process_group=0,
                preexec_fn=end_with_us,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._channel.close()

    def fileno(self) -> int:
        """Return the descriptor to poll for `receive`."""
        return self._channel.fileno()

    def wait_ready(self) -> None:
        """Wait until the session is there to read and write."""
        deadline = time.monotonic() + _BOOT_TIMEOUT_S
        seen = b""
        while not seen.endswith(READY):
            ready = select.select([self], [], [], max(0, deadline - time.monotonic()))
            if not ready[0]:
                raise self._failure(f"dom0 is not up after {_BOOT_TIMEOUT_S} s")
            byte = self._channel.recv(1)
            if not byte:
                raise self._failure("the machine stopped before dom0 was up")
            seen += byte

    def send(self, data: bytes) -> int:
        """Type into the session; return how much of it there is room for now."""
        return self._channel.send(data, socket.MSG_DONTWAIT)

    def receive(self) -> bytes:
        """Return what the session has written, b"" after its end."""
        return self._channel.recv(_BLOCK)

    def status(self) -> int:
        """Wait for the machine to be off, and return the session's exit status."""
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise self._failure("the machine does not switch off") from None
        try:
            return int((self._work.host / "status").read_text())
        except FileNotFoundError:
            raise self._failure("the machine stopped before its session") from None

    def _failure(self, what: str) -> LabError:
        console = self._work.console
        lines = [what]
        if console.exists():
            text = console.read_text(errors="replace").splitlines()
            text = [line for line in text if line]
            lines += [f"The end of Xen's console, {console}:", *text[-_CONSOLE_TAIL:]]
        if self._process.poll() is not None and self._process.stdout is not None:
            lines.append(self._process.stdout.read().decode(errors="replace"))
        return LabError("\n".join(lines).rstrip())


def _command(work: Work, images: Images, cpus: int) -> list[str]:
    dom0 = f"{_escaped(images.vmlinux)} {_DOM0_OPTIONS},{_escaped(images.dom0)}"
    # fmt: off
    return [
        QEMU, "-accel", "tcg,thread=multi", "-machine", "pc", "-cpu", "qemu64",
        "-smp", str(cpus), "-m", str(_MEMORY_MIB),
        "-nographic", "-nodefaults", "-no-reboot",
        "-kernel", str(images.xen), "-append", _XEN_OPTIONS, "-initrd", dom0,
        "-chardev", f"file,id=console,path={_escaped(work.console)}",
        "-serial", "chardev:console",
        "-fsdev", f"local,id=host,path={_escaped(work.host)},security_model=none",
        "-device", "virtio-9p-pci,fsdev=host,mount_tag=host",
        "-device", "virtio-serial-pci", "-device", "virtconsole,chardev=channel",
    ]
    # fmt: on


def _escaped(path: Path) -> str:
    """Write a path as a part of QEMU's options."""
    return str(path).replace(",", ",,")


def _ending_with(parent: int) -> Callable[[], None]:
    """Have the kernel end a new process when the parent ends, however it does."""
    prctl = ctypes.CDLL(None).prctl

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return prepare
