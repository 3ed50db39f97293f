"""An attacker that does nothing but notify: by descriptors taken from its process."""

import ctypes
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("event_storm.c")

_PIDFD_GETFD: Final = 438
_libc: Final = ctypes.CDLL(None, use_errno=True)


def compiled(directory: Path) -> Path:
    """The program that notifies."""
    program = directory / "event_storm"
    flags = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")
    subprocess.run(["gcc", *flags, "-o", str(program), str(SOURCE)], check=True)
    return program


class Storm:
    """`rate` is the notifications a second, once it is over."""

    rate = 0.0

    def __init__(self, program: Path) -> None:
        self._program = program

    @contextmanager
    def upon(self, fds: Sequence[int]) -> Iterator[None]:
        """Write to these eventfds meanwhile; to none of anybody's if there are none."""
        process = subprocess.Popen(
            [self._program, *map(str, fds)],
            pass_fds=fds, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        with process:
            assert process.stdout.readline() == "ready\n"
            try:
                yield
            finally:
                process.send_signal(signal.SIGTERM)
                written, nanoseconds = map(int, process.stdout.readline().split())
        self.rate = written / nanoseconds * 1e9


@contextmanager
def notifying(attacker: int, victim: int) -> Iterator[list[int]]:
    """The eventfds that process `attacker` has and the victim waits for."""
    waited_for = set()
    for _, info in _fdinfo(victim):
        waited_for |= {int(each) for each in re.findall(r"^tfd: *(\d+)", info, re.M)}
    theirs = {number for fd, number in _eventfds(victim) if fd in waited_for}
    fds = [
        _take(attacker, fd) for fd, number in _eventfds(attacker) if number in theirs
    ]
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


@contextmanager
def every_eventfd(pid: int) -> Iterator[list[int]]:
    """All that a process has: what it notifies others by, and is notified by."""
    fds = [_take(pid, fd) for fd, _ in _eventfds(pid)]
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def _eventfds(pid: int) -> Iterator[tuple[int, int]]:
    """A process's eventfds, and the kernel's number of what each is."""
    for fd, info in _fdinfo(pid):
        if found := re.search(r"^eventfd-id: *(\d+)", info, re.M):
            yield fd, int(found[1])


def _fdinfo(pid: int) -> Iterator[tuple[int, str]]:
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(OSError):  # It was closed since.
            yield int(path.name), path.read_text()


def _take(pid: int, fd: int) -> int:
    pidfd = os.pidfd_open(pid)
    try:
        taken = _libc.syscall(_PIDFD_GETFD, pidfd, fd, 0)
    finally:
        os.close(pidfd)
    if taken < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(taken)


def cpu_s(pid: int) -> float:
    """The CPU time that the threads of a process have used."""
    used = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # It has ended since.
            used += int((task / "schedstat").read_text().split()[0])
    return used / 1e9
