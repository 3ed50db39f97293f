"""The types of a hypercall's arguments, checked before anything else looks at them.

Each check returns the value or raises EINVAL in words that name argument, value and
bound.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

from xenvirt.abi.ids import DOMID_FIRST_RESERVED
from xenvirt.errors import HypercallError
from xenvirt.hypervisor.evtchn import NR_PORTS
from xenvirt.hypervisor.published import MAX_QUEUES
from xenvirt.hypervisor.wire import JSON_TYPE

_SESSION: Final = re.compile("[0-9a-f]{32}")

Check = Callable[[str, object], object]

MAX_DEVID: Final = 0xFFFF


def number(low: int, high: int) -> Callable[[str, object], int]:
    """Return a check for a whole number of `low` to `high`, both included."""

    def check(name: str, value: object) -> int:
        # To Python True is a number too.
        if not isinstance(value, int) or isinstance(value, bool):
            raise HypercallError(
                "EINVAL", f"{name} is {JSON_TYPE[type(value)]}, not a whole number"
            )
        if not low <= value <= high:
            raise HypercallError("EINVAL", f"{name} {value} is not in {low}..{high}")
        return value

    return check


def text(name: str, value: object) -> str:
    """Check for a string."""
    if not isinstance(value, str):
        raise HypercallError(
            "EINVAL", f"{name} is {JSON_TYPE[type(value)]}, not a string"
        )
    return value


def mapping(name: str, value: object) -> dict[str, object]:
    """Check for an object."""
    if not isinstance(value, dict):
        raise HypercallError(
            "EINVAL", f"{name} is {JSON_TYPE[type(value)]}, not an object"
        )
    return value


def flag(name: str, value: object) -> bool:
    """Check for a truth value."""
    if not isinstance(value, bool):
        raise HypercallError(
            "EINVAL", f"{name} is {JSON_TYPE[type(value)]}, not a truth value"
        )
    return value


def domain_uuid(name: str, value: object) -> str | None:
    """Check for a UUID as text, or null."""
    if value is None:
        return None
    try:
        return str(UUID(text(name, value)))
    except ValueError:
        raise HypercallError("EINVAL", f"{name} {value!r} is no UUID") from None


def session(name: str, value: object) -> str:
    """Check for the name of a session, which nobody could guess."""
    if not _SESSION.fullmatch(text(name, value)):
        raise HypercallError("EINVAL", f"{name} is not 32 hexadecimal digits")
    return str(value)


def side(name: str, value: object) -> str:
    """Check for `front` or `back`."""
    if value not in ("front", "back"):
        raise HypercallError("EINVAL", f"{name} is neither front nor back")
    return str(value)


domid: Final = number(0, DOMID_FIRST_RESERVED - 1)
port: Final = number(1, NR_PORTS - 1)
devid: Final = number(0, MAX_DEVID)
queue: Final = number(0, MAX_QUEUES - 1)
index: Final = number(0, 2**31 - 1)
serial: Final = number(0, 2**53)


def parse(
    op: str, given: Mapping[str, object], checks: Mapping[str, Check]
) -> dict[str, object]:
    """Return the checked arguments of `op`: all that it takes and no others."""
    for name in given:
        if name not in checks:
            raise HypercallError("EINVAL", f"{op} takes no argument {name!r}")
    missing = [name for name in checks if name not in given]
    if missing:
        raise HypercallError("EINVAL", f"{op} needs {' and '.join(missing)}")
    return {name: check(name, given[name]) for name, check in checks.items()}
