"""The built-in hotplug scripts: what plugs a backend's TAP into the host.

A script of a path is the toolstack's to run, as libxl does; these two are done by
the backend itself, which then writes `hotplug-status` in their place.
"""

from typing import Final

from xenvirt.netdev import links

BUILTIN_BRIDGE: Final = "builtin:bridge"
BUILTIN_NONE: Final = "builtin:none"
BUILTINS: Final = (BUILTIN_BRIDGE, BUILTIN_NONE)

BACKEND_MAC: Final = "fe:ff:ff:ff:ff:ff"
"""A bridge takes the lowest MAC of its ports; this one is never the lowest."""


def plug(script: str, vifname: str, bridge: str | None) -> None:
    """Do what `script` says, and set the TAP up; blocks.

    NotFoundError when there is no such bridge.
    """
    if script == BUILTIN_BRIDGE and bridge:
        links.require_bridge(bridge)
        links.configure(vifname, master=bridge)
    links.configure(vifname, up=True)
