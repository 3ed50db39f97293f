"""How many queues a vif has: what an end may have, offers, asks for; no I/O."""

import os
from collections.abc import Mapping
from errno import EINVAL
from typing import Final

from xenvirt.abi.netif import MAX_QUEUES_DEFAULT
from xenvirt.vif.features import MAX_QUEUES
from xenvirt.xenbus.device import DeviceFatalError

KEY: Final = "x-queues"
"""The key of an end's own node by which the toolstack limits it."""

_UINT32_DIGITS: Final = len(str(0xFFFFFFFF))


def default_limit() -> int:
    """What an end has that was told nothing: one for each CPU that it may use."""
    return min(len(os.sched_getaffinity(0)), MAX_QUEUES_DEFAULT)


def limit(text: str | None) -> int:
    """The most queues that an end is to have, by its own `x-queues`.

    DeviceFatalError for what is no number from 1 to 8.
    """
    if text is None:
        return default_limit()
    number = decimal(text)
    if number is None or not 1 <= number <= MAX_QUEUES_DEFAULT:
        raise DeviceFatalError(
            EINVAL, f"{KEY} {text} is not within 1..{MAX_QUEUES_DEFAULT}"
        )
    return number


def offered(keys: Mapping[str, str | None]) -> int | None:
    """How many queues the backend takes; None if it knows only one and no number.

    Whatever else it wrote counts as 1, as xenbus_read_unsigned has it.
    """
    text = keys.get(MAX_QUEUES)
    return None if text is None else decimal(text) or 1


def path(number: int, count: int) -> str:
    """What stands before the names of a queue's keys: nothing if it is the only one."""
    return f"queue-{number}/" if count > 1 else ""


def decimal(text: str) -> int | None:
    """The number that `text` is, or None: the other end may have written anything."""
    if text.isascii() and text.isdigit() and len(text) <= _UINT32_DIGITS:
        return int(text)
    return None
