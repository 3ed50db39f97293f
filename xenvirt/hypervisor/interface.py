"""What an end asks of a hypervisor, whichever it runs on.

The emulation (emulated.py) answers over `hypervisor.sock`; on a real Xen (xen.py) the
same verbs are /dev/xen/gntalloc, gntdev and evtchn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from xenvirt.abi.ids import DevId, DomId, Gref, Port
    from xenvirt.hypervisor.conventions import Conventions
    from xenvirt.native.evtchn import Evtchn
    from xenvirt.native.gnttab import OwnPages, PeerTable
    from xenvirt.xenstore.client import Client

Side = Literal["front", "back"]


class HypervisorKind(StrEnum):
    """Which one."""

    EMULATED = "emulated"
    XEN = "xen"


class EventChannel(Protocol):
    """One end of an event channel; whoever was handed it gives it back to `close`."""

    @property
    def port(self) -> "Port":
        """Its number in the own domain."""

    @property
    def evtchn(self) -> "Evtchn":
        """The same for a queue."""

    def notify(self) -> None:
        """Make the other end pending; nothing more if it already is."""


@dataclass(frozen=True, slots=True)
class GrantedPages:
    """Pages of our own and their grants; whoever was handed it gives it to `end`.

    The page of the grant `grefs[n]` is `table.page(frames[n])`.
    """

    table: "OwnPages"
    grefs: "Sequence[Gref]"
    frames: Sequence[int]


class Claim(Protocol):
    """A device that no other process of ours serves until `release`.

    `waited`: one did, and may have left it in another state.
    """

    waited: bool

    def release(self) -> None:
        """Let others have it; again is harmless."""


class Hypervisor(Protocol):
    """The verbs; all raise `HypercallError` with Xen's errno when refused."""

    domid: "DomId"
    conventions: "Conventions"

    async def open_store(self) -> "Client":
        """Return a new connection to XenStore as the own domain; the caller's."""

    def driven_by(self, nodename: str) -> str | None:
        """Return what else drives the device, and what to type; None: nothing does."""

    async def claim(self, nodename: str) -> Claim:
        """Return the device as this process's alone, once no other one of ours has it.

        The caller releases it when it has let go of the device.
        """

    async def grant(self, domid: "DomId", readonly: Sequence[bool]) -> GrantedPages:
        """Return zeroed pages that `domid` may use, one for each of `readonly`.

        ENOSPC when there are no more.
        """

    def end(self, pages: GrantedPages) -> None:
        """Take pages back; a page that the other domain holds is not used again."""

    async def acquire_table(self, domid: "DomId") -> "PeerTable":
        """Return a domain's grants, as we may use them, until `release_table`."""

    def release_table(self, domid: "DomId") -> None:
        """Say that one user less of a domain's grants is left."""

    async def alloc_unbound(self, remote_domid: "DomId") -> EventChannel:
        """Return a new port that `remote_domid`, and it alone, may bind."""

    async def bind_interdomain(
        self, remote_domid: "DomId", remote_port: "Port"
    ) -> EventChannel:
        """Return a new port, pending at once, connected to an unbound remote one.

        EINVAL unless the remote port waits for the caller's domain.
        """

    async def close_channel(self, channel: EventChannel) -> None:
        """Close a port; the other end can be bound again. Again is harmless."""

    async def publish(
        self, domid: "DomId", devid: "DevId", side: Side, queue: int, page_fd: int
    ) -> None:
        """Show a queue's statistics page to the tools for as long as the caller runs.

        `domid` is the frontend's. `page_fd` is a memfd sealed against shrinking and
        stays the caller's.
        """

    async def unpublish(self, domid: "DomId", devid: "DevId", side: Side) -> None:
        """Show the pages of a vif that is gone no longer."""
