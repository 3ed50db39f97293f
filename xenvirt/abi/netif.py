"""netif's numbers (io/netif.h). TX is frontend to backend, RX backend to frontend."""

from enum import IntEnum, IntFlag
from typing import Final


class TxFlags(IntFlag):
    """NETTXF_*: `flags` of a TX request."""

    CSUM_BLANK = 1 << 0
    DATA_VALIDATED = 1 << 1
    MORE_DATA = 1 << 2
    EXTRA_INFO = 1 << 3


class RxFlags(IntFlag):
    """NETRXF_*: `flags` of an RX response; bits 0 and 1 differ from TX."""

    DATA_VALIDATED = 1 << 0
    CSUM_BLANK = 1 << 1
    MORE_DATA = 1 << 2
    EXTRA_INFO = 1 << 3
    GSO_PREFIX = 1 << 4


class ExtraType(IntEnum):
    """XEN_NETIF_EXTRA_TYPE_*."""

    NONE = 0
    GSO = 1
    MCAST_ADD = 2
    MCAST_DEL = 3
    HASH = 4


class GsoType(IntEnum):
    """XEN_NETIF_GSO_TYPE_*."""

    NONE = 0
    TCPV4 = 1
    TCPV6 = 2


class NetifRsp(IntEnum):
    """NETIF_RSP_*: `status` of a TX response."""

    DROPPED = -2
    ERROR = -1
    OKAY = 0
    NULL = 1


EXTRA_FLAG_MORE: Final = 1
XEN_NETIF_MAX_TX_SIZE: Final = 0xFFFF
XEN_NETIF_NR_SLOTS_MIN: Final = 18
NET_TX_RING_SIZE: Final = 256
NET_RX_RING_SIZE: Final = 256
ETH_HLEN: Final = 14
ETH_MIN_MTU: Final = 68
NETIF_MAX_MTU: Final = XEN_NETIF_MAX_TX_SIZE - ETH_HLEN
"""65,521: the largest frame less its Ethernet header."""
MAX_QUEUES_DEFAULT: Final = 8
"""The most queues of a vif, as in Linux's drivers unless they are told otherwise."""
