"""What differs between the toolstacks that make vifs, ours and libxl."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Conventions:
    """`back_ifname` is a backend's interface, of `{domid}` and `{devid}`.

    `ifname_keys`: each end tells in its node what its interface is called.
    """

    back_ifname: str
    ifname_keys: bool


EMULATED: Final = Conventions(back_ifname="xvif{domid}i{devid}", ifname_keys=True)
"""NetBSD's names."""

XEN: Final = Conventions(back_ifname="vif{domid}.{devid}", ifname_keys=False)
"""Linux netback's, which libxl's hotplug scripts expect."""
