"""Our store sends what dom0's xenstored has sent since it began, by its own trace."""

from itertools import islice
from pathlib import Path

import pytest

from tests.conformance.trace_replay import replay

XEN = Path("/sys/hypervisor/type")
TRACE = Path("/run/xenstored.trace")
LINES = 5_000
"""From the boot on, and so the first guests: emulated processors are slow."""


def _missing() -> str | None:
    if not XEN.exists() or XEN.read_text().strip() != "xen":
        return "not under Xen: /sys/hypervisor/type does not say xen"
    if not TRACE.exists():
        return f"no {TRACE}: xenstored was started without --trace-file"
    return None


MISSING = _missing()


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_our_store_is_like_this_xenstored(tmp_path: Path) -> None:
    copy = tmp_path / "xenstored.trace"
    with TRACE.open("rb") as trace:
        copy.write_bytes(b"".join(islice(trace, LINES)))
    comparison = replay(copy)
    print(comparison)
    assert comparison.unexplained() == [], str(comparison)
    assert comparison.replies > 0
    assert comparison.events > 0
