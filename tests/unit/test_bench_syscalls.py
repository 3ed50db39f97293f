"""What `scripts/bench syscalls` prints."""

import errno

from tests.perf.tap_syscalls import parse, table

PRINTED = "\n".join(
    [
        *(f"read\t64\treadv\t{ns}" for ns in (300, 200, 100)),
        *(f"read\t64\tio_uring\t{ns}" for ns in (80, 90, 100)),
        *(f"read\t64\tmultishot\t{-errno.EOPNOTSUPP}.0" for _ in range(3)),
    ]
)


def test_ratios_are_to_the_first_way() -> None:
    lines = table(parse(PRINTED)).splitlines()
    assert lines[1].split() == ["readv", "200", "(100..300)", "1.00"]
    assert lines[2].split() == ["io_uring", "90", "(80..100)", "0.45"]


def test_a_way_that_is_refused_is_said() -> None:
    assert "Operation not supported" in table(parse(PRINTED)).splitlines()[3]
