"""The rate that was asked for beside the one that is got, one TCP stream from a domain.

The limit is changed while it flows, by the backend's node; `no limit` is what the
machine can do. Bits of whole frames, as the credit counts.
"""

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.flood import FAR, NEAR, Flood
from tests.integration.links import LinkMaker, tag
from xenvirt.toolstack.rate import parse_rate

ASKED: Final = (
    "1Mb/s", "2Mb/s", "5Mb/s", "10Mb/s", "20Mb/s", "50Mb/s", "100Mb/s", "200Mb/s",
    "500Mb/s", "1Gb/s", "2Gb/s", "5Gb/s", "10Gb/s",
)  # fmt: skip
SETTLE_S: Final = 0.5


class Row(NamedTuple):
    """Mbit/s; `asked` of None is no limit."""

    asked: float | None
    got: float


def measure(seconds: float, interval: str, *, udp: bool) -> Iterator[Row]:
    """Every rate in turn, then none."""
    with tempfile.TemporaryDirectory(prefix="xenvirt-bench-") as directory:
        os.chmod(directory, 0o755)
        links = LinkMaker(Path(directory), tag())
        try:
            link = links.up("rate", "--ip", f"{FAR}/24", "--peer-ip", f"{NEAR}/24")
            with Flood(links, link, udp=udp) as flood:
                for text in ASKED:
                    rate = parse_rate(f"{text}@{interval}")
                    flood.set_rate(f"{rate.bytes_per_interval},{rate.interval_usecs}")
                    flood.bits_per_s(SETTLE_S)
                    asked = 8 * rate.bytes_per_interval / rate.interval_usecs
                    yield Row(asked, flood.bits_per_s(seconds) / 1e6)
                flood.set_rate("no limit")
                yield Row(None, flood.bits_per_s(seconds) / 1e6)
        finally:
            links.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench rate", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4, help="for each figure")
    parser.add_argument("--interval", default="50ms", help="of the credit, as in rate=")
    parser.add_argument("--udp", action="store_true", help="datagrams of 1,400 bytes")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = measure(arguments.seconds, arguments.interval, udp=arguments.udp)
    if arguments.json:
        print(
            json.dumps({"schema": "xenvirt/1", "rate": [row._asdict() for row in rows]})
        )
        return
    uname = platform.uname()
    print(f"{uname.machine}, Linux {uname.release}, Mbit/s")
    print(f"{'asked':>10} {'got':>10} {'got/asked':>10}")
    for asked, got in rows:
        if asked is None:
            print(f"{'no limit':>10} {got:>10.4g}")
        else:
            print(f"{asked:>10g} {got:>10.4g} {got / asked:>10.3f}", flush=True)


if __name__ == "__main__":
    main()
