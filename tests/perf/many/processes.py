"""What the processes of a daemon hold and use, counted by the kernel."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

_PRIVATE: Final = re.compile(r"^Private_(?:Clean|Dirty): +(\d+) kB$", re.MULTILINE)
_MEMFD: Final = "/memfd:"
_BLOCK: Final = 512
"""Bytes, of st_blocks."""


def private_kib(smaps: str) -> int:
    """What is one process's alone, from /proc/PID/smaps_rollup."""
    return sum(map(int, _PRIVATE.findall(smaps)))


def private_of(pids: Iterable[int]) -> int:
    """The same of several, in KiB."""
    return sum(
        private_kib(Path(f"/proc/{pid}/smaps_rollup").read_text()) for pid in pids
    )


def shared_of(pids: Iterable[int]) -> float:
    """The pages of all the memfds that they hold, each counted once, in KiB."""
    blocks = {}
    for pid in pids:
        for path in Path(f"/proc/{pid}/fd").iterdir():
            # One that has just been closed, as that of this very directory, is none.
            with suppress(FileNotFoundError):
                if os.readlink(path).startswith(_MEMFD):
                    stat = path.stat()
                    blocks[stat.st_ino] = stat.st_blocks
    return sum(blocks.values()) * _BLOCK / 1024


def cpu_ns(pids: Iterable[int]) -> int:
    """The CPU time that all their threads have had, which ticks would miss."""
    return sum(
        int(path.read_text().split()[0])
        for pid in pids
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat")
    )


def family(pid: int) -> list[int]:
    """The parent of a process, and all the children of that parent."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    parent = int(stat.rpartition(")")[2].split()[1])
    text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [parent, *map(int, text.split())]
