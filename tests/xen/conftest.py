"""These tests are for the dom0 of a real Xen: scripts/xen-lab test."""

from pathlib import Path
from typing import Final

import pytest

_HERE: Final = Path(__file__).resolve().parent
_HYPERVISOR: Final = Path("/sys/hypervisor/type")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Anywhere else, say so."""
    if _HYPERVISOR.exists() and _HYPERVISOR.read_text().strip() == "xen":
        return
    skip = pytest.mark.skip(reason="needs Xen: run scripts/xen-lab test")
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(skip)
