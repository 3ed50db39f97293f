"""Two TAPs and the plainest C program between them: what TAPs allow."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.perf.peers.link import Link, namespace, run
from tests.perf.peers.processes import running
from tests.perf.peers.taps import link_of_taps

SOURCE: Final = Path(__file__).parent / "tap_relay.c"


@contextmanager
def relay(number: int) -> Iterator[Link]:
    """Built anew, and run as one process that sleeps when there is no frame."""
    taps = (f"rb{number}a", f"rb{number}b")
    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryFile() as log:
        program = f"{directory}/tap_relay"
        run("cc", "-O2", "-o", program, str(SOURCE))
        with namespace(number) as netns, running(log, program, *taps) as process:
            yield link_of_taps(number, netns, taps, process, log)
