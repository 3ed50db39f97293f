"""The backend's node `rate`, as Linux netback reads it (xen_net_read_rate)."""

import pytest

from xenvirt.vif.rate import NO_LIMIT, Credit, parse

MAX = 2**64 - 1


@pytest.mark.parametrize(
    ("text", "credit"),
    [
        ("6250,50000", Credit(6250, 50_000)),
        ("007,00", Credit(7, 0)),
        ("0,0", Credit(0, 0)),
        (f"{MAX},{MAX}", Credit(MAX, MAX)),
        (None, NO_LIMIT),
    ],
)
def test_bytes_and_microseconds(text: str | None, credit: Credit) -> None:
    assert parse(text) == credit


@pytest.mark.parametrize(
    "text",
    [
        "",
        "6250",
        "6250,",
        ",50000",
        " 6250,50000",
        "6250, 50000",
        "6250,50000\n",
        "6250,50000,",
        "+6250,50000",
        "-1,50000",
        "0x10,50000",
        "6250,50000us",
        "\u0661,50000",
        f"{MAX + 1},50000",
        f"6250,{MAX + 1}",
        "9" * 5000 + ",1",
    ],
)
def test_anything_else_cannot_be_parsed(text: str) -> None:
    assert parse(text) is None
