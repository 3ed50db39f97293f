"""What goes wrong, by whose fault it is, and what the user does about it."""


class XenvirtError(Exception):
    """Anything that xenvirt reports; `str()` is one line: what, and why.

    `hint` is what to type next, `exit_code` the command's status.
    """

    exit_code = 1

    def __init__(self, what: str, *, cause: str = "", hint: str = "") -> None:
        super().__init__(f"{what}: {cause}" if cause else what)
        self.what = what
        self.cause = cause
        self.hint = hint


class LocalError(XenvirtError):
    """A call that xenvirt itself, or its user, got wrong."""


class UsageError(LocalError):
    """A value from the command line or a configuration that cannot be meant."""

    exit_code = 2


class NotFoundError(XenvirtError):
    """No such domain, vif or file."""

    exit_code = 3


class NotPermittedError(XenvirtError):
    """The caller may not do this; the hint says who may."""

    exit_code = 4


class StateTimeoutError(XenvirtError):
    """A device did not reach a state in time; both ends' states are in the text."""

    exit_code = 5


class PeerError(XenvirtError):
    """The other end of a device broke a rule of the protocol."""

    def __init__(self, reason: str, *, domid: int, devid: int | None = None) -> None:
        super().__init__(reason)
        self.domid = domid
        self.devid = devid


class StoreError(XenvirtError):
    """XenStore answered a request with an error."""

    def __init__(self, errno_name: str, *context: str) -> None:
        super().__init__(" ".join((*context, errno_name)) if context else errno_name)
        self.errno_name = errno_name


class HypercallError(XenvirtError):
    """The hypervisor refused; `errno_name` is Xen's (EINVAL, EPERM, ESRCH …)."""

    def __init__(self, errno_name: str, why: str) -> None:
        super().__init__(f"{why} ({errno_name})")
        self.errno_name = errno_name
        self.why = why


class RingIndexError(XenvirtError):
    """A XenStore ring whose indices are further apart than it is long."""


class GrantError(XenvirtError):
    """A grant operation was refused; `status` is Xen's GNTST_*, always negative."""

    def __init__(self, what: str, status: int) -> None:
        super().__init__(f"{what} (status {status})")
        self.status = status
