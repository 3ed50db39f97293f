"""`rate=` against the vectors of Xen's tools/xl/check-xl-vif-parse."""

import pytest

from xenvirt.errors import UsageError
from xenvirt.toolstack.rate import Rate, parse_rate


@pytest.mark.parametrize("interval", ["", "@50ms", "@50m", "@50000us", "@50000u"])
@pytest.mark.parametrize(
    ("speed", "bytes_per_interval"),
    [
        ("16000000b/s", 100_000),
        ("2000000B/s", 100_000),
        ("16Kb/s", 100),
        ("2KB/s", 100),
        ("16Mb/s", 100_000),
        ("2MB/s", 100_000),
        ("8Gb/s", 50_000_000),
        ("1GB/s", 50_000_000),
    ],
)
def test_fifty_milliseconds_are_the_default(
    speed: str, interval: str, bytes_per_interval: int
) -> None:
    assert parse_rate(speed + interval) == Rate(bytes_per_interval, 50_000)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("80Mb/s@1s", Rate(10_000_000, 1_000_000)),
        ("10MB/s@1s", Rate(10_000_000, 1_000_000)),
        ("10MB/s@1", Rate(10_000_000, 1_000_000)),
        ("1MB/s@20ms", Rate(20_000, 20_000)),
        ("010MB/s@1s", Rate(8_000_000, 1_000_000)),
        ("4294967295GB/s@4us", Rate(17_179_869_180_000, 4)),
        ("1B/s@4294s", Rate(4_294, 4_294_000_000)),
    ],
)
def test_the_interval_is_the_users(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "@50ms",
        "foo",
        "10MB",
        "10MB/m",
        "10ZB",
        "10ZB/s",
        "10ZB/m",
        "-10MB/s",
        "10 MB/s",
        "10mb/s",
        "10MB/s\n",
        "08MB/s",
        "10Mb/s@",
        "10Mb/s@foo",
        "10Mb/s@10h",
        "10MB/s@10h",
        "10MB/s@10ms@10ms",
        "\u0661MB/s",
    ],
)
def test_any_other_syntax_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a rate") as caught:
        parse_rate(text)
    assert "250KB/s" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("4294967296b/s", "1..4294967295"),
        ("4294967296Kb/s", "1..4294967295"),
        ("4294967296Mb/s", "1..4294967295"),
        ("4294967296Gb/s", "1..4294967295"),
        ("0B/s", "1..4294967295"),
        ("00B/s", "1..4294967295"),
        ("1B/s@4294967296us", "1..4294967295"),
        ("1B/s@0us", "1..4294967295"),
        ("1B/s@4294968ms", "at most 4294967295 us"),
        ("1B/s@4295s", "at most 4294967295 us"),
        ("4294967295GB/s@5us", "64 bits"),
        ("4296MB/s@4294s", "64 bits"),
        ("7b/s@1s", "less than one byte"),
        ("19B/s", "less than one byte in 50000 us"),
    ],
)
def test_what_overflows_or_underflows_is_refused_with_the_bound(
    text: str, bound: str
) -> None:
    with pytest.raises(UsageError) as caught:
        parse_rate(text)
    assert text in str(caught.value)
    assert bound in str(caught.value)
