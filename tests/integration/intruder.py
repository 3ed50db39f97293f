"""A process as a domain's end is, that does what its end would never do.

It is forked as the launcher forks ends, so that it has an end's user, namespace and
capabilities, and its system calls are filtered or not.
"""

import ctypes
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.integration.links import Link, LinkMaker
from xenvirt.hypervisor.caller import uid_base
from xenvirt.netdev import user_namespaces
from xenvirt.toolstack.ends import Ends
from xenvirt.toolstack.hands import system_hands
from xenvirt.toolstack.rundir import RunDir

DONE: Final = "done"
"""What an attack comes to that nobody stopped."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def syscall(number: int, *arguments: int | bytes | None) -> int:
    """Make a system call; OSError."""
    words = [
        ctypes.c_char_p(word) if isinstance(word, bytes) else ctypes.c_long(word or 0)
        for word in arguments
    ]
    result = int(_libc.syscall(ctypes.c_long(number), *words))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


class _AreThere:
    """Namespaces that somebody else makes and deletes."""

    def create(self, name: str, ids: range, alias: str) -> None:
        """It is there."""

    def delete(self, name: str) -> None:
        """It stays."""

    def enter(self, name: str) -> None:
        """As the launcher's children do."""
        user_namespaces.enter(name)


@dataclass(frozen=True, slots=True)
class Intruder:
    """Attacks from inside of the domain of `link`; `filtered`: as its end is."""

    links: LinkMaker
    link: Link
    filtered: bool

    def tries(self, attack: Callable[[], object]) -> str:
        """What became of it: DONE, an errno's or an exception's name, `signal N`."""
        said = self.links.run_dir.parent / "said"
        said.touch()
        said.chmod(0o666)
        fd = os.open(said, os.O_WRONLY | os.O_TRUNC)
        os.close(fd)

        def run_end(role: str, domid: int, name: str, run_dir: str) -> int:
            with said.open("w") as file:
                file.write(_outcome(attack))
            return 0

        status = self._run(run_end)
        if os.WIFSIGNALED(status):
            return f"signal {os.WTERMSIG(status)}"
        return said.read_text()

    def _run(self, run_end: Callable[[str, int, str, str], int]) -> int:
        hands = replace(system_hands(), run_end=run_end, namespaces=_AreThere())
        if not self.filtered:
            hands = replace(hands, filter_calls=lambda: None)
        ends = Ends(RunDir(self.links.run_dir), hands, uid_base=uid_base())
        # Of namespaces it enters those that it knows as its own.
        ends.orders["netns_create"].handler(name=self.link.netns)
        made = ends.orders["spawn"].handler(
            role="frontend",
            domid=self.link.domid,
            name=self.link.name,
            netns=self.link.netns,
        )
        _, status = os.waitpid(int(str(made["pid"])), 0)
        return status


def _outcome(attack: Callable[[], object]) -> str:
    try:
        attack()
    except Exception as error:
        number = getattr(error, "errno", None)
        if isinstance(number, int):
            return errno.errorcode[number]
        return str(getattr(error, "errno_name", type(error).__name__))
    return DONE


def open_and_read(path: Path | str) -> bytes:
    """Something of a file, which may have no end."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, 1)
    finally:
        os.close(fd)
