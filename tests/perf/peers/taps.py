"""Two TAPs that a program has made in this namespace, as a link."""

import subprocess
from collections.abc import Sequence
from typing import IO

from tests.perf.peers.link import Link, run
from tests.perf.peers.processes import wait_until


def exists(device: str, netns: str | None = None) -> bool:
    """Whether there is such an interface."""
    where = () if netns is None else ("-n", netns)
    command = ["ip", *where, "link", "show", device]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def link_of_taps(
    number: int,
    netns: str,
    taps: tuple[str, str],
    process: subprocess.Popen[bytes],
    log: IO[bytes],
    pids: Sequence[int] = (),
) -> Link:
    """Wait for a program's TAPs, move the far one to its namespace, and go up.

    Raises Unavailable when the program does not make them.
    """
    near, far = taps
    wait_until(lambda: exists(near) and exists(far), process, log)
    run("ip", "link", "set", far, "netns", netns)
    link = Link(number, netns, near, far, pids=pids or [process.pid])
    link.configure()
    return link
