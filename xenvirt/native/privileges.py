"""Giving up what a process does not need: root, capabilities, readers of its memory."""

from collections.abc import Mapping, Sequence
from typing import Final

from xenvirt.native.extension import check, lib

CAPABILITIES: Final[Mapping[str, int]] = {
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SETPCAP": 8,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_ADMIN": 21,
}
"""Numbers of the capabilities that a process of ours may keep (capability.h)."""


def limit_capabilities(capabilities: Sequence[str]) -> None:
    """Stay root with nothing but `capabilities`, for good; OSError if refused."""
    check(lib.xv_limit_capabilities(_mask(capabilities)), "giving up capabilities")


def drop_privileges(uid: int, group: int, capabilities: Sequence[str]) -> None:
    """Become user and group `uid`, with one supplementary group, for good.

    Nothing but `capabilities` is left. OSError if refused.
    """
    result = lib.xv_drop_privileges(uid, group, _mask(capabilities))
    check(result, f"becoming uid {uid}")


def _mask(capabilities: Sequence[str]) -> int:
    return sum(1 << CAPABILITIES[name] for name in capabilities)


def keep_memory_private() -> None:
    """Let nobody but root look at the memory, in a core neither; until an exec."""
    check(lib.xv_keep_memory_private(), "keeping memory private")
