"""The types of a hypercall's arguments, checked before anything else looks at them.

Each check returns the value or raises EINVAL in words that name argument, value and
bound.
"""

from collections.abc import Callable, Mapping
from typing import Final

from xenvirt.abi.ids import DOMID_FIRST_RESERVED
from xenvirt.errors import HypercallError
from xenvirt.hypervisor.evtchn import NR_PORTS
from xenvirt.hypervisor.published import MAX_QUEUES
from xenvirt.hypervisor.wire import JSON_TYPE

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
