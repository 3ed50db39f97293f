"""A vif's TAP: made, configured and taken away without holding up the event loop.

It is persistent while its vif exists: when its process dies, addresses, routes and
bridge membership stay, and the next process takes it up again.
"""

import asyncio
import os
from contextlib import suppress
from typing import Final

from xenvirt.abi.netif import ETH_HLEN, XEN_NETIF_MAX_TX_SIZE
from xenvirt.native import PeerFeatures
from xenvirt.netdev import links, tap
from xenvirt.vif.features import mtu_limit

VLAN_HLEN: Final = 4
GSO_MAX_SIZE: Final = XEN_NETIF_MAX_TX_SIZE - ETH_HLEN - 2 * VLAN_HLEN
"""Bytes of the largest packet whose frame, tagged twice, netif can still say."""


class Interface:
    """An open TAP; owns `fd` until `close` or `delete`."""

    def __init__(self, name: str, fd: int, mtu: int) -> None:
        self.name = name
        self.fd = fd
        self._mtu = mtu

    @classmethod
    async def open(
        cls, name: str, *, mac: str, mtu: int, owner: str, what: str, up: bool
    ) -> "Interface":
        """Make the TAP, or take up the one that is ours; errors as in `netdev.tap`.

        `owner` is the run directory; the alias says so, and `what` the TAP is.
        """
        making = asyncio.ensure_future(
            asyncio.to_thread(_make, name, mac, mtu, owner, what, up)
        )
        try:
            fd = await asyncio.shield(making)
        except asyncio.CancelledError:
            # The thread goes on: what it makes must not be left to nobody.
            cls(name, await making, mtu).delete()
            raise
        return cls(name, fd, mtu)

    async def set_peer(self, peer: PeerFeatures) -> None:
        """Have the kernel do for its frames what this peer cannot."""
        tap.set_offload(
            self.fd,
            csum=peer.csum_v4 or peer.csum_v6,
            tso4=peer.gso_tcpv4,
            tso6=peer.gso_tcpv6,
        )
        limit = mtu_limit(peer)
        if self._mtu > limit:
            await asyncio.to_thread(links.configure, self.name, mtu=limit)

    def set_carrier(self, on: bool) -> None:
        """Plug the cable in or pull it; nothing happens once the TAP is gone."""
        with suppress(OSError):
            tap.set_carrier(self.fd, on)

    def close(self) -> None:
        """Let go of the TAP, which stays; again is harmless."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def delete(self) -> None:
        """Let go of the TAP and have it vanish."""
        if self.fd >= 0:
            with suppress(OSError):
                tap.set_persist(self.fd, False)
        self.close()


def _make(name: str, mac: str, mtu: int, owner: str, what: str, up: bool) -> int:
    is_new = not links.exists(name)
    fd = tap.open_tap(name, persist=False, owner=owner)
    try:
        if is_new:
            tap.set_carrier(fd, False)
            links.configure(
                name,
                mac=mac,
                mtu=mtu,
                alias=links.alias(owner, what),
                ipv6_noise=False,
                gso_max_size=GSO_MAX_SIZE,
                up=up or None,
            )
        tap.set_persist(fd, True)
    except BaseException:
        os.close(fd)
        raise
    return fd
