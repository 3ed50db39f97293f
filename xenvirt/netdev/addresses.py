"""IP addresses of interfaces, and a subnet that the host does not use yet."""

import errno
import ipaddress
import socket
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias

from xenvirt.errors import LocalError, UsageError
from xenvirt.netdev.netlink import NetlinkRefusedError, conversation, link_index

Interface: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_POOL: Final = ipaddress.IPv4Network("10.0.0.0/8")
_PREFIX_LEN: Final = 24
_IFA_F_NODAD: Final = 0x02


def parse(text: str, *, what: str = "address") -> Interface:
    """Read `10.0.0.1/24` or `fd00::1/64`; raise UsageError, which calls it `what`.

    The prefix must be there: without it Linux would take /32, and no packet
    would find the other side.
    """
    if "/" not in text:
        raise UsageError(
            f"{what} {text!r} has no prefix length", hint=f"write {text}/24, say"
        )
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError as error:
        raise UsageError(
            f"{what} {text!r} is not valid", cause=str(error), hint="write 10.0.0.1/24"
        ) from error
    if interface.ip.is_multicast or interface.ip.is_unspecified:
        raise UsageError(
            f"{what} {text!r} cannot be a host's", hint="write 10.0.0.1/24, say"
        )
    return interface


def add(ifname: str, address: str | Interface) -> None:
    """Give the interface an address; nothing happens if it has it already.

    An IPv6 address is used at once, without duplicate address detection: that
    takes a second or two in which the first ping would fail.
    """
    interface = _interface(address)
    fields: dict[str, object] = _fields(interface)
    if interface.version == 6:
        fields["IFA_FLAGS"] = _IFA_F_NODAD
    try:
        with conversation(f"add {interface} to {ifname}") as ipr:
            ipr.addr("add", index=link_index(ipr, ifname), **fields)
    except NetlinkRefusedError as error:
        if error.errno != errno.EEXIST:
            raise


def remove(ifname: str, address: str | Interface) -> None:
    """Take the address off the interface; nothing happens if it has it not."""
    interface = _interface(address)
    try:
        with conversation(f"remove {interface} from {ifname}") as ipr:
            ipr.addr("del", index=link_index(ipr, ifname), **_fields(interface))
    except NetlinkRefusedError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise


def list_addresses(ifname: str) -> list[Interface]:
    """Return the interface's addresses of both families, as the kernel has them."""
    with conversation(f"list the addresses of {ifname}") as ipr:
        index = link_index(ipr, ifname)
        messages = [m for m in ipr.get_addr() if m["index"] == index]
    return [_from_message(message) for message in messages]


def free_subnet(
    taken: Iterable[Network] = (),
) -> tuple[ipaddress.IPv4Interface, ipaddress.IPv4Interface]:
    """Choose a 10.x.y.0/24; return its first two hosts' addresses, .1 and .2.

    It overlaps no address and no route of the namespace, of any table, and
    nothing in `taken`: what was handed out and may not be configured yet.
    Raises LocalError when nothing is left, as with a VPN that routes 10.0.0.0/8.
    """
    used = _merge([*_used_networks(), *taken])
    subnet = _first_gap(used)
    if subnet is None:
        raise LocalError(
            f"no /{_PREFIX_LEN} in {_POOL} is free on this host",
            cause="its routes cover " + ", ".join(str(n) for n in used),
            hint="choose addresses: --ip A/24 --peer-ip B/24",
        )
    return (
        ipaddress.IPv4Interface((subnet[1], _PREFIX_LEN)),
        ipaddress.IPv4Interface((subnet[2], _PREFIX_LEN)),
    )


def _first_gap(used: Iterable[ipaddress.IPv4Network]) -> ipaddress.IPv4Network | None:
    """Return the lowest /24 of the pool before, between or after sorted `used`."""
    step = 1 << (32 - _PREFIX_LEN)
    candidate = int(_POOL[0])
    for network in used:
        if candidate + step <= int(network[0]):
            break
        # Rounded up: a used /30 takes its whole /24.
        end = int(network[-1]) + 1
        candidate = max(candidate, -(-end // step) * step)
    if candidate > int(_POOL[-1]):
        return None
    return ipaddress.IPv4Network((candidate, _PREFIX_LEN))


def _merge(networks: Iterable[Network]) -> list[ipaddress.IPv4Network]:
    inside = [
        network
        for network in networks
        if isinstance(network, ipaddress.IPv4Network) and network.overlaps(_POOL)
    ]
    return list(ipaddress.collapse_addresses(inside))


def _used_networks() -> Iterator[Network]:
    with conversation("list addresses and routes") as ipr:
        addresses = list(ipr.get_addr(family=socket.AF_INET))
        routes = list(ipr.get_routes(family=socket.AF_INET))
    for message in addresses:
        yield _from_message(message).network
    for message in routes:
        # A default route leads out and takes no subnet.
        if message["dst_len"]:
            destination = message.get_attr("RTA_DST")
            yield ipaddress.ip_network((destination, message["dst_len"]))


def _interface(address: str | Interface) -> Interface:
    return parse(address) if isinstance(address, str) else address


def _fields(interface: Interface) -> dict[str, object]:
    return {"address": str(interface.ip), "prefixlen": interface.network.prefixlen}


def _from_message(message: Any) -> Interface:
    # IFA_LOCAL is our side of a point-to-point address; IPv6 has it only then.
    text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    return ipaddress.ip_interface((text, message["prefixlen"]))
