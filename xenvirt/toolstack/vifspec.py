"""A vif as the user asks for it, in xl's words (xl-network-configuration(5))."""

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from xenvirt.abi.netif import ETH_MIN_MTU, MAX_QUEUES_DEFAULT, NETIF_MAX_MTU
from xenvirt.errors import UsageError
from xenvirt.netdev.ifname import check_ifname
from xenvirt.toolstack.hotplug import check_script
from xenvirt.toolstack.mac import parse_mac
from xenvirt.toolstack.rate import Rate, parse_rate

DEVID_MAX: Final = 65_535
"""The largest with which xvif32751i65535 is still an interface name."""


@dataclass(frozen=True, slots=True)
class VifSpec:
    """What was asked for; None is what was not.

    `backend` is a domain's name or number, `ip` one or more addresses with
    spaces between; `front_without` and `back_without` are groups of features that
    an end does not offer, with `/` between; `queues` is the most that either end
    has. `warnings` are lines about keys that do nothing here.
    """

    mac: str | None = None
    bridge: str | None = None
    script: str | None = None
    ip: str | None = None
    backend: str = "0"
    rate: Rate | None = None
    mtu: int | None = None
    vifname: str | None = None
    devid: int | None = None
    type: str = "vif"
    model: str | None = None
    trusted: bool = True
    gatewaydev: str | None = None
    vlan: str | None = None
    queues: int | None = None
    front_without: str | None = None
    back_without: str | None = None
    warnings: tuple[str, ...] = ()


def parse(words: Sequence[str]) -> VifSpec:
    """Read `key=value` and flags, each a word or with commas or spaces between.

    Of a key that comes twice the last one counts, as with xl. Raises UsageError
    that names the key, the value, the bound and what to write instead.
    """
    fields: dict[str, Any] = {}
    warnings: list[str] = []
    for word in _split(words):
        key, equals, value = word.partition("=")
        if key in _FLAGS:
            fields["trusted"] = _flag(key, equals)
        elif key not in _KEYS:
            raise _unknown(key)
        elif not value:
            raise UsageError(f"{key} has no value", hint=f"write {key}=VALUE")
        else:
            fields |= _KEYS[key](key, value)
            warnings += _warnings(key, value)
    return VifSpec(**fields, warnings=tuple(warnings))


# A value can hold spaces (ip="10.0.0.1 10.0.0.2"), so only those part words that
# have a key or a flag after them.
_SEPARATOR: Final = re.compile(r",|\s+(?=[\w-]+=|(?:un)?trusted\b)")

_FEATURE_GROUPS: Final = ("sg", "gso", "csum", "split")
"""vif.features.GROUPS, whose module would bring the data plane into every command."""


def _split(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        yield from filter(None, map(str.strip, _SEPARATOR.split(word)))


_Fields = dict[str, object]


def _text(key: str, value: str) -> _Fields:
    return {key: value}


def _mac(key: str, value: str) -> _Fields:
    return {key: parse_mac(value)}


def _script(key: str, value: str) -> _Fields:
    return {key: check_script(value)}


def _rate(key: str, value: str) -> _Fields:
    return {key: parse_rate(value)}


def _vifname(key: str, value: str) -> _Fields:
    return {key: check_ifname(value, what=key)}


def _mtu(key: str, value: str) -> _Fields:
    hint = "write mtu=1500, or mtu=9000 for jumbo frames"
    return {key: _integer(key, value, ETH_MIN_MTU, NETIF_MAX_MTU, hint)}


def _devid(key: str, value: str) -> _Fields:
    hint = "leave devid= out for the lowest that is free"
    return {key: _integer(key, value, 0, DEVID_MAX, hint)}


def _queues(key: str, value: str) -> _Fields:
    hint = "leave queues= out for one for each CPU"
    return {key: _integer(key, value, 1, MAX_QUEUES_DEFAULT, hint)}


def _ip(key: str, value: str) -> _Fields:
    for address in value.split():
        try:
            ipaddress.ip_interface(address)
        except ValueError as error:
            raise UsageError(
                f"ip={value} is not a list of addresses",
                cause=f"{address!r} is neither IPv4 nor IPv6",
                hint="write ip=10.0.0.2, or ip='10.0.0.2 fd00::2'",
            ) from error
    return {key: value}


def _type(key: str, value: str) -> _Fields:
    if value not in ("vif", "ioemu"):
        raise UsageError(f"type={value} is not known", hint="write type=vif")
    return {key: value}


def _gatewaydev(_key: str, value: str) -> _Fields:
    return {"gatewaydev": value}


def _front_without(key: str, value: str) -> _Fields:
    return {"front_without": _feature_groups(key, value)}


def _back_without(key: str, value: str) -> _Fields:
    return {"back_without": _feature_groups(key, value)}


def _feature_groups(key: str, value: str) -> str:
    for group in value.split("/"):
        if group not in _FEATURE_GROUPS:
            raise UsageError(
                f"{key}={value} is not known",
                cause=f"{group!r} is none of {', '.join(_FEATURE_GROUPS)}",
                hint=f"write {key}=gso, or {key}=sg/gso",
            )
    return value


def _nothing(_key: str, _value: str) -> _Fields:
    return {}


_KEYS: Final[Mapping[str, Callable[[str, str], _Fields]]] = {
    "mac": _mac,
    "bridge": _text,
    "script": _script,
    "ip": _ip,
    "backend": _text,
    "rate": _rate,
    "mtu": _mtu,
    "vifname": _vifname,
    "devid": _devid,
    "type": _type,
    "model": _text,
    "gatewaydev": _gatewaydev,
    "netdev": _gatewaydev,
    "vlan": _text,
    "accel": _nothing,
    "queues": _queues,
    "x-front-without": _front_without,
    "x-back-without": _back_without,
}
_FLAGS: Final = {"trusted": True, "untrusted": False}


def _flag(key: str, equals: str) -> bool:
    if equals:
        raise UsageError(f"{key} takes no value", hint="write trusted or untrusted")
    return _FLAGS[key]


def _integer(key: str, value: str, low: int, high: int, hint: str) -> int:
    is_number = re.fullmatch(r"-?[0-9]{1,20}", value) is not None
    if not is_number or not low <= int(value) <= high:
        what = "out of range" if is_number else "not a whole number"
        raise UsageError(
            f"{key}={value} is {what}", cause=f"{low} to {high} can be", hint=hint
        )
    return int(value)


def _warnings(key: str, value: str) -> list[str]:
    if key == "model" or (key, value) == ("type", "ioemu"):
        return [f"{key}={value} ignored: no device model"]
    if key == "accel":
        return [f"{key}={value} ignored: xl knows it no longer either"]
    if key == "netdev":
        return ["netdev= is obsolete: write gatewaydev="]
    return []


def _unknown(key: str) -> UsageError:
    known = [*_KEYS, *_FLAGS]
    close = difflib.get_close_matches(key, known, n=1)
    return UsageError(
        f"vif key {key!r} is not known",
        cause=f"did you mean {close[0]}?" if close else "",
        hint="keys: " + " ".join(known),
    )
