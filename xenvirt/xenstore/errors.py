"""A refused request, as an exception of its own for each error that callers expect."""

from typing import Final

from xenvirt.abi.xs_wire import XSD_ERRORS
from xenvirt.errors import LocalError, StoreError


class RequestError(StoreError):
    """The store refused a request about `path` ("" where there is none)."""

    def __init__(self, errno_name: str, path: str = "") -> None:
        super().__init__(errno_name, *([path] if path else []))
        self.path = path


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
    """E2BIG: the reply does not fit into one message."""


class StoreBusyError(RequestError):
    """EBUSY: a transaction cannot be started within another one."""


class StoreNotSupportedError(RequestError):
    """ENOSYS: the store does not know this request."""


class StoreConnectionError(LocalError):
    """The connection to the store is gone, with every request that waited on it."""


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
}


def request_error(payload: bytes, path: str = "") -> RequestError:
    """The exception for the payload of an ERROR message.

    A string that is not in `xsd_errors` becomes EINVAL, as in libxenstore.
    """
    name = payload.rstrip(b"\0").decode("ascii", "replace")
    if name not in XSD_ERRORS:
        name = "EINVAL"
    return _BY_NAME.get(name, RequestError)(name, path)
