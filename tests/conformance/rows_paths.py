"""protocol.md 5.3 and 5.4: which paths are valid, and for whom."""

from typing import Final

from tests.conformance.differences import Reason
from tests.conformance.table import (
    DOM0,
    GUEST,
    HOME,
    OK,
    Differs,
    Event,
    NotAsked,
    Row,
    Who,
    directory,
    read,
    rows,
    write,
    z,
)
from tests.conformance.wire import XS

ALLOWED: Final = (
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz", "0123456789",
    "-_@", "-", "@", "a@b", "@a",
)  # fmt: skip

FORBIDDEN: Final = b"\x01\t\n\x1f !\"#$%&'()*+,.:;<=>?[\\]^`{|}~\x7f\x80\xc3\xff"

CHARACTERS: Final = (
    *(
        Row(
            f"a name may be {name}",
            DOM0, XS.WRITE, z(f"/{name}") + b"v", OK, then=(read(f"/{name}", b"v"),),
        )
        for name in ALLOWED
    ),
    *(
        Row(
            f"no name holds {bytes([code])!r}",
            DOM0, XS.WRITE, z(b"/a" + bytes([code]) + b"b") + b"v", "EINVAL",
        )
        for code in FORBIDDEN
    ),
)  # fmt: skip

SHAPES: Final = tuple(
    Row(
        f"{type_.name} of {what}",
        DOM0, type_, z(path) + tail, "EINVAL", before=(write("/a/b"),),
    )
    for what, path in (
        ("an empty path", ""),
        ("a path that ends with a slash", "/a/"),
        ("a path with two slashes", "/a//b"),
        ("two slashes", "//"),
        ("a relative path that ends with a slash", "a/"),
        ("a relative path with two slashes", "a//b"),
        ("/local/domain/ (XSA-481)", "/local/domain/"),
        ("/local/domain/5/", "/local/domain/5/"),
    )
    for type_, tail in (
        (XS.DIRECTORY, b""),
        (XS.READ, b""),
        (XS.GET_PERMS, b""),
        (XS.WRITE, b"v"),
        (XS.MKDIR, b""),
        (XS.RM, b""),
        (XS.SET_PERMS, b"n0\0"),
        (XS.DIRECTORY_PART, b"0\0"),
        (XS.WATCH, b"t\0"),
    )
)  # fmt: skip

GUEST_SHAPES: Final = tuple(
    Row(
        f"a domain's READ of {path!r} is EINVAL, not a matter of rights",
        GUEST, XS.READ, z(path), "EINVAL",
    )
    for path in ("", "//", "/a/", "/a b", "/local/domain/", "@releaseDomain")
)  # fmt: skip

UNWATCHED: Final = tuple(
    Row(
        f"UNWATCH of {path!r}",
        DOM0, XS.UNWATCH, z(path, "t"), "EINVAL", before=(write("/a/b"),),
        c_417=NotAsked(Reason.STALE_ERRNO),
    )
    for path in ("", "/a/", "//", "/a//b", "/a b", "@a/")
)  # fmt: skip

SPECIAL: Final = (
    *(
        Row(f"{type_.name} of @releaseDomain", DOM0, type_,
            z("@releaseDomain") + tail, "EINVAL")
        for type_, tail in (
            (XS.DIRECTORY, b""), (XS.READ, b""), (XS.WRITE, b"v"), (XS.MKDIR, b""),
            (XS.RM, b""), (XS.DIRECTORY_PART, b"0\0"),
        )
    ),
    Row(
        "GET_PERMS of a special name that is none",
        DOM0, XS.GET_PERMS, z("@nothing"), "ENOENT",
        c_417=NotAsked(Reason.SPECIAL_NAMES),
    ),
    Row(
        "SET_PERMS of a special name that is none",
        DOM0, XS.SET_PERMS, z("@nothing", "n0"), "ENOENT",
        c_417=NotAsked(Reason.SPECIAL_NAMES),
    ),
    Row(
        "WATCH of a special name that ends with a slash",
        DOM0, XS.WATCH, z("@a/", "t"), "EINVAL",
        c_417=Differs(OK, Reason.SPECIAL_NAMES, (), (Event(DOM0, "@a/", "t"),)),
    ),
)  # fmt: skip

RELATIVE: Final = (
    Row(
        "a relative WRITE of domain 0 lands below /local/domain/0",
        DOM0, XS.WRITE, z("a/b") + b"v", OK,
        then=(read("/local/domain/0/a/b", b"v"), directory("/local/domain", z("0"))),
    ),
    Row(
        "a relative WRITE of a domain lands below its own place",
        GUEST, XS.WRITE, z("a/b") + b"v", OK, before=HOME,
        then=(read("/local/domain/5/a/b", b"v"),),
    ),
    Row(
        "a relative RM of a domain removes below its own place",
        GUEST, XS.RM, z("a"), OK,
        before=(*HOME, write("a/b", who=GUEST), write("/a")),
        then=(directory("/local/domain/5", b""), read("/a", b"v")),
    ),
)  # fmt: skip


def _of_length(length: int, start: str = "/") -> str:
    """A path of that many bytes, in names that are not too long to look at."""
    body = "a" * (length - len(start))
    return start + "/".join(body[at : at + 60] for at in range(0, len(body), 61))


def _reaches(
    what: str, who: Who, path: str, expect: bytes | str, **more: object
) -> Row:
    return Row(what, who, XS.READ, z(path), expect, **more)  # type: ignore[arg-type]


LIMIT: Final = Differs("EINVAL", Reason.PATH_LENGTH)
EDGE: Final = Differs("ENOENT", Reason.QUOTA_EDGE)
OWN: Final = "/local/domain/5/"

LENGTHS: Final = (
    _reaches("an absolute path of 3072 bytes", DOM0, _of_length(3072), "ENOENT",
             c_417=LIMIT),
    _reaches("an absolute path of 3073 bytes", DOM0, _of_length(3073), "EINVAL"),
    Row(
        "a node with a path of 3072 bytes",
        DOM0, XS.WRITE, z(_of_length(3072)) + b"v", OK,
        then=(read(_of_length(3072), b"v"),), c_417=LIMIT,
    ),
    _reaches("a relative path of 2048 bytes", DOM0, _of_length(2048, ""), "ENOENT"),
    _reaches("a relative path of 2049 bytes", DOM0, _of_length(2049, ""), "EINVAL"),
    _reaches("a domain's relative path of 2047 bytes",
             GUEST, _of_length(2047, ""), "ENOENT", before=HOME),
    _reaches("a domain's relative path of 2048 bytes (path-max, XSA-323)",
             GUEST, _of_length(2048, ""), "EINVAL", before=HOME, c_417=EDGE),
    _reaches("a domain's path of 2047 bytes behind its own place",
             GUEST, OWN + _of_length(2047, ""), "ENOENT", before=HOME),
    _reaches("a domain's path of 2048 bytes behind its own place",
             GUEST, OWN + _of_length(2048, ""), "EINVAL", before=HOME, c_417=EDGE),
    _reaches("a domain's path of 2047 bytes behind another one's place",
             GUEST, "/local/domain/6/" + _of_length(2047, ""), "EACCES"),
    _reaches("a domain's path of 2047 bytes elsewhere",
             GUEST, _of_length(2047), "EACCES"),
    _reaches("a domain's path of 2048 bytes elsewhere",
             GUEST, _of_length(2048), "EINVAL",
             c_417=Differs("EACCES", Reason.QUOTA_EDGE)),
    _reaches("a domain's path of 2047 bytes behind a domid of six digits",
             GUEST, "/local/domain/123456/" + _of_length(2047, ""), "EINVAL"),
)  # fmt: skip

PATHS: Final = rows(
    CHARACTERS, SHAPES, GUEST_SHAPES, UNWATCHED, SPECIAL, RELATIVE, LENGTHS
)
