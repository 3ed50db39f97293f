"""The strings in a request's payload, each ended by a NUL."""

from xenvirt.errors import StoreError


def strings(payload: bytes, at_least: int, at_most: int | None = None) -> list[bytes]:
    """The payload's strings; raises StoreError EINVAL for a wrong count or no NUL."""
    found = payload.split(b"\0")
    if found.pop():
        raise StoreError("EINVAL")
    if len(found) < at_least or len(found) > (at_most or len(found)):
        raise StoreError("EINVAL")
    return found


def one_string(payload: bytes) -> str:
    """The only string of the payload; raises StoreError EINVAL."""
    if not payload or payload.find(b"\0") != len(payload) - 1:
        raise StoreError("EINVAL")
    return text(payload[:-1])


def text(raw: bytes) -> str:
    """An argument that can only be ASCII; raises StoreError EINVAL."""
    if not raw.isascii():
        raise StoreError("EINVAL")
    return raw.decode("ascii")


def number(raw: bytes, largest: int) -> int:
    """A decimal of 0..largest; raises StoreError EINVAL."""
    if not raw.isdigit() or len(raw) > 20 or int(raw) > largest:
        raise StoreError("EINVAL")
    return int(raw)


def domid(raw: bytes) -> int:
    """A domid as text, decimal 0..65535; raises StoreError EINVAL."""
    return number(raw, 0xFFFF)
