"""A domU that a test in dom0 makes, and types commands into.

Its init leaves a shell on the console that says nothing of its own, so what a command
writes is all there is between two marks.
"""

import contextlib
import os
import re
import select
import shlex
import shutil
import subprocess
import time
import tty
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

_BOOT: Final = Path("/boot")
_KERNEL: Final = "vmlinux"
_SMALL: Final = "domu.cpio"
_PYTHON: Final = "domu-python.cpio"
_MEMORY_MIB: Final = {_SMALL: 128, _PYTHON: 512}

_CREATE_TIMEOUT_S: Final = 60
_BOOT_TIMEOUT_S: Final = 120
_RETRY_S: Final = 0.5
_BLOCK: Final = 65536
_END_LENGTH: Final = 64
"""No end of a command's output is longer."""
_INTERRUPT: Final = b"\x03"


class GuestError(Exception):
    """A guest, or a command in it, did not do as it should; says what it wrote."""


@dataclass(frozen=True, slots=True)
class Background:
    """A command that goes on in a guest."""

    pid: int
    """The guest's number for it; it leads a process group."""
    output: str
    """The file, in the guest, of all that it writes."""


class Guest:
    """A running domU; a context manager, which destroys it."""

    def __init__(self, name: str, domid: int, console: int) -> None:
        self.name = name
        self.domid = domid
        self._console = console
        self._log = _log_path(name)

    @classmethod
    def create(
        cls,
        name: str,
        vifs: Sequence[str],
        *,
        python: bool = False,
        netfront: bool = True,
        memory_mib: int | None = None,
    ) -> "Guest":
        """Start a domain and wait for its shell.

        Each of `vifs` is as in xl's configuration. With `python` there are Python and
        xenvirt in it; without `netfront` the kernel's frontend is left out.
        """
        image = _PYTHON if python else _SMALL
        config = Path(f"/run/{name}.cfg")
        config.write_text(
            f'name = "{name}"\n'
            'type = "pv"\n'
            f'kernel = "{_local(_KERNEL)}"\n'
            f'ramdisk = "{_local(image)}"\n'
            'extra = "console=hvc0 rdinit=/init loglevel=4 net.ifnames=0 '
            f'rootfstype=ramfs netfront={netfront:d}"\n'
            f"memory = {memory_mib or _MEMORY_MIB[image]}\n"
            "vcpus = 1\n"
            f"vif = {list(vifs)}\n"
            'on_crash = "destroy"\n'
            'on_reboot = "destroy"\n'
        )
        _log_path(name).unlink(missing_ok=True)
        _xl("create", str(config), timeout_s=_CREATE_TIMEOUT_S)
        domid = int(_xl("domid", name))
        try:
            guest = cls(name, domid, _open_console(domid))
        except BaseException:
            _xl("destroy", str(domid))
            raise
        try:
            guest._wait_for_shell()
        except BaseException:
            guest.destroy()
            raise
        return guest

    def run(self, command: str, timeout_s: float = 30, check: bool = True) -> str:
        """Run a shell command, which can read nothing, and return what it writes.

        Each has a shell of its own. Raises GuestError when it takes longer, in which
        case it is interrupted, and unless it exits with 0 or `check` is False.
        """
        output, status = self._execute(command, timeout_s)
        if check and status != 0:
            raise GuestError(
                f"{self.name}: exit status {status} of {command}\n{output}"
            )
        return output

    def start(self, command: str) -> Background:
        """Have a shell command go on in the background."""
        output = f"/tmp/{uuid.uuid4().hex}.out"
        quoted = shlex.quote(command)
        pid = self.run(f"setsid sh -c {quoted} </dev/null >{output} 2>&1 & echo $!")
        return Background(int(pid), output)

    def destroy(self) -> None:
        """End the domain at once, if it has not ended."""
        with contextlib.suppress(OSError):
            os.close(self._console)
        try:
            _xl("destroy", str(self.domid))
        except GuestError:
            if _exists(self.domid):
                raise

    def console(self) -> str:
        """Return all that the guest has written on its console."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def __enter__(self) -> "Guest":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.destroy()

    def _wait_for_shell(self) -> None:
        # What is typed too early is lost, or comes back as it is: it must not be what
        # a shell makes of it.
        mark = _new_mark()
        typed = b"\necho %s\n" % b"''".join((mark[:16], mark[16:]))
        deadline = time.monotonic() + _BOOT_TIMEOUT_S
        seen = bytearray()
        retry = 0.0
        while mark not in seen:
            now = time.monotonic()
            if now > deadline:
                raise GuestError(f"{self.name} has no shell\n{self.console()}")
            if now > retry:
                self._type(typed)
                retry = now + _RETRY_S
            seen += self._read(retry)

    def _execute(self, command: str, timeout_s: float) -> tuple[str, int]:
        mark = _new_mark()
        begin = mark + b"\n"
        end = re.compile(rb"\n%s (\d+)\.\n" % mark)
        self._type(
            rb"echo %s; sh -c %s </dev/null 2>&1; printf '\n%s %%d.\n' $?"
            b"\n" % (mark, shlex.quote(command).encode(), mark)
        )
        deadline = time.monotonic() + timeout_s
        seen = bytearray()
        while (data := self._read(deadline)) != b"":
            seen += data
            recent = len(seen) - len(data) - _END_LENGTH
            if found := end.search(seen, max(0, recent)):
                output = seen[seen.index(begin) + len(begin) : found.start()]
                return output.decode(errors="replace"), int(found[1])
        self._type(_INTERRUPT)
        self._wait_for_shell()
        _, _, output = seen.partition(begin)
        raise GuestError(
            f"{self.name}: not done after {timeout_s:g} s: {command}\n"
            f"{output.decode(errors='replace')}"
        )

    def _type(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._console, data) :]

    def _read(self, deadline: float) -> bytes:
        """Return what there is to read, b"" for nothing by the deadline."""
        timeout_s = max(0, deadline - time.monotonic())
        if not select.select([self._console], [], [], timeout_s)[0]:
            return b""
        with contextlib.suppress(OSError):
            if data := os.read(self._console, _BLOCK):
                return data
        raise GuestError(f"{self.name} has ended\n{self.console()}")


def _new_mark() -> bytes:
    return uuid.uuid4().hex.encode()


def _log_path(name: str) -> Path:
    return Path(f"/var/log/xen/console/guest-{name}.log")


def _open_console(domid: int) -> int:
    """Open what xenconsoled has for the domain's console."""
    done = subprocess.run(
        ["xenstore-read", f"/local/domain/{domid}/console/tty"],
        check=True,
        capture_output=True,
        text=True,
    )
    console = os.open(done.stdout.strip(), os.O_RDWR | os.O_NOCTTY)
    tty.setraw(console)
    return console


def _local(name: str) -> Path:
    """Have a file in dom0's memory: Xen's tools read it page by page."""
    path = _BOOT / name
    if path.is_symlink():
        copy = path.with_suffix(".copy")
        shutil.copyfile(path, copy)
        copy.replace(path)
    return path


def _exists(domid: int) -> bool:
    done = subprocess.run(["xl", "list", str(domid)], capture_output=True)
    return done.returncode == 0


def _xl(*arguments: str, timeout_s: float = 30) -> str:
    try:
        done = subprocess.run(
            ["xl", *arguments], capture_output=True, text=True, timeout=timeout_s
        )
    except subprocess.TimeoutExpired as late:
        raise GuestError(f"xl {' '.join(arguments)}: {late}") from None
    if done.returncode != 0:
        raise GuestError(f"xl {' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout
