"""Which hypervisor there is."""

from pathlib import Path
from typing import Final

from xenvirt.hypervisor.interface import HypervisorKind

TYPE_FILE: Final = Path("/sys/hypervisor/type")


def found(type_file: Path = TYPE_FILE) -> HypervisorKind:
    """Return Xen if the kernel runs on it, else the emulation."""
    try:
        text = type_file.read_text().strip()
    except OSError:
        text = ""
    return HypervisorKind.XEN if text == "xen" else HypervisorKind.EMULATED
