"""What is written for a vif on a real Xen, and in which order, with Linux at both ends.

Taken from a trace of xenstored 4.17.7, netback and netfront of Linux 6.1.192 and xl,
with one queue. The lines are those of trace_writes.py; `form` there says what is shown
by its form.
"""

from collections.abc import Mapping
from enum import StrEnum
from textwrap import dedent
from typing import Final

from tests.xen.trace_writes import Who


class Phase(StrEnum):
    """A part of a vif's life."""

    CREATE = "xl create"
    RELOAD = "reload of the frontend"
    DETACH = "xl network-detach"
    ATTACH = "xl network-attach"
    DESTROY = "xl destroy"


CONNECTED: Final = (Phase.CREATE, Phase.RELOAD, Phase.ATTACH)
"""The phases that end with a vif that works."""


def lines_of(text: str) -> tuple[str, ...]:
    """The lines of a block."""
    return tuple(dedent(text).strip("\n").splitlines()) if text else ()


_NEW_VIF: Final = lines_of(
    """
    start
      rm libxl -> ENOENT
      libxl/frontend = <frontend>
      libxl/backend = <backend>
      rm frontend -> ENOENT
      mkdir frontend
      perms frontend n<domid>,r0
      frontend/backend = <backend>
      frontend/backend-id = 0
      perms frontend/backend-id n<domid>,r0
      frontend/state = 1
      perms frontend/state n<domid>,r0
      frontend/handle = <devid>
      perms frontend/handle n<domid>,r0
      frontend/mac = <mac>
      perms frontend/mac n<domid>,r0
      frontend/trusted = 1
      perms frontend/trusted n<domid>,r0
      frontend/mtu = 1500
      perms frontend/mtu n0,r<domid>
      rm backend -> ENOENT
      mkdir backend
      perms backend n0,r<domid>
      backend/frontend = <frontend>
      backend/frontend-id = <domid>
      backend/online = 1
      backend/state = 1
      backend/script = /etc/xen/scripts/vif-bridge
      backend/mac = <mac>
      backend/bridge = xenbr0
      backend/handle = <devid>
      backend/type = vif
      backend/hotplug-status =
      libxl/frontend-id = <domid>
      libxl/online = 1
      libxl/state = 1
      libxl/script = /etc/xen/scripts/vif-bridge
      libxl/mac = <mac>
      libxl/bridge = xenbr0
      libxl/handle = <devid>
      libxl/type = vif
      libxl/hotplug-status =
    commit
    """
)

_OFFER: Final = lines_of(
    """
    start
      backend/feature-sg = 1
      backend/feature-gso-tcpv4 = 1
      backend/feature-gso-tcpv6 = 1
      backend/feature-ipv6-csum-offload = 1
      backend/feature-rx-copy = 1
      backend/feature-xdp-headroom = 1
      backend/feature-rx-flip = 0
      backend/feature-multicast-control = 1
      backend/feature-dynamic-multicast-control = 1
    commit
    backend/feature-split-event-channels = 1
    backend/multi-queue-max-queues = 1
    backend/feature-ctrl-ring = 1
    """
)

_RINGS: Final = lines_of(
    """
    frontend/xdp-headroom = 0
    start
      frontend/multi-queue-num-queues = 1
      frontend/tx-ring-ref = <gref>
      frontend/rx-ring-ref = <gref>
      frontend/event-channel-tx = <port>
      frontend/event-channel-rx = <port>
      frontend/request-rx-copy = 1
      frontend/feature-rx-notify = 1
      frontend/feature-sg = 1
      frontend/feature-gso-tcpv4 = 1
      frontend/feature-gso-tcpv6 = 1
      frontend/feature-ipv6-csum-offload = 1
    commit
    """
)

_PLUGGED_IN: Final = (
    "frontend/mtu = 1500",
    "backend/hotplug-status = connected",
)


def _switches(end: str, *states: int) -> tuple[str, ...]:
    """Each state is written in a transaction of its own."""
    return tuple(
        line
        for state in states
        for line in ("start", f"  {end}/state = {state}", "commit")
    )


_CONNECT: Final = {
    Who.TOOLSTACK: _NEW_VIF,
    Who.SCRIPT: _PLUGGED_IN,
    Who.BACKEND: _OFFER + _switches("backend", 2, 4),
    Who.FRONTEND: _RINGS + _switches("frontend", 4),
}
_LAST_STATES: Final = (*_switches("backend", 5, 6), "rm backend/hotplug-status")

CHANGES: Final[Mapping[Phase, Mapping[Who, tuple[str, ...]]]] = {
    Phase.CREATE: _CONNECT,
    Phase.RELOAD: {
        Who.BACKEND: _switches("backend", 5, 6, 2, 4),
        Who.FRONTEND: (
            _switches("frontend", 5, 6, 1) + _RINGS + _switches("frontend", 4)
        ),
    },
    Phase.DETACH: {
        Who.TOOLSTACK: lines_of(
            """
            start
              backend/online = 0
              backend/state = 5
            commit
            start
              rm frontend
              rm frontend/..
              rm libxl
              rm libxl/..
              rm backend
              rm backend/..
            commit
            """
        ),
        Who.BACKEND: _LAST_STATES,
        Who.FRONTEND: _switches("frontend", 6),
    },
    Phase.ATTACH: _CONNECT,
    Phase.DESTROY: {
        Who.TOOLSTACK: lines_of(
            """
            start
              rm frontend
              rm frontend/..
              backend/online = 0
              backend/state = 5
            commit
            start
              rm frontend -> ENOENT
              rm libxl
              rm libxl/..
              rm backend
              rm backend/..
            commit
            """
        ),
        Who.BACKEND: _LAST_STATES,
    },
}
"""What each changes, in order."""

_CONNECT_STATES: Final = "frontend 1, backend 1, backend 2, frontend 4, backend 4"

STATES: Final[Mapping[Phase, str]] = {
    Phase.CREATE: _CONNECT_STATES,
    Phase.RELOAD: "frontend 5, backend 5, frontend 6, backend 6, "
    "frontend 1, backend 2, frontend 4, backend 4",
    Phase.DETACH: "backend 5, frontend 6, backend 5, backend 6",
    Phase.ATTACH: _CONNECT_STATES,
    Phase.DESTROY: "backend 5, backend 5, backend 6",
}
"""The states of both ends, whoever writes them, in order."""

_FRONTENDS: Final = "n<domid>,r0"
_BACKENDS: Final = "n0,r<domid>"

KEYS: Final[Mapping[str, str]] = {
    "frontend": _FRONTENDS,
    **dict.fromkeys(
        (
            f"frontend/{key}"
            for key in (
                "backend", "backend-id", "state", "handle", "mac", "trusted",
                "xdp-headroom", "multi-queue-num-queues", "tx-ring-ref", "rx-ring-ref",
                "event-channel-tx", "event-channel-rx", "request-rx-copy",
                "feature-rx-notify", "feature-sg", "feature-gso-tcpv4",
                "feature-gso-tcpv6", "feature-ipv6-csum-offload",
            )
        ),
        _FRONTENDS,
    ),
    "frontend/mtu": _BACKENDS,
    "backend": _BACKENDS,
    **dict.fromkeys(
        (
            f"backend/{key}"
            for key in (
                "frontend", "frontend-id", "online", "state", "script", "mac", "bridge",
                "handle", "type", "hotplug-status", "feature-sg", "feature-gso-tcpv4",
                "feature-gso-tcpv6", "feature-ipv6-csum-offload", "feature-rx-copy",
                "feature-xdp-headroom", "feature-rx-flip", "feature-multicast-control",
                "feature-dynamic-multicast-control", "feature-split-event-channels",
                "multi-queue-max-queues", "feature-ctrl-ring",
            )
        ),
        _BACKENDS,
    ),
}  # fmt: skip
"""All keys of both ends while Connected, and their permissions."""
