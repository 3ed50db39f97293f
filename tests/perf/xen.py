"""The kernel's netback beside ours, on Xen, in one run: a guest with a vif of each.

For dom0; scripts/bench xen runs it in the lab. There all processors are emulated, so
that a figure says something only beside the other one of its row.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from tests.perf.table import spread
from tests.perf.traffic import number
from tests.xen.ends import RunningEnd, kernel_takes_no_new_vif, wait_for_states
from tests.xenlab.guest import Guest

SMALL_UDP_BYTES: Final = 22
"""Of payload, for frames of 64 bytes."""


@dataclass(frozen=True, slots=True)
class Link:
    """A vif of the guest, and the guest's address on it."""

    guest: Guest
    address: str


@contextmanager
def links() -> Iterator[dict[str, Link]]:
    """A guest with Linux's netfront, served by the kernel on eth0, by us on eth1."""
    mac = "00:16:3e:00:01:0"
    with Guest.create("bench", [f"mac={mac}1,script=vif-noop"], python=True) as guest:
        name = f"vif{guest.domid}"
        # Nobody runs a script for either: both are plain interfaces of dom0.
        _store_write(f"backend/vif/{guest.domid}/0/hotplug-status", "connected")
        wait_for_states(guest.domid, "4", "4")
        with kernel_takes_no_new_vif(), RunningEnd("backend", "--no-hotplug"):
            attach = ["xl", "network-attach", guest.name, f"mac={mac}2"]
            subprocess.run([*attach, "script=vif-noop"], check=True)
            wait_for_states(guest.domid, "4", "4", devid=1)
            made = {}
            for devid, peer in enumerate(("netback", "xenvirt")):
                subnet = f"10.77.{devid}"
                for command in (
                    f"ip address add {subnet}.1/24 dev {name}.{devid}",
                    f"ip link set {name}.{devid} up",
                ):
                    subprocess.run(command.split(), check=True)
                guest.run(f"ip address add {subnet}.2/24 dev eth{devid}")
                guest.run(f"ip link set eth{devid} up")
                made[peer] = Link(guest, f"{subnet}.2")
            yield made


def _store_write(path: str, value: str) -> None:
    subprocess.run(["xenstore-write", f"/local/domain/0/{path}", value], check=True)


def _iperf3(link: Link, seconds: float, *options: str) -> dict[str, object]:
    link.guest.start("iperf3 -s -1")
    link.guest.run("until ss -ltn | grep -q :5201; do sleep 0.1; done")
    client = ["iperf3", "--json", "--client", link.address, "--time", f"{seconds:g}"]
    done = subprocess.run(
        [*client, *options],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )
    end: dict[str, object] = json.loads(done.stdout)["end"]
    return end


def tcp_to_guest(link: Link, seconds: float) -> float:
    """RX, Mbit/s."""
    end = _iperf3(link, seconds)
    return number(end, "sum_received", "bits_per_second") / 1e6


def tcp_from_guest(link: Link, seconds: float) -> float:
    """TX, Mbit/s."""
    end = _iperf3(link, seconds, "--reverse")
    return number(end, "sum_received", "bits_per_second") / 1e6


def udp_small(link: Link, seconds: float) -> float:
    """64-byte frames delivered from the guest, a second."""
    udp = ("--udp", "--bitrate", "0", "--length", str(SMALL_UDP_BYTES), "--reverse")
    total = _iperf3(link, seconds, *udp)["sum"]
    return (number(total, "packets") - number(total, "lost_packets")) / number(
        total, "seconds"
    )


def round_trip(link: Link, seconds: float) -> float:
    """Round trip, 50 ms apart, ms."""
    done = subprocess.run(
        ["ping", "-n", "-i", "0.05", "-c", str(int(20 * seconds)), link.address],
        capture_output=True,
        text=True,
        check=True,
    )
    return statistics.median(
        float(line.split("time=")[1].split()[0])
        for line in done.stdout.splitlines()
        if "time=" in line
    )


MEASURES: Final[Mapping[str, Callable[[Link, float], float]]] = {
    "TCP to the guest, Mbit/s": tcp_to_guest,
    "TCP from the guest, Mbit/s": tcp_from_guest,
    "UDP from the guest, 64-byte frames, packets/s": udp_small,
    "round trip, ms": round_trip,
}


def main() -> None:
    """Measure each in turn, and print medians, spread and ratio."""
    parser = argparse.ArgumentParser(prog="scripts/bench xen", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--json", action="store_true", help="every single value")
    options = parser.parse_args()
    with links() as peers:
        results: dict[str, dict[str, list[float]]] = {
            name: {peer: [] for peer in peers} for name in MEASURES
        }
        for each in range(options.rounds):
            for name, function in MEASURES.items():
                for peer, link in peers.items():
                    results[name][peer].append(function(link, options.seconds))
            print(f"round {each + 1} of {options.rounds}", file=sys.stderr)
    if options.json:
        print(json.dumps({"kernel": platform.release(), "results": results}))
        return
    print(f"{'':46}  {'netback':>24}  {'xenvirt':>24}  xenvirt/netback")
    for name, by_peer in results.items():
        ratio = statistics.median(by_peer["xenvirt"]) / statistics.median(
            by_peer["netback"]
        )
        cells = "  ".join(f"{spread(by_peer[peer]):>24}" for peer in peers)
        print(f"{name:46}  {cells}  {ratio:.2f}")


if __name__ == "__main__":
    main()
