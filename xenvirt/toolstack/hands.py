"""What the launcher does its work with, so that tests can give it less."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Namespaces(Protocol):
    """What the launcher needs of `netdev.namespaces`."""

    def create(self, name: str) -> None:
        """Make a namespace; LocalError if the name is taken."""

    def delete(self, name: str) -> None:
        """Remove a namespace, if there is one."""

    def enter(self, name: str) -> None:
        """Move the calling thread into a namespace."""


class Taps(Protocol):
    """What the launcher needs of `netdev.links`."""

    def owned(self, owner: str) -> list[str]:
        """Name the host's interfaces that the daemon in `owner` had made."""

    def delete(self, name: str) -> None:
        """Delete an interface, if there is one."""


@dataclass(frozen=True, slots=True)
class Hands:
    """What the launcher does its work with.

    `reserve_taps(count)`, `drop_privileges(uid, gid, capabilities)` and
    `die_with_parent(signal)` are called in the child, then
    `run_end(role, domid, name, run_dir)`, which blocks and returns an exit status.
    """

    namespaces: Namespaces
    taps: Taps
    reserve_taps: Callable[[int], None]
    drop_privileges: Callable[[int, int, tuple[str, ...]], None]
    die_with_parent: Callable[[int], None]
    run_end: Callable[[str, int, str, str], int]


def system_hands() -> Hands:
    """Import what an end needs; for the launcher's process, before its first fork."""
    from xenvirt.native import drop_privileges, set_parent_death_signal
    from xenvirt.netdev import links, namespaces, netlink, tap
    from xenvirt.vif.main import run_end

    netlink.preload()
    return Hands(
        namespaces,
        links,
        tap.reserve,
        drop_privileges,
        set_parent_death_signal,
        run_end,
    )
