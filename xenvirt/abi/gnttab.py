"""Grant table numbers (grant_table.h)."""

from enum import IntEnum, IntFlag
from typing import Final


class GrantFlags(IntFlag):
    """`flags` of a version 1 entry."""

    PERMIT_ACCESS = 1
    ACCEPT_TRANSFER = 2
    READONLY = 1 << 2
    READING = 1 << 3
    WRITING = 1 << 4


class GrantStatus(IntEnum):
    """GNTST_*: what a grant operation answers."""

    OKAY = 0
    GENERAL_ERROR = -1
    BAD_DOMAIN = -2
    BAD_GNTREF = -3
    BAD_HANDLE = -4
    BAD_VIRT_ADDR = -5
    BAD_DEV_ADDR = -6
    NO_DEVICE_SPACE = -7
    PERMISSION_DENIED = -8
    BAD_PAGE = -9
    BAD_COPY_ARG = -10
    ADDRESS_TOO_BIG = -11
    EAGAIN = -12
    NO_SPACE = -13


GRANT_ENTRY_SIZE: Final = 8
GRANT_ENTRIES_PER_PAGE: Final = 512
