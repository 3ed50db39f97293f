"""CONTROL: questions and commands for the server itself, from dom0 only."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from xenvirt.errors import StoreError
from xenvirt.xenstore.arguments import number, strings, text
from xenvirt.xenstore.node_requests import OK
from xenvirt.xenstore.quota import QUOTA_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from xenvirt.xenstore.connection import Connection
    from xenvirt.xenstore.engine import Engine
    from xenvirt.xenstore.store import Tree

log = logging.getLogger("xenvirt.xenstore")


def control(engine: Engine, conn: Connection, tree: Tree, payload: bytes) -> bytes:
    """CONTROL: run one of the commands; raises StoreError EINVAL for another one."""
    name, *parameters = (text(raw) for raw in strings(payload, 1))
    command = _COMMANDS.get(name)
    if command is None:
        raise StoreError("EINVAL")
    return command(engine, parameters)


def _check(engine: Engine, parameters: list[str]) -> bytes:
    if not engine.store.is_consistent():
        raise StoreError("EIO")
    return OK


def _log(engine: Engine, parameters: list[str]) -> bytes:
    levels = {"on": logging.DEBUG, "off": logging.NOTSET}
    if not parameters:
        return b"on\0" if log.level == logging.DEBUG else b"off\0"
    if len(parameters) != 1 or parameters[0] not in levels:
        raise StoreError("EINVAL")
    log.setLevel(levels[parameters[0]])
    return OK


def _print(engine: Engine, parameters: list[str]) -> bytes:
    if len(parameters) != 1:
        raise StoreError("EINVAL")
    log.info("XenStore control: %s", parameters[0])
    return OK


def _quota(engine: Engine, parameters: list[str]) -> bytes:
    """`quota`: the defaults; `quota DOMID`: a domain's; `quota set NAME VALUE`."""
    match parameters:
        case []:
            quotas = engine.domains.quotas
        case [domid]:
            quotas = engine.domains.account(number(domid.encode(), 0xFFFF)).quotas
        case ["set", name, value]:
            engine.domains.set_default_quota(
                name, number(value.encode(), (1 << 32) - 1)
            )
            return OK
        case _:
            raise StoreError("EINVAL")
    lines = (f"{name:<18}: {quotas.get(name):8}" for name in QUOTA_NAMES)
    return "\n".join(lines).encode() + b"\n\0"


def _memreport(engine: Engine, parameters: list[str]) -> bytes:
    connections = engine.connections
    report = {
        "nodes": len(engine.store),
        "connections": len(connections),
        "watches": sum(len(conn.watches) for conn in connections),
        "transactions": sum(len(conn.transactions) for conn in connections),
        "unread messages": sum(len(conn.outbox) for conn in connections),
    }
    lines = (f"{name:<18}: {value:8}" for name, value in report.items())
    return "\n".join(lines).encode() + b"\n\0"


def _help(engine: Engine, parameters: list[str]) -> bytes:
    return "\n".join(sorted(_COMMANDS)).encode() + b"\n\0"


_COMMANDS: Final[dict[str, Callable[[Engine, list[str]], bytes]]] = {
    "check": _check,
    "help": _help,
    "log": _log,
    "memreport": _memreport,
    "print": _print,
    "quota": _quota,
}
