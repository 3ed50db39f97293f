"""One link beside its peers: throughput, small packets, round trips.

Peers take turns within each round, so that the machine's moods meet all of them;
what counts is the median, and its ratio to the relay's in the same run.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Final

from tests.perf.peers import PEERS, Link, run, up_ms

ETH_IP_UDP_BYTES: Final = 14 + 20 + 8
SMALL_FRAME_BYTES: Final = 64


def _iperf3(link: Link, seconds: float, *options: str) -> dict[str, object]:
    server = subprocess.Popen(
        link.far("iperf3", "--server", "--one-off", "--forceflush"),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        for line in server.stdout:
            if "listening" in line:
                break
        client = ("iperf3", "--json", "--client", link.far_ip, "--time", f"{seconds:g}")
        result: dict[str, object] = json.loads(run(*client, *options))["end"]
        return result
    finally:
        server.kill()
        server.communicate()


def number(tree: object, *path: str) -> float:
    """A number in a tree of JSON, by its keys."""
    for key in path:
        assert isinstance(tree, Mapping)
        tree = tree[key]
    assert isinstance(tree, int | float)
    return tree


def tcp_to_domain(link: Link, seconds: float) -> float:
    """RX, Gbit/s."""
    end = _iperf3(link, seconds)
    return number(end, "sum_received", "bits_per_second") / 1e9


def tcp_from_domain(link: Link, seconds: float) -> float:
    """TX, Gbit/s."""
    end = _iperf3(link, seconds, "--reverse")
    return number(end, "sum_received", "bits_per_second") / 1e9


def udp_small(link: Link, seconds: float) -> float:
    """64-byte frames delivered from the domain, thousands a second."""
    length = SMALL_FRAME_BYTES - ETH_IP_UDP_BYTES
    udp = ("--udp", "--bitrate", "0", "--length", str(length), "--reverse")
    total = _iperf3(link, seconds, *udp)["sum"]
    lost = number(total, "lost_packets")
    return (number(total, "packets") - lost) / number(total, "seconds") / 1e3


def _ping_ms(link: Link, *options: str) -> float:
    text = run("ping", "-n", *options, link.far_ip)
    times = [
        float(line.split("time=")[1].split()[0])
        for line in text.splitlines()
        if "time=" in line
    ]
    return statistics.median(times)


def ping_back_to_back(link: Link, seconds: float) -> float:
    """Round trip, each ping as soon as the last is answered, µs."""
    return _ping_ms(link, "-A", "-c", str(int(1000 * seconds))) * 1e3


def ping_idle(link: Link, seconds: float) -> float:
    """Round trip from idle, 10 ms apart, µs."""
    return _ping_ms(link, "-i", "0.01", "-c", str(int(100 * seconds))) * 1e3


MEASURES: Final[Mapping[str, tuple[str, Callable[[Link, float], float]]]] = {
    "TCP to the domain": ("Gbit/s", tcp_to_domain),
    "TCP from the domain": ("Gbit/s", tcp_from_domain),
    "UDP, 64-byte frames": ("kpackets/s", udp_small),
    "round trip, back to back": ("us", ping_back_to_back),
    "round trip, from idle": ("us", ping_idle),
}

Results = dict[str, dict[str, list[float]]]


def measure(rounds: int, seconds: float) -> Results:
    """Every measure of every peer, `rounds` times, the peers in turn."""
    results: Results = {name: {peer: [] for peer in PEERS} for name in MEASURES}
    with ExitStack() as stack:
        links = {
            peer: stack.enter_context(make(number))
            for number, (peer, make) in enumerate(PEERS.items(), 1)
        }
        for number in range(rounds):
            for name, (_, function) in MEASURES.items():
                for peer, link in links.items():
                    results[name][peer].append(function(link, seconds))
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
    return results


def spread(values: list[float]) -> str:
    """The median, and what the values lie between."""
    return f"{statistics.median(values):.4g} ({min(values):.4g}..{max(values):.4g})"


def table(results: Results) -> str:
    """The medians, with what they lie between, and the ratio to the relay."""
    rows = [["", *PEERS, "xenvirt/relay"]]
    for name, (unit, _) in MEASURES.items():
        by_peer = results[name]
        ratio = statistics.median(by_peer["xenvirt"]) / statistics.median(
            by_peer["relay"]
        )
        cells = [spread(by_peer[peer]) for peer in PEERS]
        rows.append([f"{name}, {unit}", *cells, f"{ratio:.2f}"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench link", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="for each figure")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = measure(arguments.rounds, arguments.seconds)
    if arguments.json:
        print(json.dumps({"schema": "xenvirt/1", "link": results}))
        return
    uname = platform.uname()
    print(f"{uname.machine}, Linux {uname.release}, medians of {arguments.rounds}")
    print(table(results))
    print(f"up, both ends Connected, ms: {spread(up_ms(arguments.rounds))}")


if __name__ == "__main__":
    main()
