"""Paths: which are valid, what a relative one means, what lies above another.

Rules: docs/misc/xenstore.txt "Xenstore key values, paths"; limits: xs_wire.h. Inside
this package a path is always canonical: absolute, without a trailing slash.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from xenvirt.abi.xs_wire import XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX
from xenvirt.errors import StoreError

ROOT: Final = "/"
DOMAIN_ROOT: Final = "/local/domain"

_NAME: Final = "[A-Za-z0-9@_-]+"
_is_absolute = re.compile(f"/(?:{_NAME}(?:/{_NAME})*)?").fullmatch
_is_special = re.compile(f"@{_NAME}(?:/[0-9]+)?").fullmatch
_own_prefix = re.compile(f"{DOMAIN_ROOT}/[0-9]{{1,5}}/").match


def domain_path(domid: int) -> str:
    """Where a domain's own nodes are, and its relative paths begin."""
    return f"{DOMAIN_ROOT}/{domid}"


@lru_cache(maxsize=8192)
def canonical(path: str, domid: int) -> str:
    """The absolute form of a path that `domid` sent.

    Raises StoreError EINVAL: forbidden character, empty component, or longer than
    3072 bytes (absolute) or 2048 bytes (relative).
    """
    if path.startswith("/"):
        absolute = path
    elif len(path) <= XENSTORE_REL_PATH_MAX and not path.startswith("@"):
        absolute = f"{domain_path(domid)}/{path}"
    else:
        raise StoreError("EINVAL")
    if len(absolute) > XENSTORE_ABS_PATH_MAX or not _is_absolute(absolute):
        raise StoreError("EINVAL")
    return absolute


def canonical_or_special(path: str, domid: int) -> str:
    """`canonical`, but names such as `@releaseDomain` pass; for watches and perms."""
    if not path.startswith("@"):
        return canonical(path, domid)
    if len(path) > XENSTORE_REL_PATH_MAX or not _is_special(path):
        raise StoreError("EINVAL")
    return path


def is_special(path: str) -> bool:
    """Whether the path names an event (`@introduceDomain`) and not a node."""
    return path.startswith("@")


def is_relative(path: str) -> bool:
    """Whether a path as sent means one below the sender's own domain path."""
    return not path.startswith(("/", "@"))


def quota_length(path: str) -> int:
    """The bytes of a canonical path that count: all after `/local/domain/N/`."""
    prefix = _own_prefix(path)
    return len(path) - (prefix.end() if prefix else 0)


def parent(path: str) -> str:
    """The path one level up; the root is its own parent."""
    return path[: path.rfind("/")] or ROOT


def join(directory: str, name: str) -> str:
    """The path of a child."""
    return f"/{name}" if directory == ROOT else f"{directory}/{name}"


def ancestors(path: str) -> Iterator[str]:
    """Every path above this one, the nearest first, the root last."""
    while path != ROOT:
        path = parent(path)
        yield path
