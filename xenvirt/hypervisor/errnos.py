"""A system call's error as the hypervisor's refusal."""

import errno

from xenvirt.errors import HypercallError


def refused(error: OSError, why: str = "") -> HypercallError:
    """The same error with its name, and `why` or its own words."""
    name = errno.errorcode.get(error.errno or errno.EIO, "EIO")
    return HypercallError(name, why or error.strerror or str(error))
