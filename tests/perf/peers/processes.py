"""The programs that a peer's link consists of: started, ready, and ended."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Final

from tests.perf.peers.link import Unavailable

READY_S: Final = 20.0
"""How long a program may take until it is ready."""


def require(program: str, package: str) -> str:
    """The path of a program. Raises Unavailable, with what to install."""
    path = shutil.which(program)
    if path is None:
        raise Unavailable(f"there is no {program}: apt-get install {package}")
    return path


@contextmanager
def running(log: IO[bytes], *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that writes into `log`; it ends with the block, and with us."""
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *command],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        # ^C is for us: we take the links down before their programs.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[bytes], log: IO[bytes]
) -> None:
    """Wait until a program is ready. Raises Unavailable, with what it has said."""
    deadline = time.monotonic() + READY_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            log.seek(0)
            said = log.read().decode(errors="replace").strip()[-500:]
            status = process.returncode
            state = "is not ready" if status is None else f"ended with {status}"
            raise Unavailable(f"{process.args!r} {state}: {said}")
        time.sleep(0.01)
