"""Valid requests of every type, for whoever mutates them."""

from typing import Final

from xenvirt.abi.xs_wire import XsWire as X
from xenvirt.xenstore.framing import encode

PATHS: Final = (
    b"/", b"/tool", b"/a", b"/a/b", b"/a/b/c", b"/big", b"/shared", b"/shared/x",
    b"/local/domain/1", b"/local/domain/1/data", b"/local/domain/2/data/x",
    b"data", b"data/x", b"device/vif/0/state", b"a", b"a/b/c/d/e/f",
)  # fmt: skip
SPECIALS: Final = (
    b"@introduceDomain", b"@releaseDomain", b"@releaseDomain/1", b"@releaseDomain/2",
)  # fmt: skip
PERMS: Final = (
    b"n0\0", b"b0\0", b"r0\0b1\0", b"n1\0", b"b1\0r2\0", b"n2\0w3\0r1\0",
    b"n0\0r32757\0",
)  # fmt: skip
CONTROL: Final = (
    b"check\0", b"help\0", b"print\0line\0", b"log\0", b"log\0on\0", b"quota\0",
    b"quota\x001\0", b"quota\0max\0", b"quota\0max\0-r\0", b"memreport\0",
    b"quota-soft\0", b"quota\0set\0nodes\x00900\0", b"live-update\0-s\0",
)  # fmt: skip
OTHERS: Final = (
    *((X.TRANSACTION_START, b"\0"),) * 20,
    *((X.TRANSACTION_END, b"T\0"),) * 20,
    (X.TRANSACTION_END, b"F\0"),
    (X.RESET_WATCHES, b"\0"),
    (X.GET_FEATURE, b""),
    (X.GET_FEATURE, b"1\0"),
    (X.SET_FEATURE, b"3\x002\0"),
    (X.GET_QUOTA, b""),
    (X.GET_QUOTA, b"nodes\0"),
    (X.GET_QUOTA, b"1\0nodes\0"),
    (X.SET_QUOTA, b"1\0nodes\x00500\0"),
    (X.SET_QUOTA, b"watches\x00100\0"),
    (X.SET_QUOTA, b"transaction-nodes\x0020\0"),
)


def corpus() -> list[bytes]:
    """Whole messages; those on nodes also with a tx_id, which is 1."""
    requests: list[tuple[int, bytes]] = [*OTHERS]
    requests += ((X.CONTROL, payload) for payload in CONTROL)
    for path in PATHS:
        string = path + b"\0"
        on_node = [
            *((type_, string) for type_ in (X.READ, X.DIRECTORY, X.GET_PERMS, X.MKDIR)),
            (X.DIRECTORY_PART, string + b"0\0"),
            (X.WRITE, string),
            (X.WRITE, string + b"value"),
            (X.WRITE, string + bytes(range(256)) * 4),
            *((X.RM, string),) * 3,
            *((X.SET_PERMS, string + perms) for perms in PERMS),
        ]
        requests += on_node
        requests += [
            (X.WATCH, string + b"token\0"),
            (X.WATCH, string + b"token\x002\0"),
            (X.UNWATCH, string + b"token\0"),
        ]
    for name in SPECIALS:
        requests += [
            (X.WATCH, name + b"\0token\0"),
            (X.WATCH, name + b"\0deep\x001\0"),
            (X.UNWATCH, name + b"\0token\0"),
            (X.GET_PERMS, name + b"\0"),
            (X.SET_PERMS, name + b"\0n0\0r1\0"),
        ]
    for domid in (b"1\0", b"2\0", b"3\0") * 5:
        requests += [
            (X.INTRODUCE, domid + b"7\x003\0"),
            (X.RELEASE, domid),
            (X.RESUME, domid),
            (X.SET_TARGET, domid + b"2\0"),
            (X.IS_DOMAIN_INTRODUCED, domid),
            (X.GET_DOMAIN_PATH, domid),
        ]
    outside = [encode(type_, n, 0, data) for n, (type_, data) in enumerate(requests)]
    inside = [encode(type_, n, 1, data) for n, (type_, data) in enumerate(requests)]
    return outside + inside
