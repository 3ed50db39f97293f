"""How the arguments of requests become bytes, and replies become values."""

from collections.abc import Iterable
from typing import Final

from xenvirt.errors import StoreError
from xenvirt.xenstore.errors import (
    StoreAgainError,
    StoreInvalidError,
    StoreProtocolError,
)
from xenvirt.xenstore.perms import Perm, Perms, parse_perm

Value = str | bytes

MAX_RESTARTS: Final = 100
"""How often a listing in parts begins anew before it gives up."""


def strings(*parts: object) -> bytes:
    """Each argument as text, ended by a NUL.

    Raises StoreInvalidError about the first one if any holds a NUL, or what is
    not text: the store would take it for something else.
    """
    encoded = [encode_text(str(part), about=str(parts[0])) for part in parts]
    if any(b"\0" in part for part in encoded):
        raise StoreInvalidError("EINVAL", str(parts[0]))
    return b"".join(part + b"\0" for part in encoded)


def write(path: str, value: Value) -> bytes:
    """The payload of WRITE."""
    data = encode_text(value, about=path) if isinstance(value, str) else value
    return strings(path) + data


def set_perms(path: str, perms: Iterable[Perm | str]) -> bytes:
    """The payload of SET_PERMS."""
    return strings(path, *perms)


def encode_text(text: str, *, about: str) -> bytes:
    """The bytes of a text, those that `text` has kept included."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise StoreInvalidError("EINVAL", about) from error


def text(value: bytes) -> str:
    """A value as text; bytes that are not UTF-8 survive a round trip."""
    return value.decode("utf-8", "surrogateescape")


def parse_strings(payload: bytes) -> list[str]:
    """The strings of a reply, each ended by a NUL."""
    return [text(part) for part in payload.split(b"\0")[:-1]]


def parse_string(payload: bytes) -> str:
    """The one string of a reply; its NUL may be missing."""
    return text(payload.rstrip(b"\0"))


def parse_number(payload: bytes) -> int:
    """A decimal number; raises StoreProtocolError."""
    digits = payload.rstrip(b"\0")
    if not digits.isdigit():
        raise _unreadable("a number", payload)
    return int(digits)


def parse_perms(payload: bytes) -> Perms:
    """The reply to GET_PERMS; raises StoreProtocolError."""
    try:
        perms = tuple(parse_perm(entry) for entry in parse_strings(payload))
    except StoreError as error:
        raise _unreadable("permissions", payload) from error
    if not perms:
        raise _unreadable("permissions", payload)
    return perms


def parse_event(payload: bytes) -> tuple[str, str]:
    """Path and token of a WATCH_EVENT; raises StoreProtocolError."""
    parts = parse_strings(payload)
    if len(parts) != 2:
        raise _unreadable("a watch event", payload)
    return parts[0], parts[1]


class PartialListing:
    """The children of a directory, collected from DIRECTORY_PART replies.

    Ask for the part at `offset` until `add` returns true.
    """

    def __init__(self, path: str = "") -> None:
        self._path = path
        self._generation: bytes | None = None
        self._names = b""
        self._restarts = 0

    @property
    def offset(self) -> int:
        """Bytes of names that have been collected."""
        return len(self._names)

    def add(self, payload: bytes) -> bool:
        """Take a reply; starts over if the directory has changed in between.

        Raises StoreAgainError after `MAX_RESTARTS` such changes, StoreProtocolError.
        """
        generation, nul, names = payload.partition(b"\0")
        if not (nul and names):
            raise _unreadable("a part of a directory", payload)
        if self._generation not in (None, generation):
            self._restarts += 1
            if self._restarts > MAX_RESTARTS:
                raise StoreAgainError("EAGAIN", self._path)
            self._generation, self._names = None, b""
            return False
        self._generation = generation
        self._names += names
        return names == b"\0" or names.endswith(b"\0\0")

    def children(self) -> list[str]:
        """The names, when `add` has returned true."""
        return parse_strings(self._names[:-1])


def _unreadable(what: str, payload: bytes) -> StoreProtocolError:
    return StoreProtocolError(f"the store sent {payload[:64]!r} for {what}")
