"""The XenStore wire protocol's numbers (io/xs_wire.h)."""

from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final


class XsWire(IntEnum):
    """Message types, `enum xsd_sockmsg_type`."""

    CONTROL = 0
    DIRECTORY = 1
    READ = 2
    GET_PERMS = 3
    WATCH = 4
    UNWATCH = 5
    TRANSACTION_START = 6
    TRANSACTION_END = 7
    INTRODUCE = 8
    RELEASE = 9
    GET_DOMAIN_PATH = 10
    WRITE = 11
    MKDIR = 12
    RM = 13
    SET_PERMS = 14
    WATCH_EVENT = 15
    ERROR = 16
    IS_DOMAIN_INTRODUCED = 17
    RESUME = 18
    SET_TARGET = 19
    RESET_WATCHES = 21
    DIRECTORY_PART = 22
    GET_FEATURE = 23
    SET_FEATURE = 24
    GET_QUOTA = 25
    SET_QUOTA = 26
    INVALID = 0xFFFF


XSD_ERRORS: Final = (
    "EINVAL", "EACCES", "EEXIST", "EISDIR", "ENOENT", "ENOMEM", "ENOSPC", "EIO",
    "ENOTEMPTY", "ENOSYS", "EROFS", "EBUSY", "EAGAIN", "EISCONN", "E2BIG", "EPERM",
)  # fmt: skip
"""The error strings in `xsd_errors` order; a client maps any other to EINVAL."""

HEADER: Final = Struct("<IIII")
"""`struct xsd_sockmsg`: type, req_id, tx_id, len."""

XENSTORE_PAYLOAD_MAX: Final = 4096
XENSTORE_ABS_PATH_MAX: Final = 3072
XENSTORE_REL_PATH_MAX: Final = 2048
XENSTORE_RING_SIZE: Final = 1024


class ServerFeature(IntFlag):
    """Bits of `server_features` in the ring page."""

    RECONNECTION = 1
    ERROR = 2
    WATCH_DEPTH = 4
    DOMID_ANY = 8


class RingConnection(IntEnum):
    """The `connection` word of the ring page."""

    CONNECTED = 0
    RECONNECT = 1


class RingError(IntEnum):
    """The `error` word of the ring page."""

    NONE = 0
    COMM = 1
    RINGIDX = 2
    PROTO = 3
