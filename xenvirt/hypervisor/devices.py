"""The devices by which a domain's kernel hands Xen's verbs to a process."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from xenvirt.errors import LocalError, NotFoundError, NotPermittedError
from xenvirt.hypervisor.detect import TYPE_FILE


@dataclass(frozen=True, slots=True)
class Device:
    """A device, and the kernel module that makes it."""

    path: str
    module: str


EVTCHN: Final = Device("/dev/xen/evtchn", "xen-evtchn")
GNTDEV: Final = Device("/dev/xen/gntdev", "xen-gntdev")
GNTALLOC: Final = Device("/dev/xen/gntalloc", "xen-gntalloc")


def open_device(device: Device, flags: int) -> int:
    """Open it, close-on-exec; NotFoundError or NotPermittedError with what to type."""
    try:
        return os.open(device.path, flags | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"there is no {device.path}",
            cause=f"the kernel module {device.module} is not loaded",
            hint=f"modprobe {device.module}",
        ) from error
    except PermissionError as error:
        raise NotPermittedError(
            f"may not open {device.path}",
            cause=f"this is user {os.geteuid()}",
            hint="run it as root, with sudo",
        ) from error
    except OSError as error:
        raise LocalError(
            f"cannot open {device.path}", cause=error.strerror or str(error)
        ) from error


def require_xen(*devices: Device, type_file: Path = TYPE_FILE) -> None:
    """Raise NotFoundError or NotPermittedError unless this is Xen, with `devices`."""
    if not Path("/dev/xen").is_dir():
        what = type_file.read_text().strip() if type_file.exists() else "nothing"
        raise NotFoundError(
            "there is no /dev/xen",
            cause=f"this is no domain of Xen ({type_file} says {what})",
            hint="--hypervisor emulated",
        )
    for device in devices:
        os.close(open_device(device, os.O_RDWR))
