"""Permission lists: who may read and write a node.

A list is a tuple of entries such as `n5`, `r0` (xenstore.txt SET_PERMS). The first
entry names the owner, and its letter is for everybody who is not listed; later entries
grant to one domain each, the first match wins. The owner has every right.
"""

from typing import Final, NamedTuple

from xenvirt.abi.ids import DOM0, DOMID_ANY
from xenvirt.errors import StoreError

READ: Final = 1
WRITE: Final = 2
OWN: Final = 4
ALL: Final = READ | WRITE | OWN

_LETTERS: Final = {"n": 0, "r": READ, "w": WRITE, "b": READ | WRITE}
_LETTER_OF: Final = {access: letter for letter, access in _LETTERS.items()}


class Perm(NamedTuple):
    """One entry.

    An ignored one named a domain that did not exist when it was set; it is listed, but
    grants nothing to a later domain with that domid (XSA-417).
    """

    access: int
    domid: int
    ignored: bool = False

    def __str__(self) -> str:
        return f"{_LETTER_OF[self.access]}{self.domid}"


Perms = tuple[Perm, ...]

DOM0_ONLY: Final[Perms] = (Perm(0, 0),)
READABLE_BY_ANY: Final[Perms] = (Perm(0, 0), Perm(READ, DOMID_ANY))


def parse_perm(text: str) -> Perm:
    """An entry from its wire form; raises StoreError EINVAL."""
    access, digits = _LETTERS.get(text[:1]), text[1:]
    if access is None or not (digits.isascii() and digits.isdigit()):
        raise StoreError("EINVAL")
    if len(digits) > 5 or int(digits) > 0xFFFF:
        raise StoreError("EINVAL")
    return Perm(access, int(digits))


def rights(perms: Perms, domid: int, target: int | None = None) -> int:
    """What `domid` may do; a device model also has the rights of its `target`."""
    if perms[0].domid in (domid, target):
        return ALL
    for entry in perms[1:]:
        if entry.domid in (domid, target, DOMID_ANY) and not entry.ignored:
            return entry.access
    return perms[0].access


def inherited(perms: Perms, creator: int | None) -> Perms:
    """The list of a new node below one with `perms`; a `creator` becomes its owner.

    None stands for a privileged creator, which leaves the owner as it is.
    """
    if creator is None or perms[0].domid == creator:
        return perms
    return (Perm(perms[0].access, creator), *perms[1:])


def names(perms: Perms, domid: int) -> bool:
    """Whether an entry of the list is about `domid`."""
    return any(entry.domid == domid for entry in perms)


def without(perms: Perms, domid: int) -> Perms:
    """The list without any right of `domid`; what it owned is dom0's."""
    owner, *grants = perms
    if owner.domid == domid:
        owner = Perm(owner.access, DOM0)
    return (owner, *(entry for entry in grants if entry.domid != domid))
