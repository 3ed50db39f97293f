"""Which names Linux accepts for a network interface."""

from typing import Final

from xenvirt.errors import UsageError

IFNAME_MAX: Final = 15
"""Bytes: IFNAMSIZ (linux/if.h) less the terminating NUL."""


def check_ifname(name: str, *, what: str = "interface name") -> str:
    """Return `name`; raise UsageError, which calls it `what`, unless Linux takes it.

    The rule is the kernel's dev_valid_name(), and printable ASCII only: a name
    goes into logs and the store. `%` is left out because TUNSETIFF would take it
    for a pattern and make up another name.
    """
    if not 1 <= len(name) <= IFNAME_MAX:
        raise UsageError(
            f"{what} {name!r} has {len(name)} characters",
            cause=f"Linux takes 1 to {IFNAME_MAX}",
        )
    if name in (".", "..") or not all("!" <= c <= "~" and c not in "/:%" for c in name):
        raise UsageError(
            f"{what} {name!r} is not valid",
            cause="it may have printable ASCII without space, '/', ':' and '%'",
        )
    return name
