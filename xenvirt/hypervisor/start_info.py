"""What the emulation hands a domain when it starts: memory, and a way to the store."""

import os
from dataclasses import dataclass

from xenvirt.abi.ids import DomId, Gfn
from xenvirt.hypervisor.eventfds import EventfdChannel


@dataclass(slots=True)
class DomainMemory:
    """A domain's pages: grant table frames, the store's ring, then data pages.

    Whoever was handed the object owns `fd` (a memfd sealed against shrinking and
    growing) and calls `close`; mappings made from it live on.
    """

    fd: int
    nr_pages: int
    nr_grant_frames: int

    def close(self) -> None:
        """Close the descriptor; again is harmless."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


@dataclass(slots=True)
class StartInfo:
    """What a domain is told when it starts (Xen's start_info).

    Domain 0 has neither memory to share nor a ring: its `memory` and `store` are
    None. The receiver owns both otherwise.
    """

    domid: DomId
    name: str
    memory: DomainMemory | None
    store_gfn: Gfn
    store: EventfdChannel | None

    def close(self) -> None:
        """Close every descriptor in it."""
        if self.memory is not None:
            self.memory.close()
        if self.store is not None:
            self.store.close()
