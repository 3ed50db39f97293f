"""What the command's verbs are to do, and what there is afterwards.

A model is domains by name, with the devids of their vifs. The world is read from
everywhere that something could be left behind: what the command prints, the store, the
kernel's interfaces and namespaces, and processes.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tests.integration.links import LinkMaker
from tests.integration.restarts import launcher_of, store_of
from xenvirt.abi.ids import DOM0
from xenvirt.netdev import links as netlinks
from xenvirt.netdev import namespaces
from xenvirt.xenstore.errors import StoreNotFoundError
from xenvirt.xenstore.sync_client import SyncClient

CONNECTED = "Connected"

Model: TypeAlias = Mapping[str, frozenset[int]]


@dataclass(frozen=True, slots=True)
class Verb:
    """A command about a domain, or with an empty `name` about all.

    `devid` is that of a vif; of one that is attached, None leaves it to be chosen.
    """

    verb: str
    name: str
    devid: int | None = None

    def arguments(self, links: LinkMaker) -> list[str]:
        """What follows `xenvirt`."""
        if not self.name:
            return [self.verb, "--all"]
        words = [self.verb, links.name(self.name)]
        if self.devid is not None:
            words.append(f"devid={self.devid}" if self.attaches else str(self.devid))
        # One queue: what several are to do other tests say.
        return [*words, "queues=1"] if self.attaches or self.verb == "up" else words

    @property
    def attaches(self) -> bool:
        """Whether it makes a vif in a domain that there is."""
        return self.verb == "network-attach"

    def after(self, model: Model) -> Model | None:
        """What is then; None if it is refused."""
        vifs = model.get(self.name)
        others = {n: v for n, v in model.items() if n != self.name}
        match self.verb:
            case "create" | "up":
                new = frozenset({0} if self.verb == "up" else ())
                return {**others, self.name: new} if vifs is None else None
            case "down":
                return others if self.name else {}
            case "destroy":
                return others if vifs is not None else None
        if vifs is None:
            return None
        if self.attaches:
            free = (n for n in range(len(vifs) + 1) if n not in vifs)
            devid = next(free) if self.devid is None else self.devid
            return {**others, self.name: vifs | {devid}} if devid not in vifs else None
        return (
            {**others, self.name: vifs - {self.devid}} if self.devid in vifs else None
        )


def serial(model: Model, *verbs: Verb) -> Model:
    """What is after one and then the other; one that is refused changes nothing."""
    for verb in verbs:
        after = verb.after(model)
        model = model if after is None else after
    return model


@dataclass(frozen=True, slots=True)
class World:
    """What is there, or should be."""

    vifs: frozenset[tuple[str, int, str, str]]
    nodes: frozenset[str]
    interfaces: frozenset[str]
    namespaces: frozenset[str]
    processes: frozenset[str]

    @classmethod
    def of(cls, model: Model, links: LinkMaker, domids: Mapping[str, int]) -> "World":
        """What a model says, of domains with these numbers."""
        vifs = [(domids[name], name, v) for name in model for v in model[name]]
        numbers = [domids[name] for name in model]
        return cls(
            frozenset(
                (links.name(name), devid, CONNECTED, CONNECTED)
                for _, name, devid in vifs
            ),
            frozenset(
                {f"/local/domain/{domid}" for domid in numbers}
                | {f"/libxl/{domid}" for domid in numbers}
                | {f"/local/domain/{domid}/device/vif/{v}" for domid, _, v in vifs}
                | {f"/local/domain/0/backend/vif/{domid}/{v}" for domid, _, v in vifs}
                | {f"/libxl/{domid}/device/vif/{v}" for domid, _, v in vifs}
            ),
            frozenset(
                {f"xvif{domid}i{devid}" for domid, _, devid in vifs}
                | {f"{links.name(name)} xennet{devid}" for _, name, devid in vifs}
            ),
            frozenset(map(links.name, model)),
            frozenset(
                {"daemon", "backend-0"} | {f"frontend-{domid}" for domid in numbers}
            ),
        )

    @classmethod
    def look(cls, links: LinkMaker) -> tuple["World", dict[str, int]]:
        """What there is, and the numbers of the domains that are listed."""
        guests = _guests(links)
        tag = links.name("")
        names = {name for name in namespaces.list_names() if name.startswith(tag)}
        with store_of(links) as store:
            nodes = frozenset(_nodes(store))
        seen = cls(
            frozenset(
                (
                    domain["name"],
                    vif["devid"],
                    vif["front"]["state"],
                    vif["back"]["state"],
                )
                for domain in guests
                for vif in domain["vifs"]
            ),
            nodes,
            frozenset(_interfaces(str(links.run_dir), names)),
            frozenset(names),
            frozenset(_children(launcher_of(links))),
        )
        return seen, _domids(links, guests)


def domids_of(links: LinkMaker) -> dict[str, int]:
    """The numbers of the domains that are listed."""
    return _domids(links, _guests(links))


def _guests(links: LinkMaker) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = links.json("list", "--long")["domains"]
    return [domain for domain in listed if domain["domid"] != DOM0]


def _domids(links: LinkMaker, guests: list[dict[str, Any]]) -> dict[str, int]:
    return {d["name"].removeprefix(links.name("")): d["domid"] for d in guests}


def _interfaces(owner: str, netns: set[str]) -> set[str]:
    found = set(netlinks.owned(owner))
    for name in netns:
        with namespaces.inside(name):
            mine = set(netlinks.owned(owner)) - {"lo"}
        found |= {f"{name} {ifname}" for ifname in mine}
    return found


def _nodes(store: SyncClient) -> list[str]:
    """Every directory of a guest, and of a vif."""
    found = [
        f"{root}/{domid}"
        for root in ("/local/domain", "/libxl")
        for domid in _ls(store, root)
        if domid != str(DOM0)
    ]
    for directory in [f"{path}/device/vif" for path in found]:
        found += [f"{directory}/{devid}" for devid in _ls(store, directory)]
    backends = f"/local/domain/{DOM0}/backend/vif"
    for domid in _ls(store, backends):
        directory = f"{backends}/{domid}"
        found += [f"{directory}/{devid}" for devid in _ls(store, directory)]
    return found


def _ls(store: SyncClient, path: str) -> list[str]:
    try:
        return store.ls(path)
    except StoreNotFoundError:
        return []


def _children(pid: int) -> list[str]:
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        # It may have gone since.
        with suppress(OSError):
            found.append(Path(f"/proc/{child}/comm").read_text().strip())
    return found
