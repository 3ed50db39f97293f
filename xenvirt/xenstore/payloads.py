"""What both clients put into requests and find in replies."""

from collections.abc import Iterable

from xenvirt.xenstore.perms import Perm, Perms, parse_perm

Value = str | bytes


def strings(*parts: object) -> bytes:
    """Each argument as text, ended by a NUL."""
    return b"".join(str(part).encode() + b"\0" for part in parts)


def write(path: str, value: Value) -> bytes:
    """The payload of WRITE."""
    return strings(path) + (value.encode() if isinstance(value, str) else value)


def set_perms(path: str, perms: Iterable[Perm | str]) -> bytes:
    """The payload of SET_PERMS."""
    return strings(path, *perms)


def text(value: bytes) -> str:
    """A value as text; bytes that are not UTF-8 survive a round trip."""
    return value.decode("utf-8", "surrogateescape")


def parse_strings(payload: bytes) -> list[str]:
    """The strings of a reply, each ended by a NUL."""
    return [text(part) for part in payload.split(b"\0")[:-1]]


def parse_perms(payload: bytes) -> Perms:
    """The reply to GET_PERMS."""
    return tuple(parse_perm(entry) for entry in parse_strings(payload))


def parse_event(payload: bytes) -> tuple[str, str]:
    """Path and token of a WATCH_EVENT."""
    path, token = parse_strings(payload)[:2]
    return path, token


class PartialListing:
    """The children of a directory, collected from DIRECTORY_PART replies.

    Ask for the part at `offset` until `add` returns true.
    """

    def __init__(self) -> None:
        self._generation: bytes | None = None
        self._names = b""

    @property
    def offset(self) -> int:
        """Bytes of names that have been collected."""
        return len(self._names)

    def add(self, payload: bytes) -> bool:
        """Take a reply; starts over if the directory has changed in between."""
        generation, _, names = payload.partition(b"\0")
        if self._generation not in (None, generation):
            self._generation, self._names = None, b""
            return False
        self._generation = generation
        self._names += names
        return names == b"\0" or names.endswith(b"\0\0")

    def children(self) -> list[str]:
        """The names, when `add` has returned true."""
        return parse_strings(self._names[:-1])
