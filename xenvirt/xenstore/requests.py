"""Every request of the protocol: its payload, and what its reply means.

Without I/O: both clients send what these functions return and hand the reply's
payload to `result`. Domids are 0..65535; paths as in xenstore.txt.
"""

from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

from xenvirt.abi.xs_wire import ServerFeature, XsWire
from xenvirt.xenstore import payloads
from xenvirt.xenstore.payloads import Value, strings
from xenvirt.xenstore.perms import Perm, Perms

T = TypeVar("T")

_NOTHING = b"\0"
"""The empty string, for requests without an argument."""


class Request(NamedTuple, Generic[T]):
    """One request, to be refused about `path`."""

    type: XsWire
    payload: bytes
    path: str
    result: Callable[[bytes], T]


def _done(payload: bytes) -> None:
    """Nothing but `OK` can be in it."""


def _value(payload: bytes) -> bytes:
    return payload


def _is_true(payload: bytes) -> bool:
    return payload == b"T\0"


def _features(payload: bytes) -> ServerFeature:
    return ServerFeature(payloads.parse_number(payload))


def read_bytes(path: str) -> Request[bytes]:
    """The value."""
    return Request(XsWire.READ, strings(path), path, _value)


def read(path: str) -> Request[str]:
    """The value as text; see `payloads.text` for bytes that are not UTF-8."""
    return Request(XsWire.READ, strings(path), path, payloads.text)


def write(path: str, value: Value) -> Request[None]:
    """Set the value; the node and what is above it are made if missing."""
    return Request(XsWire.WRITE, payloads.write(path, value), path, _done)


def mkdir(path: str) -> Request[None]:
    """Make the node if it is missing."""
    return Request(XsWire.MKDIR, strings(path), path, _done)


def rm(path: str) -> Request[None]:
    """Remove the node and all below it; it may be missing if its parent is not."""
    return Request(XsWire.RM, strings(path), path, _done)


def directory(path: str) -> Request[list[str]]:
    """The children's names; refused with E2BIG if they do not fit in one message."""
    return Request(XsWire.DIRECTORY, strings(path), path, payloads.parse_strings)


def directory_part(path: str, offset: int) -> Request[bytes]:
    """Some of the names, for `payloads.PartialListing`."""
    return Request(XsWire.DIRECTORY_PART, strings(path, offset), path, _value)


def get_perms(path: str) -> Request[Perms]:
    """The permission list, the owner's entry first."""
    return Request(XsWire.GET_PERMS, strings(path), path, payloads.parse_perms)


def set_perms(path: str, perms: Iterable[Perm | str]) -> Request[None]:
    """Replace the permission list."""
    return Request(XsWire.SET_PERMS, payloads.set_perms(path, perms), path, _done)


def watch(path: str, token: str, depth: int | None = None) -> Request[None]:
    """Send events about the path and what is below it, `depth` levels down."""
    levels = () if depth is None else (depth,)
    return Request(XsWire.WATCH, strings(path, token, *levels), path, _done)


def unwatch(path: str, token: str) -> Request[None]:
    """End a watch; the token says which."""
    return Request(XsWire.UNWATCH, strings(path, token), path, _done)


def reset_watches() -> Request[None]:
    """Drop the connection's watches and transactions."""
    return Request(XsWire.RESET_WATCHES, _NOTHING, "", _done)


def transaction_start() -> Request[int]:
    """A transaction's id."""
    return Request(XsWire.TRANSACTION_START, _NOTHING, "", payloads.parse_number)


def transaction_end(*, commit: bool) -> Request[None]:
    """Commit or abort the transaction that the header names."""
    answer = strings("T" if commit else "F")
    return Request(XsWire.TRANSACTION_END, answer, "", _done)


def introduce(domid: int, gfn: int, port: int) -> Request[None]:
    """Serve a domain's ring page."""
    return Request(XsWire.INTRODUCE, strings(domid, gfn, port), "", _done)


def release(domid: int) -> Request[None]:
    """Forget a domain."""
    return Request(XsWire.RELEASE, strings(domid), "", _done)


def resume(domid: int) -> Request[None]:
    """A domain's next shutdown is to be told again."""
    return Request(XsWire.RESUME, strings(domid), "", _done)


def set_target(domid: int, target: int) -> Request[None]:
    """Give a domain the rights of its target."""
    return Request(XsWire.SET_TARGET, strings(domid, target), "", _done)


def domain_path(domid: int) -> Request[str]:
    """Where a domain's nodes are."""
    return Request(XsWire.GET_DOMAIN_PATH, strings(domid), "", payloads.parse_string)


def is_domain_introduced(domid: int) -> Request[bool]:
    """Whether the store serves the domain."""
    return Request(XsWire.IS_DOMAIN_INTRODUCED, strings(domid), "", _is_true)


def control(command: str, *parameters: str) -> Request[str]:
    """What a command of the server says."""
    payload = strings(command, *parameters)
    return Request(XsWire.CONTROL, payload, "", payloads.parse_string)


def get_features(domid: int | None) -> Request[ServerFeature]:
    """What the store offers a domain; None: the caller."""
    arguments = b"" if domid is None else strings(domid)
    return Request(XsWire.GET_FEATURE, arguments, "", _features)


def set_features(domid: int, features: ServerFeature) -> Request[None]:
    """What the store shall offer a domain that it does not serve yet."""
    payload = strings(domid, int(features))
    return Request(XsWire.SET_FEATURE, payload, "", _done)


def quota_names() -> Request[list[str]]:
    """The names of all quotas."""
    return Request(
        XsWire.GET_QUOTA, b"", "", lambda reply: payloads.parse_string(reply).split()
    )


def get_quota(name: str, domid: int | None) -> Request[int]:
    """A quota's value for one domain; None: for all without one of their own."""
    arguments = (name,) if domid is None else (domid, name)
    return Request(XsWire.GET_QUOTA, strings(*arguments), "", payloads.parse_number)


def set_quota(name: str, value: int, domid: int | None) -> Request[None]:
    """Set a quota; 0 is no limit."""
    arguments = (name, value) if domid is None else (domid, name, value)
    return Request(XsWire.SET_QUOTA, strings(*arguments), "", _done)
