"""Interfaces whose vif was removed while no process was there to remove them.

An interface outlives its process, for the next one to take it up. Which vif it is of
its alias says, and whether there is that vif, the bus.
"""

import logging
from collections.abc import Collection

from xenvirt.abi.ids import DevId, DomId
from xenvirt.netdev import links

log = logging.getLogger(__name__)


def front_alias(name: str, devid: DevId) -> str:
    """What a frontend's interface is, in its alias: of the domain's vif `devid`."""
    return f"{name}/{devid} frontend"


def back_alias(frontend_id: DomId, devid: DevId) -> str:
    """What a backend's interface is, in its alias."""
    return f"{frontend_id}/{devid} backend"


def remove(kind: str, name: str, owner: str, vifs: Collection[tuple[int, ...]]) -> None:
    """Delete this namespace's interfaces of an end's kind but those of its `vifs`.

    `kind` is `frontend` or `backend`, `name` the domain's, `owner` who makes the
    interfaces; `vifs` are (devid,) of a frontend and (domid, devid) of a backend.
    """
    if kind == "frontend":
        kept = {front_alias(name, DevId(devid)) for (devid,) in vifs}
    else:
        kept = {back_alias(DomId(domid), DevId(devid)) for domid, devid in vifs}
    for ifname, what in links.whats(owner).items():
        if what.endswith(f" {kind}") and what not in kept:
            log.warning("removing %s: its vif is gone", ifname)
            links.delete(ifname)
