"""What to do when there is no more of something, by the words that say so."""

import errno
import os
from typing import Final

_OF_THE_KERNEL: Final = {
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

_REMEDIES: Final = {
    **{os.strerror(number): hint for number, hint in _OF_THE_KERNEL.items()},
    "queues of this domain are in use": "queues=N takes fewer for each vif; another "
    "domain has as many of its own",
}


def remedy(what: str) -> str:
    """Return what to do about an error that says what is used up; "" for any other."""
    return next((hint for words, hint in _REMEDIES.items() if words in what), "")
