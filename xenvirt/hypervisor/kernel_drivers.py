"""Which vifs the kernel's own drivers have on Xen, by sysfs, and what to type then."""

from pathlib import Path
from typing import Final

from xenvirt.errors import LocalError

BACKEND_BUS: Final = Path("/sys/bus/xen-backend")
FRONTEND_BUS: Final = Path("/sys/bus/xen")
UDEV: Final = Path("/run/udev/control")


def driven_by(
    nodename: str, *, backends: Path = BACKEND_BUS, frontends: Path = FRONTEND_BUS
) -> str | None:
    """Return which driver has backend/vif/D/H or device/vif/H; None: none has.

    The text goes on with what to type, for that device alone.
    """
    kind, _, ids = nodename.split("/", 2)
    bus = backends if kind == "backend" else frontends
    device = f"vif-{ids.replace('/', '-')}"
    driver = bus / "devices" / device / "driver"
    if not driver.exists():
        return None
    who = "netback" if kind == "backend" else "netfront"
    return (
        f"the kernel's {who} drives it; to take it over: "
        f"echo {device} > {driver.resolve()}/unbind, and start this again"
    )


def refuse_contest(bus: Path = BACKEND_BUS, *, udev: Path = UDEV) -> None:
    """Raise LocalError if the kernel's driver of a bus takes every vif from now on.

    It does so when it is loaded, or will be: udev loads it for the first vif.
    """
    autoprobe = bus / "drivers_autoprobe"
    try:
        takes_new = autoprobe.read_text().strip() == "1"
    except OSError:
        return
    who = "netfront" if bus == FRONTEND_BUS else "netback"
    if takes_new and ((bus / "drivers" / "vif").exists() or udev.exists()):
        raise LocalError(
            f"the kernel's {who} takes every new vif",
            cause=f"{autoprobe} is 1",
            hint=f"echo 0 > {autoprobe}",
        )
