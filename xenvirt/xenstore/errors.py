"""What a client raises: one exception for each error that callers tell apart.

`RequestError` and its subclasses: the store answered, and refused.
`StoreConnectionError` and its subclasses: there is no store to answer, or no telling
what it did.
"""

import errno
from typing import Final

from xenvirt.abi.xs_wire import XSD_ERRORS
from xenvirt.errors import LocalError, StoreError


class RequestError(StoreError):
    """The store refused a request about `path` ("" where there is none)."""

    def __init__(self, errno_name: str, path: str = "") -> None:
        super().__init__(errno_name, *([path] if path else []))
        self.path = path

    @property
    def errno(self) -> int:
        """The error's number on this machine."""
        return int(getattr(errno, self.errno_name))


class StoreNotFoundError(RequestError):
    """ENOENT: no such node, watch, transaction or domain."""


class StoreExistsError(RequestError):
    """EEXIST: this path is already watched with this token."""


class StoreAccessError(RequestError):
    """EACCES: the caller may not do this to the node."""


class StoreNotPermittedError(RequestError):
    """EPERM: an owner may not give its node away."""


class StoreInvalidError(RequestError):
    """EINVAL: a malformed path or argument."""


class StoreAgainError(RequestError):
    """EAGAIN: the transaction met a change by somebody else; start it again."""


class StoreQuotaError(RequestError):
    """ENOSPC: one of the domain's quotas is used up."""


class StoreTooBigError(RequestError):
    """E2BIG: the request or its reply does not fit into one message."""


class StoreBusyError(RequestError):
    """EBUSY: a transaction within a transaction, or a domain that is introduced."""


class StoreNotSupportedError(RequestError):
    """ENOSYS: the store does not know this request."""


class StoreMemoryError(RequestError):
    """ENOMEM: the store has no memory, or a request of the transaction had failed."""


class StoreIOError(RequestError):
    """EIO: the store could not do its own input or output."""


class StoreConnectionError(LocalError):
    """The connection to the store is gone, with every request that waited on it."""


class StoreUncertainError(StoreConnectionError):
    """The connection went before the answer came: it may have been done, or not."""


class StoreProtocolError(StoreConnectionError):
    """The store sent what the protocol does not know; it is not believed further."""


_BY_NAME: Final[dict[str, type[RequestError]]] = {
    "ENOENT": StoreNotFoundError,
    "EEXIST": StoreExistsError,
    "EACCES": StoreAccessError,
    "EPERM": StoreNotPermittedError,
    "EINVAL": StoreInvalidError,
    "EAGAIN": StoreAgainError,
    "ENOSPC": StoreQuotaError,
    "E2BIG": StoreTooBigError,
    "EBUSY": StoreBusyError,
    "ENOSYS": StoreNotSupportedError,
    "ENOMEM": StoreMemoryError,
    "EIO": StoreIOError,
}
"""The others of `xsd_errors` are a plain RequestError: no store sends them."""


def request_error(payload: bytes, path: str = "") -> RequestError:
    """The exception for the payload of an ERROR message.

    A string that is not in `xsd_errors` becomes EINVAL, as in libxenstore.
    """
    name = payload.rstrip(b"\0").decode("ascii", "replace")
    if name not in XSD_ERRORS:
        name = "EINVAL"
    return _BY_NAME.get(name, RequestError)(name, path)


def connection_error(cause: Exception | str) -> StoreConnectionError:
    """What a waiter is told when the connection is lost, because of `cause`."""
    if isinstance(cause, StoreProtocolError):
        return StoreProtocolError(cause.what, cause=cause.cause)
    error = StoreConnectionError("no connection to the store", cause=str(cause))
    if isinstance(cause, Exception):
        error.__cause__ = cause
    return error
