"""Network interfaces by name: look, configure, delete, and whose they are."""

import errno
from dataclasses import dataclass
from typing import Any, Final

from xenvirt.errors import LocalError, NotFoundError
from xenvirt.netdev.ifname import check_ifname
from xenvirt.netdev.netlink import NetlinkRefusedError, conversation, link_index

ALIAS_PREFIX: Final = "xenvirt "
"""How the alias of every interface begins that xenvirt made and may delete."""

_IFF_UP: Final = 1
_IN6_ADDR_GEN_MODE_EUI64: Final = 0
_IN6_ADDR_GEN_MODE_NONE: Final = 1


@dataclass(frozen=True, slots=True)
class Link:
    """An interface; `mtu` in bytes without the Ethernet header."""

    name: str
    index: int
    mac: str
    mtu: int
    up: bool
    master: str | None
    alias: str

    @property
    def is_ours(self) -> bool:
        """Whether xenvirt made it."""
        return self.alias.startswith(ALIAS_PREFIX)


def exists(name: str) -> bool:
    """Say whether the namespace has an interface `name`."""
    return get(name) is not None


def get(name: str) -> Link | None:
    """Look the interface up; None if there is none."""
    with conversation(f"look for interface {name}") as ipr:
        message = _find(ipr, name)
        if message is None:
            return None
        master_index = message.get_attr("IFLA_MASTER")
        if master_index is None:
            return _link(message, master=None)
        (master,) = ipr.link("get", index=master_index)
        return _link(message, master=master.get_attr("IFLA_IFNAME"))


def configure(
    name: str,
    *,
    mac: str | None = None,
    mtu: int | None = None,
    up: bool | None = None,
    master: str | None = None,
    alias: str | None = None,
    ipv6_noise: bool | None = None,
    gso_max_size: int | None = None,
) -> None:
    """Set what is given; None leaves it as it is, `master=""` takes it off a bridge.

    `ipv6_noise=False` keeps the kernel from giving the interface a link-local
    address, and with it from sending NS, RS and MLD when it goes up; addresses
    can still be added. `gso_max_size` is of a whole packet, in bytes. Raises
    NotFoundError for `name` or `master`, and NetlinkRefusedError for a value that
    the driver does not take.
    """
    wanted: dict[str, object] = {}
    if mac is not None:
        wanted["address"] = mac
    if mtu is not None:
        wanted["mtu"] = mtu
    if alias is not None:
        wanted["ifalias"] = alias
    if gso_max_size is not None:
        wanted["gso_max_size"] = gso_max_size
    if up is not None:
        wanted["state"] = "up" if up else "down"
    words = " ".join(f"{key} {value}" for key, value in wanted.items())

    with conversation(f"configure {name} {words}".rstrip()) as ipr:
        index = link_index(ipr, name)
        if master is not None:
            wanted["master"] = link_index(ipr, master) if master else 0
        if ipv6_noise is not None:
            # In a message of its own: the kernel handles IFLA_AF_SPEC last, when
            # `up` has already made the noise.
            ipr.link("set", index=index, IFLA_AF_SPEC=_addr_gen_mode(ipv6_noise))
        if wanted:
            ipr.link("set", index=index, **wanted)


def delete(name: str) -> None:
    """Delete the interface; nothing happens if there is none."""
    try:
        with conversation(f"delete {name}") as ipr:
            for index in ipr.link_lookup(ifname=name):
                ipr.link("del", index=index)
    except NetlinkRefusedError as error:
        if error.errno != errno.ENODEV:
            raise


def alias(owner: str, what: str) -> str:
    """Return the alias of an interface that the daemon in `owner` has, a directory."""
    return f"{ALIAS_PREFIX}{owner} {what}"


def owned(owner: str) -> list[str]:
    """Name the namespace's interfaces that the daemon in `owner` had made."""
    with conversation("list interfaces") as ipr:
        links = [_link(message, master=None) for message in ipr.get_links()]
    prefix = alias(owner, "")
    return [link.name for link in links if link.alias.startswith(prefix)]


def require_bridge(name: str) -> Link:
    """Return the bridge `name`; raise with what to type if there is none."""
    check_ifname(name, what="bridge name")
    with conversation(f"look for bridge {name}") as ipr:
        message = _find(ipr, name)
    if message is None:
        raise NotFoundError(
            f"could not find bridge device {name}",
            hint=f"ip link add {name} type bridge && ip link set {name} up",
        )
    info = message.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info else None
    if kind != "bridge":
        raise LocalError(
            f"{name} is not a bridge",
            cause=f"it is an interface of kind {kind or 'hardware'}",
            hint="name one that this lists: ip link show type bridge",
        )
    return _link(message, master=None)


def _find(ipr: Any, name: str) -> Any:
    for index in ipr.link_lookup(ifname=name):
        return ipr.link("get", index=index)[0]
    return None


def _addr_gen_mode(noise: bool) -> dict[str, object]:
    mode = _IN6_ADDR_GEN_MODE_EUI64 if noise else _IN6_ADDR_GEN_MODE_NONE
    ipv6 = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", mode)]}
    return {"attrs": [("AF_INET6", ipv6)]}


def _link(message: Any, *, master: str | None) -> Link:
    return Link(
        name=message.get_attr("IFLA_IFNAME"),
        index=message["index"],
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=message.get_attr("IFLA_MTU"),
        up=bool(message["flags"] & _IFF_UP),
        master=master,
        alias=message.get_attr("IFLA_IFALIAS") or "",
    )
