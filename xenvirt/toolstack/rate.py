"""A vif's `rate=`, as xl reads it (xl-network-configuration(5))."""

import re
from dataclasses import dataclass
from typing import Final

from xenvirt.errors import UsageError

_UINT32_MAX: Final = 0xFFFF_FFFF
_UINT64_MAX: Final = 0xFFFF_FFFF_FFFF_FFFF
_USECS_PER_S: Final = 1_000_000
_DEFAULT_INTERVAL_USECS: Final = 50_000

# A leading 0 means octal, as in the strtoull(…, 0) behind xl.
_NUMBER: Final = "(?P<number>0[0-7]*|[1-9][0-9]*)"
_RATE: Final = re.compile(_NUMBER + "(?P<multiplier>[GMK]?)(?P<unit>[Bb])/s")
_INTERVAL: Final = re.compile(_NUMBER + "(?P<unit>[mu]?)s?")

_MULTIPLIER: Final = {"": 1, "K": 1_000, "M": 1_000_000, "G": 1_000_000_000}
_BITS: Final = {"B": 8, "b": 1}
_USECS: Final = {"": _USECS_PER_S, "m": 1_000, "u": 1}

_HOW: Final = "write 10Mb/s or 250KB/s, and @20ms after it for another interval"


@dataclass(frozen=True, slots=True)
class Rate:
    """A credit of bytes that is handed out anew at every interval (microseconds)."""

    bytes_per_interval: int
    interval_usecs: int


def parse_rate(text: str) -> Rate:
    """Read `N[GMK]{B|b}/s[@N[{us|ms|s}]]`; multipliers are decimal, default @50ms.

    Raises UsageError for another syntax, for numbers of 0 or above 32 bits,
    and for a rate of less than a byte in an interval, at which nothing would pass.
    """
    speed, at, interval = text.partition("@")
    bytes_per_s = _bytes_per_s(text, speed)
    interval_usecs = _interval_usecs(text, interval) if at else _DEFAULT_INTERVAL_USECS

    product = bytes_per_s * interval_usecs
    if product > _UINT64_MAX:
        raise _error(text, "rate times interval does not fit into 64 bits")
    credit = product // _USECS_PER_S
    if credit == 0:
        raise _error(text, f"it is less than one byte in {interval_usecs} us")
    return Rate(credit, interval_usecs)


def _bytes_per_s(text: str, speed: str) -> int:
    match = _RATE.fullmatch(speed)
    if match is None:
        raise _error(text, f"{speed!r} is not N[GMK]{{B|b}}/s")
    bits = (
        _number(text, match) * _MULTIPLIER[match["multiplier"]] * _BITS[match["unit"]]
    )
    return bits // 8


def _interval_usecs(text: str, interval: str) -> int:
    match = _INTERVAL.fullmatch(interval)
    if match is None:
        raise _error(text, f"interval {interval!r} is not N[us|ms|s]")
    usecs = _number(text, match) * _USECS[match["unit"]]
    if usecs > _UINT32_MAX:
        raise _error(text, f"an interval is at most {_UINT32_MAX} us")
    return usecs


def _number(text: str, match: re.Match[str]) -> int:
    digits = match["number"]
    value = int(digits, 8 if digits.startswith("0") else 10)
    if not 1 <= value <= _UINT32_MAX:
        raise _error(text, f"{digits} is not within 1..{_UINT32_MAX}")
    return value


def _error(text: str, cause: str) -> UsageError:
    return UsageError(f"rate={text} is not a rate", cause=cause, hint=_HOW)
