"""One packet's slots in a ring (netif.h): the first, its extras, all that follow.

A driver publishes them together, by one step of its producer index. Netback disables
the vif of one that does not, and netfront drops the packet; neither waits for the rest.
"""

from typing import TypeVar

from xenvirt.abi.ids import PAGE_SIZE
from xenvirt.abi.netif import EXTRA_FLAG_MORE, TxFlags
from xenvirt.errors import XenvirtError
from xenvirt.testing.ring import Ring
from xenvirt.testing.slots import Extra, RxResponse, TxRequest, parse

Data = TypeVar("Data", TxRequest, RxResponse)


def take(ring: Ring, kind: type[Data], first: int, waiting: int) -> list[Data | Extra]:
    """Read the packet that begins at index `first`, of so many slots that wait.

    XenvirtError if its flags ask for more of them.
    """
    slots: list[Data | Extra] = []
    more, extra = True, False
    while more or extra:
        if len(slots) == waiting:
            missing = "extra info" if extra else "slot"
            raise XenvirtError(
                f"the driver published half a packet, in slots {first} to "
                f"{first + waiting - 1}",
                cause=f"the last one says that another {missing} follows",
            )
        raw = ring.raw(first + len(slots))
        if extra:
            info = parse(Extra, raw)
            slots.append(info)
            extra = bool(info.flags & EXTRA_FLAG_MORE)
            continue
        slot = parse(kind, raw)
        # These two flags are the same bits in both rings.
        extra = not slots and bool(slot.flags & TxFlags.EXTRA_INFO)
        more = bool(slot.flags & TxFlags.MORE_DATA)
        slots.append(slot)
    return slots


def check_within_page(offset: int, size: int) -> None:
    """Raise XenvirtError if so many bytes from there on are not all in one page."""
    if offset + size > PAGE_SIZE:
        raise XenvirtError(
            f"the driver's slot has offset {offset} and {size} bytes",
            cause=f"cross page boundary, which is at {PAGE_SIZE}",
        )
