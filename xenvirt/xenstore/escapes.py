"""How xenstore-* shows the bytes of a value, and reads them (Xen's xs_lib.c)."""

import re
from typing import Final

_NAMED: Final = {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r", 0x5C: "\\\\"}
_OF_NAME: Final = {b"t": b"\t", b"n": b"\n", b"r": b"\r"}
_ESCAPE: Final = re.compile(
    rb"\\(?:x(?P<hex>[0-9a-fA-F]{1,2})|(?P<octal>[0-7]{1,3})|(?P<other>.?))", re.DOTALL
)


def escape(value: bytes) -> str:
    """Return printable ASCII: `\\t`, `\\n`, `\\r`, `\\\\`, octal below 8, else hex."""
    return "".join(map(_escaped, value))


def unescape(text: str) -> bytes:
    """Return the bytes that `escape` shows as `text`; other escapes are themselves."""
    return _ESCAPE.sub(_unescaped, text.encode("utf-8", "surrogateescape"))


def _escaped(byte: int) -> str:
    if byte in _NAMED:
        return _NAMED[byte]
    if 0x20 <= byte <= 0x7E:
        return chr(byte)
    return f"\\{byte:03o}" if byte < 8 else f"\\x{byte:02x}"


def _unescaped(match: re.Match[bytes]) -> bytes:
    if match["hex"] is not None:
        return bytes([int(match["hex"], 16)])
    if match["octal"] is not None:
        return bytes([int(match["octal"], 8) & 0xFF])
    return _OF_NAME.get(match["other"], match["other"])
