"""Network interfaces by name: look, configure, delete, and whose they are."""

import contextlib
import errno
import socket
from dataclasses import dataclass
from typing import Any, Final

from xenvirt.errors import LocalError, NotFoundError
from xenvirt.netdev import rtnetlink
from xenvirt.netdev.ifname import check_ifname
from xenvirt.netdev.netlink import NetlinkRefusedError, conversation, refusals
from xenvirt.netdev.rtnetlink import IFF_UP, Rtnetlink

ALIAS_PREFIX: Final = "xenvirt "
"""How the alias of every interface begins that xenvirt made and may delete."""

_IN6_ADDR_GEN_MODE_EUI64: Final = 0
_IN6_ADDR_GEN_MODE_NONE: Final = 1
_STATE: Final = {True: "up", False: "down", None: None}


@dataclass(frozen=True, slots=True)
class Link:
    """An interface; `mtu` in bytes without the Ethernet header.

    `tap_queues` are the descriptors that processes hold of a multi-queue TAP; 0 for
    any other interface.
    """

    name: str
    index: int
    mac: str
    mtu: int
    up: bool
    master: str | None
    alias: str
    tap_queues: int = 0

    @property
    def is_ours(self) -> bool:
        """Whether xenvirt made it."""
        return self.alias.startswith(ALIAS_PREFIX)


def exists(name: str) -> bool:
    """Say whether the namespace has an interface `name`."""
    try:
        return socket.if_nametoindex(name) > 0
    except OSError:
        return False


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
    qdisc: str | None = None,
) -> None:
    """Set what is given; None leaves it as it is, `master=""` takes it off a bridge.

    `ipv6_noise=False` keeps the kernel from giving the interface a link-local
    address, and with it from sending NS, RS and MLD when it goes up; addresses
    can still be added. `gso_max_size` is of a whole packet, in bytes. `qdisc` is
    the root one's kind; a kernel that does not take it keeps its own. Raises
    NotFoundError for `name` or `master`, and NetlinkRefusedError for a value that
    the driver does not take.
    """
    wanted = b""
    if mac is not None:
        wanted += rtnetlink.attribute(rtnetlink.IFLA_ADDRESS, _mac_bytes(mac))
    if mtu is not None:
        wanted += rtnetlink.number(rtnetlink.IFLA_MTU, mtu)
    if alias is not None:
        wanted += rtnetlink.text(rtnetlink.IFLA_IFALIAS, alias)
    if gso_max_size is not None:
        wanted += rtnetlink.number(rtnetlink.IFLA_GSO_MAX_SIZE, gso_max_size)
    index = _index(name)
    if master is not None:
        master_index = _index(master) if master else 0
        wanted += rtnetlink.number(rtnetlink.IFLA_MASTER, master_index)

    asked = {"address": mac, "mtu": mtu, "ifalias": alias, "master": master}
    asked |= {"gso_max_size": gso_max_size, "state": _STATE[up]}
    words = [f"{key} {value}" for key, value in asked.items() if value is not None]
    what = " ".join(["configure", name, *words])
    with refusals(what), contextlib.closing(Rtnetlink()) as kernel:
        if ipv6_noise is not None:
            # In a message of its own: the kernel handles IFLA_AF_SPEC last, when
            # `up` has already made the noise.
            kernel.set_link(index, _addr_gen_mode(ipv6_noise), up=None)
        if qdisc is not None:
            # Before `up`, which would make one for each of a TAP's 256 queues. A
            # kernel without CONFIG_NET_SCHED has none.
            with contextlib.suppress(OSError):
                kernel.set_qdisc(index, qdisc)
        if wanted or up is not None:
            kernel.set_link(index, wanted, up=up)


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


def netns_alias(owner: str, name: str) -> str:
    """Return the alias of the loopback interface in a namespace that `owner` made."""
    return alias(owner, f"namespace {name}")


def owned(owner: str) -> list[str]:
    """Name the namespace's interfaces that the daemon in `owner` had made."""
    return list(whats(owner))


def whats(owner: str) -> dict[str, str]:
    """Return the same, each with what it is: the `what` of its alias."""
    prefix = alias(owner, "")
    return {
        name: text.removeprefix(prefix)
        for name, text in aliases().items()
        if text.startswith(prefix)
    }


def aliases() -> dict[str, str]:
    """Return the alias of each of the namespace's interfaces that has one, by name."""
    with refusals("list interfaces"), contextlib.closing(Rtnetlink()) as kernel:
        return kernel.aliases()


def named(alias: str) -> str | None:
    """Return the name of the namespace's interface with that alias, if there is one."""
    with conversation("list interfaces") as ipr:
        found = (_link(message, master=None) for message in ipr.get_links())
        return next((link.name for link in found if link.alias == alias), None)


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


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        raise NotFoundError(f"there is no interface {name}") from None


def _mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _addr_gen_mode(noise: bool) -> bytes:
    mode = _IN6_ADDR_GEN_MODE_EUI64 if noise else _IN6_ADDR_GEN_MODE_NONE
    inner = rtnetlink.attribute(rtnetlink.IFLA_INET6_ADDR_GEN_MODE, bytes([mode]))
    ipv6 = rtnetlink.attribute(socket.AF_INET6, inner)
    return rtnetlink.attribute(rtnetlink.IFLA_AF_SPEC, ipv6)


def _link(message: Any, *, master: str | None) -> Link:
    return Link(
        name=message.get_attr("IFLA_IFNAME"),
        index=message["index"],
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=message.get_attr("IFLA_MTU"),
        up=bool(message["flags"] & IFF_UP),
        master=master,
        alias=message.get_attr("IFLA_IFALIAS") or "",
        tap_queues=_tap_queues(message),
    )


def _tap_queues(message: Any) -> int:
    info = message.get_attr("IFLA_LINKINFO")
    data = info.get_attr("IFLA_INFO_DATA") if info else None
    if data is None or info.get_attr("IFLA_INFO_KIND") != "tun":
        return 0
    return int(data.get_attr("IFLA_TUN_NUM_QUEUES") or 0)
