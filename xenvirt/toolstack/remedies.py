"""What to do when the kernel has no more of something, by the words that it uses."""

import errno
import os
from typing import Final

_REMEDIES: Final = {
    errno.EMFILE: "prlimit --nofile=65536 --pid PID raises the limit of a process; "
    "xenvirt list and xenvirt show tell who is who",
    errno.ENFILE: "sysctl fs.file-max=N raises the host's limit",
    errno.ENOMEM: "free -m tells what is left; a cgroup may have a limit of its own "
    "(memory.max)",
    errno.EFBIG: "prlimit --fsize=unlimited --pid PID raises the limit of a process",
    errno.ENOSPC: "df tells which file system is full; --run-dir takes another one",
    errno.EAGAIN: "there are too many processes or threads: see ulimit -u and the "
    "cgroup's pids.max",
}


def remedy(what: str) -> str:
    """Return what to do about an error that says what is used up; "" for any other."""
    return next(
        (hint for number, hint in _REMEDIES.items() if os.strerror(number) in what), ""
    )
