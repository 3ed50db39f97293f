"""The servers that the table is held against, each with the same small world.

Domains 5 and 6 exist and are introduced, 7 exists; there is no other but domain 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tests.conformance.table import DOM0, DOMIDS, PRESENT_DOMID, Who
from tests.conformance.wire import XS, RingChannel, SocketChannel, Wire
from tests.peers.xenstored import Xenstored

if TYPE_CHECKING:
    from pathlib import Path


class Hypervisor(Protocol):
    """Who makes domains and takes them away."""

    def create(self, domid: int) -> None:
        """There is such a domain from now on."""

    def destroy(self, domid: int) -> None:
        """There is no such domain any more."""


class Server(Protocol):
    """A store of which nobody else knows."""

    @property
    def hypervisor(self) -> Hypervisor:
        """Of whom it hears of domains."""

    def connect(self, who: Who) -> Wire:
        """A connection of that client; a domain has one at a time."""

    def close(self) -> None:
        """Stop it, and fail if it has stopped by itself."""


class World:
    """A server, and the connections of a test to it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._wires: dict[Who, Wire] = {}

    def wire(self, who: Who) -> Wire:
        """That client's connection, made when it is first used."""
        if who not in self._wires:
            self._wires[who] = self.server.connect(who)
        return self._wires[who]

    def connected(self) -> list[Who]:
        """Who has a connection."""
        return list(self._wires)

    def domain(self, verb: str, domid: int) -> None:
        """Something happens to a domain; its connection is gone when it is."""
        if verb == "destroy":
            for who in [who for who, id_ in DOMIDS.items() if id_ == domid]:
                if wire := self._wires.pop(who, None):
                    wire.close()
        getattr(self.server.hypervisor, verb)(domid)

    def close(self) -> None:
        """Leave, and stop the server."""
        for wire in self._wires.values():
            wire.close()
        self.server.close()


def introduce_all(dom0: Wire) -> None:
    """INTRODUCE the domains that clients speak for."""
    for domid in DOMIDS.values():
        reply = dom0.ask(XS.INTRODUCE, b"%d\0" % domid + b"1\0" + b"1\0")
        if reply.type != XS.INTRODUCE:
            raise RuntimeError(f"INTRODUCE {domid}: {reply}")
    dom0.settle()


class _XenstoredHypervisor:
    """xenstored has noticed what happened when it answers a later request."""

    def __init__(self, xenstored: Xenstored) -> None:
        self._xenstored = xenstored
        self._wire = Wire(SocketChannel.to(xenstored.socket))

    def create(self, domid: int) -> None:
        self._xenstored.create_domain(domid)

    def destroy(self, domid: int) -> None:
        self._xenstored.destroy_domain(domid)
        self._wire.settle()

    def close(self) -> None:
        self._wire.close()


class CXenstored:
    """C xenstored 4.17: domain 0 by socket, domains by ring."""

    def __init__(self, directory: Path) -> None:
        self._xenstored = Xenstored(directory)
        self.hypervisor = _XenstoredHypervisor(self._xenstored)
        for domid in (*DOMIDS.values(), PRESENT_DOMID):
            self.hypervisor.create(domid)
        dom0 = self.connect(DOM0)
        introduce_all(dom0)
        dom0.close()

    def connect(self, who: Who) -> Wire:
        """See Server."""
        if who not in DOMIDS:
            return Wire(SocketChannel.to(self._xenstored.socket))
        domid = DOMIDS[who]
        return Wire(
            RingChannel(
                self._xenstored.page(domid),
                self._xenstored.wake_fd(domid),
                lambda: self._xenstored.notify(domid),
            )
        )

    def close(self) -> None:
        """See Server."""
        self.hypervisor.close()
        alive, log = self._xenstored.alive(), self._xenstored.log()
        self._xenstored.close()
        assert alive, log
