"""Permission lists: who may read and write a node.

A list is a tuple of entries such as `n5`, `r0` (xenstore.txt SET_PERMS). The first
entry names the owner, and its letter is for everybody who is not listed; later entries
grant to one domain each, the first match wins. The owner has every right.
"""

from enum import IntFlag
from typing import Final, NamedTuple

from xenvirt.errors import StoreError


class Access(IntFlag):
    """What an entry grants."""

    NONE = 0
    READ = 1
    WRITE = 2
    BOTH = 3


_LETTERS: Final = {
    "n": Access.NONE,
    "r": Access.READ,
    "w": Access.WRITE,
    "b": Access.BOTH,
}
_LETTER_OF: Final = {access: letter for letter, access in _LETTERS.items()}


class Perm(NamedTuple):
    """One entry: what, and to which domain."""

    access: Access
    domid: int

    def __str__(self) -> str:
        return f"{_LETTER_OF[self.access]}{self.domid}"


Perms = tuple[Perm, ...]


def parse_perm(text: str) -> Perm:
    """An entry from its wire form; raises StoreError EINVAL."""
    access, digits = _LETTERS.get(text[:1]), text[1:]
    if access is None or not (digits.isascii() and digits.isdigit()):
        raise StoreError("EINVAL")
    if len(digits) > 5 or int(digits) > 0xFFFF:
        raise StoreError("EINVAL")
    return Perm(access, int(digits))
