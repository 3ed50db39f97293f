"""What a daemon gets from its launcher when it begins."""

import socket
from dataclasses import dataclass, field

from xenvirt.abi.ids import DomId
from xenvirt.errors import HypercallError
from xenvirt.hypervisor import sync_client, wire
from xenvirt.hypervisor.keeper import Kept, Records


@dataclass(frozen=True, slots=True)
class RunningEnd:
    """A process of the launcher's."""

    pid: int
    role: str
    domid: DomId


@dataclass(slots=True)
class Inheritance:
    """What an earlier daemon has left: nothing at the first start.

    `after` says how that one ended, None if it did not; `launcher_pid` is the process
    whose end is the end of it all, None without one. Descriptors in `records` are
    the holder's.
    """

    records: Records = field(default_factory=dict)
    ends: list[RunningEnd] = field(default_factory=list)
    namespaces: list[str] = field(default_factory=list)
    after: str | None = None
    launcher_pid: int | None = None


def receive(sock: socket.socket) -> Inheritance:
    """Ask the launcher for it; blocks. HypercallError if the launcher is gone."""
    wire.send(sock, wire.encode({"op": "hello"}, wire.MAX_REQUEST))
    inherited = Inheritance()
    while True:
        packet = wire.receive(sock, wire.MAX_REPLY)
        if packet is None or "ok" in packet.body or "error" in packet.body:
            last, _ = sync_client.unpack(packet)
            after, pid = last["after"], last["pid"]
            inherited.after = None if after is None else str(after)
            inherited.launcher_pid = _number(pid)
            return inherited
        _add(inherited, packet)


def _add(inherited: Inheritance, packet: wire.Packet) -> None:
    body = packet.body
    if "kept" in body:
        value = body["value"]
        assert isinstance(value, dict)
        inherited.records[str(body["kept"])] = Kept(value, packet.fds)
    elif "end" in body:
        inherited.ends.append(
            RunningEnd(
                _number(body["end"]), str(body["role"]), DomId(_number(body["domid"]))
            )
        )
    elif "netns" in body:
        inherited.namespaces.append(str(body["netns"]))
    elif body.get("event") != "exited":
        # What was for the image before this one is seen in what the launcher has.
        raise HypercallError("EPROTO", f"the launcher says {body}")


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value
