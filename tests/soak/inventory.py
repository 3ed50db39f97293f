"""Everything that a crash must leave as it was: interfaces, processes, grants, nodes.

What may differ is what a new process chooses anew, and is left out: port numbers,
values of nodes, pids.
"""

import json
import mmap
import os
import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from tests.soak.world import World, run
from xenvirt.abi.gnttab import GRANT_ENTRY_SIZE
from xenvirt.abi.ids import PAGE_SIZE, DomId
from xenvirt.hypervisor.memory import NR_GRANT_ENTRIES, NR_GRANT_FRAMES
from xenvirt.hypervisor.sync_client import SyncClient as Hypercalls
from xenvirt.netdev import namespaces
from xenvirt.xenstore.sync_client import SyncClient

_GRANTED: Final = 3
"""GTF_type_mask: none of its bits is set in an entry that grants nothing."""
_SERIAL: Final = re.compile(r":\[\d+\]$")
_ERRORS: Final = Counter(["/local/domain/0/error"])
"""Made by domain 0's first error, it stays; there is nothing in it."""
_IDENTITY: Final = ("ifindex", "address", "mtu", "master", "operstate")
_ROUTE: Final = ("dst", "gateway", "dev", "prefsrc", "protocol", "scope", "metric")


@dataclass(frozen=True, slots=True)
class Inventory:
    """What there is of a world; each part maps a name to whatever can be compared.

    `interfaces` and `routes` are by namespace, "" for the host's. `descriptors` are
    counted by process and by what they are of.
    """

    interfaces: Mapping[str, object]
    routes: Mapping[str, object]
    namespaces: Mapping[str, object]
    processes: Mapping[str, object]
    descriptors: Mapping[str, object]
    grants: Mapping[str, object]
    ports: Mapping[str, object]
    nodes: Mapping[str, object]

    @classmethod
    def take(cls, world: World) -> "Inventory":
        """Look at all of it."""
        names = [link.netns for link in world.all_links]
        domids = [DomId(0), *(DomId(link.domid) for link in world.all_links)]
        processes = _processes(str(world.links.run_dir))
        return cls(
            {name: _interfaces(name) for name in ("", *names)},
            {name: _routes(name) for name in ("", *names)},
            Counter(filter(world.is_its, namespaces.list_names())),
            Counter(processes.values()),
            {name: _descriptors(pid) for pid, name in processes.items()},
            {str(domid): _grants(world, domid) for domid in domids[1:]},
            {str(domid): _ports(world, domid) for domid in domids},
            Counter(_nodes(world.host.store, "/")) - _ERRORS,
        )

    def differences(self, before: "Inventory") -> list[str]:
        """Say what is not as it was, a line each."""
        return [
            f"{part.name} {name or 'host'}: {was} is now {now}"
            for part in fields(self)
            for name, was, now in _changed(
                getattr(before, part.name), getattr(self, part.name)
            )
        ]


def _changed(
    before: Mapping[str, object], after: Mapping[str, object]
) -> Iterator[tuple[str, object, object]]:
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name, "nothing"), after.get(name, "nothing")
        if was == now:
            continue
        if isinstance(was, dict) and isinstance(now, dict):
            for inner, inner_was, inner_now in _changed(was, now):
                yield f"{name} {inner}".strip(), inner_was, inner_now
        else:
            yield name, was, now


def _ip(netns: str, *arguments: str) -> list[dict[str, Any]]:
    where = ("-n", netns) if netns else ()
    parsed: list[dict[str, Any]] = json.loads(run("ip", *where, "-j", *arguments))
    return parsed


def _interfaces(netns: str) -> dict[str, object]:
    return {
        link["ifname"]: {key: link.get(key) for key in _IDENTITY}
        | {
            "addresses": sorted(
                f"{address['local']}/{address['prefixlen']}"
                for address in link["addr_info"]
            )
        }
        for link in _ip(netns, "address")
    }


def _routes(netns: str) -> dict[str, int]:
    return Counter(
        " ".join(f"{key} {route[key]}" for key in _ROUTE if key in route)
        for family in ("-4", "-6")
        for route in _ip(netns, family, "route", "show", "table", "all")
        if route.get("type") != "multicast"
    )


def _processes(run_dir: str) -> dict[int, str]:
    """The daemon's, whoever their parent is, and their names."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = (path / "cmdline").read_bytes()
            if f"--run-dir={run_dir}".encode() in arguments.split(b"\0"):
                found[int(path.name)] = (path / "comm").read_text().strip()
    return found


def _descriptors(pid: int) -> dict[str, int]:
    kinds: Counter[str] = Counter()
    with suppress(OSError):
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                # socket:[123], anon_inode:[eventfd], /memfd:xenvirt-1 (deleted), …
                kinds[_SERIAL.sub("", os.readlink(path))] += 1
    return dict(kinds)


def _grants(world: World, domid: DomId) -> int:
    """How many entries of a domain's table grant something."""
    # A connection of its own: who has got a domain's memory counts as a backend, and
    # while there is one nobody's in-use bits are cleared.
    with Hypercalls(world.host.run_dir.hypervisor_socket) as hypervisor:
        _, fds = hypervisor.call("memory", domid=domid)
    try:
        with mmap.mmap(
            fds[0], NR_GRANT_FRAMES * PAGE_SIZE, prot=mmap.PROT_READ
        ) as table:
            entries = table[: NR_GRANT_ENTRIES * GRANT_ENTRY_SIZE]
    finally:
        for fd in fds:
            os.close(fd)
    flags = (entry[0] for entry in struct.iter_unpack("<HHI", entries))
    return sum(1 for each in flags if each & _GRANTED)


def _ports(world: World, domid: DomId) -> dict[str, int]:
    """How many there are of each state, by the domain at the other end."""
    rows = world.host.hypervisor.ports(domid)
    return dict(Counter(f"{row['state']} with {row['remote_domid']}" for row in rows))


def _nodes(store: SyncClient, path: str) -> Iterator[str]:
    yield path
    for child in store.ls(path):
        yield from _nodes(store, f"{path.rstrip('/')}/{child}")
