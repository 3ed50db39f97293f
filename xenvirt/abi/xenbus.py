"""xenbus states (io/xenbus.h)."""

from enum import IntEnum


class XenbusState(IntEnum):
    """The state of one end of a device, stored as decimal text in `state`."""

    UNKNOWN = 0
    INITIALISING = 1
    INIT_WAIT = 2
    INITIALISED = 3
    CONNECTED = 4
    CLOSING = 5
    CLOSED = 6
    RECONFIGURING = 7
    RECONFIGURED = 8

    @property
    def label(self) -> str:
        """The name as Xen's tools and logs spell it, such as `InitWait`."""
        return self.name.title().replace("_", "")

    @classmethod
    def parse(cls, text: str | None) -> "XenbusState":
        """Read a `state` node; missing or unreadable is UNKNOWN, as in Linux."""
        try:
            return cls(int(text or "0"))
        except ValueError:
            return cls.UNKNOWN
