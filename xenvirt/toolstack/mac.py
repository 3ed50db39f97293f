"""Ethernet addresses of vifs."""

import re
import secrets
from typing import Final

from xenvirt.errors import UsageError

XEN_OUI: Final = "00:16:3e"
"""The prefix from which Xen's toolstacks draw."""

_MAC: Final = re.compile("[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_HOW: Final = f"write {XEN_OUI}:12:34:56, or leave mac= out for a random one"


def parse_mac(text: str) -> str:
    """Return it in lower case; raise UsageError unless an interface can have it."""
    if _MAC.fullmatch(text) is None:
        raise UsageError(
            f"mac={text} is not a MAC address",
            cause="it is not six pairs of hex digits with colons between",
            hint=_HOW,
        )
    if int(text[:2], 16) & 1:
        raise UsageError(
            f"mac={text} cannot be an interface's",
            cause="bit 0 of the first pair says multicast",
            hint=_HOW,
        )
    if int(text.replace(":", ""), 16) == 0:
        raise UsageError(
            f"mac={text} cannot be an interface's", cause="it is all zero", hint=_HOW
        )
    return text.lower()


def random_mac() -> str:
    """Draw an address as libxl does: Xen's OUI, and a 24th bit that is 0."""
    tail = secrets.randbits(23)
    return ":".join([XEN_OUI, *(f"{tail >> shift & 0xFF:02x}" for shift in (16, 8, 0))])
