"""The identifiers of a Xen system (xen.h, event_channel.h, grant_table.h)."""

from typing import Final, NewType

DomId = NewType("DomId", int)
"""A domain, 0..32751 (0x7FEF); 0 is the host."""

DevId = NewType("DevId", int)
"""A vif's handle within its frontend domain."""

Gref = NewType("Gref", int)
"""One entry of a grant table."""

Port = NewType("Port", int)
"""One end of an event channel, local to a domain; 0 is never valid."""

Gfn = NewType("Gfn", int)
"""A page number within a domain's memory."""

DOM0: Final = DomId(0)
DOMID_FIRST_RESERVED: Final = 0x7FF0
DOMID_SELF: Final = DomId(0x7FF0)
DOMID_ANY: Final = DomId(0x7FF5)

PAGE_SIZE: Final = 4096
"""Bytes; a grant, a ring and a fragment are all of one page."""

GNTTAB_RESERVED_CONSOLE: Final = Gref(0)
GNTTAB_RESERVED_XENSTORE: Final = Gref(1)
GNTTAB_NR_RESERVED_ENTRIES: Final = 8
