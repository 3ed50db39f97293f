"""What the launcher does its work with, so that tests can give it less."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Namespaces(Protocol):
    """What the launcher needs of `netdev.user_namespaces`."""

    def create(self, name: str, ids: range, alias: str) -> None:
        """Make a namespace for processes of users `ids`; LocalError if it is there."""

    def delete(self, name: str) -> None:
        """Remove a namespace, if there is one."""

    def enter(self, name: str) -> None:
        """Move the calling process into a namespace, for good."""


class Taps(Protocol):
    """What the launcher needs of `netdev.links`."""

    def owned(self, owner: str) -> list[str]:
        """Name the host's interfaces that the daemon in `owner` had made."""

    def delete(self, name: str) -> None:
        """Delete an interface, if there is one."""


@dataclass(frozen=True, slots=True)
class Hands:
    """What the launcher does its work with.

    `reserve_taps(count)`, `drop_privileges(uid, group, capabilities)`,
    `die_with_parent(signal)` and `filter_calls()` are called in the child, then
    `run_end(role, domid, name, run_dir)`, which blocks and returns an exit status.
    """

    namespaces: Namespaces
    taps: Taps
    reserve_taps: Callable[[int], None]
    drop_privileges: Callable[[int, int, tuple[str, ...]], None]
    die_with_parent: Callable[[int], None]
    filter_calls: Callable[[], None]
    run_end: Callable[[str, int, str, str], int]


def system_hands() -> Hands:
    """Import what an end needs; for the launcher's process, before its first fork."""
    from xenvirt.native.privileges import drop_privileges
    from xenvirt.native.process import set_parent_death_signal
    from xenvirt.netdev import links, netlink, tap, user_namespaces
    from xenvirt.toolstack.confinement import filter_end
    from xenvirt.vif.main import run_end

    netlink.preload()
    return Hands(
        user_namespaces,
        links,
        tap.reserve,
        drop_privileges,
        set_parent_death_signal,
        filter_end,
        run_end,
    )
