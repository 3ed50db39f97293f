"""A vif's TAP: made, configured and taken away without holding up the event loop.

It is persistent while its vif exists: when its process dies, addresses, routes and
bridge membership stay, and the next process takes it up again.
"""

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from xenvirt.abi.netif import ETH_HLEN, XEN_NETIF_MAX_TX_SIZE
from xenvirt.errors import LocalError
from xenvirt.native.queue import PeerFeatures
from xenvirt.netdev import links, tap
from xenvirt.vif.features import mtu_limit
from xenvirt.vif.threads import in_thread

VLAN_HLEN: Final = 4
GSO_MAX_SIZE: Final = XEN_NETIF_MAX_TX_SIZE - ETH_HLEN - 2 * VLAN_HLEN
"""Bytes of the largest packet whose frame, tagged twice, netif can still say."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What the TAP of a vif is to be.

    `owner` is the run directory; the alias says so, and `what` the TAP is. One that is
    `left` by a dead process is known by that, should somebody have renamed it; one that
    was `in_use` must be there. `max_queues` above 1 makes it multi-queue, which costs
    the kernel 0.2 MiB more.
    """

    name: str
    mac: str
    mtu: int
    owner: str
    what: str
    up: bool
    max_queues: int
    left: bool
    in_use: bool

    @property
    def alias(self) -> str:
        """What tells the TAP from all others."""
        return links.alias(self.owner, self.what)


class Interface:
    """An open TAP; owns its descriptors until `close` or `delete`.

    `name` is the one that it had when it was opened, until somebody says otherwise.
    Queues that are not used are detached rather than closed: a process that has lost
    root may not be able to open /dev/net/tun again.
    """

    def __init__(self, setup: Setup, name: str, fd: int, *, carrier: bool) -> None:
        self.name = name
        self.index = socket.if_nametoindex(name)
        self._mtu = setup.mtu
        self._fds = [fd]
        self._attached = 1
        self._carrier = carrier
        multi_queue = setup.max_queues > 1 and tap.is_multi_queue(fd)
        self.max_queues = setup.max_queues if multi_queue else 1

    @classmethod
    async def open(cls, setup: Setup) -> "Interface":
        """Make the TAP, or take up the one that is ours; errors as in `netdev.tap`.

        LocalError too if it was in use and is gone. One that is taken up stays of its
        kind: `max_queues` is 1 if it was made so.
        """
        making = asyncio.ensure_future(in_thread(cls._make, setup))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            # The thread goes on: what it makes must not be left to nobody.
            (await making).delete()
            raise

    @classmethod
    def _make(cls, setup: Setup) -> "Interface":
        name = setup.name
        if setup.left and not links.exists(name):
            name = links.named(setup.alias) or name
            if setup.in_use and name == setup.name:
                # A second one would take the place of one that was only moved.
                raise LocalError(
                    f"there is no interface {name} any more",
                    cause="somebody has deleted it, or moved it to another network "
                    "namespace; detach the vif and attach it again",
                )
        is_new = not links.exists(name)
        try:
            fd = tap.open_tap(
                name,
                persist=False,
                owner=setup.owner,
                multi_queue=setup.max_queues > 1,
            )
        except tap.TapHeldError as error:
            _refuse_other(setup, name, error)
            raise
        try:
            if is_new:
                tap.set_carrier(fd, False)
                _configure(setup)
            tap.set_persist(fd, True)
            return cls(setup, name, fd, carrier=not is_new)
        except BaseException:
            os.close(fd)
            raise

    @property
    def queue_fds(self) -> Sequence[int]:
        """The descriptors of the queues that are attached, in their order."""
        return self._fds[: self._attached]

    def set_queues(self, count: int) -> None:
        """Have `count` queues, up to `max_queues`.

        Those of before keep their descriptors and numbers. XenvirtError or OSError if
        one more cannot be had; those that could stay.
        """
        # The last one first: a ring is that of the TAP's queue of its number.
        while self._attached > count:
            tap.set_queue(self._fds[self._attached - 1], False)
            self._attached -= 1
        while self._attached < count:
            self._attach_queue()
            self._attached += 1

    def _attach_queue(self) -> None:
        if self._attached < len(self._fds):
            tap.set_queue(self._fds[self._attached], True)
            return
        self._fds.append(tap.open_queue(self.name, carrier=self._carrier))

    async def set_peer(self, peer: PeerFeatures) -> None:
        """Have the kernel do for its frames what this peer cannot."""
        tap.set_offload(
            self._fds[0],
            csum=peer.csum_v4 or peer.csum_v6,
            tso4=peer.gso_tcpv4,
            tso6=peer.gso_tcpv6,
        )
        limit = mtu_limit(peer)
        if self._mtu > limit:
            await in_thread(links.configure, self.name, mtu=limit)

    def set_carrier(self, on: bool) -> None:
        """Plug the cable in or pull it; nothing happens once the TAP is gone."""
        self._carrier = on
        if self._fds:
            with suppress(OSError):
                tap.set_carrier(self._fds[0], on)

    def is_there(self) -> bool:
        """Whether nobody has deleted it."""
        return bool(self._fds) and tap.is_there(self._fds[0])

    def close(self) -> None:
        """Let go of the TAP, which stays; again is harmless."""
        while self._fds:
            os.close(self._fds.pop())

    def delete(self) -> None:
        """Let go of the TAP and have it vanish."""
        if self._fds:
            with suppress(OSError):
                tap.set_persist(self._fds[0], False)
        self.close()


def _refuse_other(setup: Setup, name: str, error: tap.TapHeldError) -> None:
    """Raise which other vif has the TAP, if it is one of the same owner's."""
    what = links.whats(setup.owner).get(name, setup.what)
    if what != setup.what:
        vif, _, kind = what.rpartition(" ")
        raise LocalError(
            error.what,
            cause=f"it is that of the {kind} of vif {vif}; choose another vifname",
        ) from error


def _configure(setup: Setup) -> None:
    links.configure(
        setup.name,
        mac=setup.mac,
        mtu=setup.mtu,
        alias=setup.alias,
        ipv6_noise=False,
        gso_max_size=GSO_MAX_SIZE,
        # A TAP's driver has a queue of its own and never makes the kernel wait.
        qdisc="noqueue",
        up=setup.up or None,
    )
