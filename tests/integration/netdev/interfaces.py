"""The interfaces that these tests have in a namespace of their own."""

import itertools
import os
import select
import subprocess

from xenvirt.netdev import tap

TAP = "xvt0"
BRIDGE = "xvbr0"

_numbers = itertools.count()


def unused_name() -> str:
    return f"xvt{os.getpid()}-{next(_numbers)}"


def make_bridge(mtu: int = 1500) -> None:
    subprocess.run(
        ["ip", "link", "add", BRIDGE, "mtu", str(mtu), "type", "bridge"], check=True
    )


def link_text() -> str:
    command = ["ip", "link", "show", TAP]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def read_frame(fd: int) -> tuple[bytes, bytes]:
    assert select.select([fd], [], [], 10)[0], "no frame within 10 s"
    data = os.read(fd, 65536 + tap.VNET_HDR_SIZE)
    return data[: tap.VNET_HDR_SIZE], data[tap.VNET_HDR_SIZE :]
