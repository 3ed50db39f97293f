"""The order in which a backend does what a frontend, and who looks on, can see."""

import ctypes
import fcntl
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from xenvirt.testing.peer import Frontend, XenbusState
from xenvirt.toolstack.rundir import RunDir
from xenvirt.xenstore.trace import TraceDecoder, TraceKind, TraceRecord

pytestmark = pytest.mark.root

SIOCETHTOOL: Final = 0x8946
ETHTOOL_GLINK: Final = 0x0A

TIMES: Final = 20
"""How often it is looked whether something is done before something else."""


@pytest.fixture
def trace(run_dir: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(10.0)
        sock.connect(str(RunDir(run_dir).trace_socket))
        yield sock


def requests_before(trace: socket.socket, last: str) -> list[str]:
    """What is asked of the store until it is asked for `last`."""
    decoder = TraceDecoder()
    asked: list[str] = []
    while last not in asked:
        records = decoder.feed(trace.recv(1 << 16))
        asked.extend(as_text(r) for r in records if r.kind is TraceKind.REQUEST)
    return asked[: asked.index(last)]


def as_text(record: TraceRecord) -> str:
    return b" ".join([record.type_name.encode(), *record.arguments()]).decode()


def test_the_frontend_is_watched_ahead_of_init_wait(
    run_dir: Path, trace: socket.socket
) -> None:
    """Or the watch's first event reads a Connected that has an event of its own."""
    with Frontend(run_dir) as front:
        front.connect()
        domid = front.paths.frontend_id
        init_wait = f"WRITE backend/vif/{domid}/0/state {XenbusState.INIT_WAIT}"
        asked = requests_before(trace, init_wait)
    watch = f"WATCH {front.paths.frontend}/state "
    assert any(line.startswith(watch) for line in asked), asked


def has_carrier(ifname: str) -> bool:
    """At once: by ethtool's ioctl, as `ip` takes milliseconds to begin."""
    answer = ctypes.create_string_buffer(struct.pack("II", ETHTOOL_GLINK, 0))
    request = struct.pack("16sQ16x", ifname.encode(), ctypes.addressof(answer))
    with socket.socket() as sock:
        fcntl.ioctl(sock, SIOCETHTOOL, request)
    return bool(struct.unpack_from("II", answer)[1])


def test_who_sees_connected_can_send(run_dir: Path) -> None:
    """The cable is plugged in ahead of the state, as netback does."""
    with Frontend(run_dir) as front:
        for _ in range(TIMES):
            front.offer()
            name = str(front.driver.read("vifname"))
            front.driver.wait_for(XenbusState.CONNECTED)
            assert has_carrier(name)
            front.start_over()
            assert not has_carrier(name)
