"""The requests on domains: introduction, release, targets, features and quotas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xenvirt.abi.ids import DOM0, DomId, Gfn, Port
from xenvirt.abi.xs_wire import ServerFeature
from xenvirt.errors import StoreError
from xenvirt.xenstore import arguments
from xenvirt.xenstore.domains import FEATURES
from xenvirt.xenstore.node_requests import OK
from xenvirt.xenstore.path import domain_path
from xenvirt.xenstore.quota import QUOTA_NAMES
from xenvirt.xenstore.store import INTRODUCE_DOMAIN

if TYPE_CHECKING:
    from xenvirt.xenstore.connection import Connection
    from xenvirt.xenstore.engine import Engine
    from xenvirt.xenstore.store import Tree


def introduce(engine: Engine, conn: Connection, tree: Tree, payload: bytes) -> bytes:
    """INTRODUCE: serve a domain's ring page; again for a known one: reconnect it."""
    raw, gfn, port = arguments.strings(payload, 3, 3)
    domid = _guest(raw)
    engine.domains.hypervisor.introduce(
        DomId(domid),
        Gfn(arguments.number(gfn, (1 << 64) - 1)),
        Port(arguments.number(port, (1 << 32) - 1)),
    )
    if domid not in engine.domains.introduced:
        engine.domains.introduced.add(domid)
        engine.fire_special(INTRODUCE_DOMAIN, domid)
    return OK


def release(engine: Engine, conn: Connection, tree: Tree, payload: bytes) -> bytes:
    """RELEASE: forget a domain and everything that it owns."""
    domid = _introduced(engine, payload)
    engine.domains.hypervisor.release(DomId(domid))
    engine.domain_dead(DomId(domid))
    return OK


def resume(engine: Engine, conn: Connection, tree: Tree, payload: bytes) -> bytes:
    """RESUME: the domain is no longer shutting down, which nothing here records."""
    _introduced(engine, payload)
    return OK


def set_target(engine: Engine, conn: Connection, tree: Tree, payload: bytes) -> bytes:
    """SET_TARGET: a device model gets the rights of the domain that it serves."""
    raw, target = arguments.strings(payload, 2, 2)
    domid = _introduced(engine, raw + b"\0")
    engine.domains.targets[domid] = _introduced(engine, target + b"\0")
    for other in engine.connections:
        if other.domid == domid:
            other.target = engine.domains.targets[domid]
    return OK


def is_domain_introduced(
    engine: Engine, conn: Connection, tree: Tree, payload: bytes
) -> bytes:
    """IS_DOMAIN_INTRODUCED: `T` or `F`."""
    domid = arguments.domid(arguments.one_string(payload).encode())
    return b"T\0" if domid in engine.domains.introduced else b"F\0"


def get_domain_path(
    engine: Engine, conn: Connection, tree: Tree, payload: bytes
) -> bytes:
    """GET_DOMAIN_PATH: where a domain's nodes are, whether it exists or not."""
    domid = arguments.domid(arguments.one_string(payload).encode())
    return domain_path(domid).encode() + b"\0"


def get_feature(engine: Engine, conn: Connection, tree: Tree, payload: bytes) -> bytes:
    """GET_FEATURE: the bits that a ring page offers, the caller's or a domain's."""
    given = _optional(payload, 1)
    if given and not conn.privileged:
        raise StoreError("EACCES")
    domid = arguments.domid(given[0]) if given else conn.domid
    return b"%d\0" % engine.domains.features(domid)


def set_feature(engine: Engine, conn: Connection, tree: Tree, payload: bytes) -> bytes:
    """SET_FEATURE: offer a domain less; only before it is introduced."""
    raw, bits = arguments.strings(payload, 2, 2)
    domid = _guest(raw)
    features = arguments.number(bits, (1 << 32) - 1)
    if features & ~FEATURES:
        raise StoreError("EINVAL")
    if domid in engine.domains.introduced:
        raise StoreError("EBUSY")
    engine.domains.set_features(domid, ServerFeature(features))
    return OK


def get_quota(engine: Engine, conn: Connection, tree: Tree, payload: bytes) -> bytes:
    """GET_QUOTA: the names; the default of one; or a domain's value of one."""
    given = _optional(payload, 2)
    if not given:
        return " ".join(QUOTA_NAMES).encode() + b"\0"
    quotas = engine.domains.quotas
    if len(given) == 2:
        quotas = engine.domains.account(arguments.domid(given[0])).quotas
    return b"%d\0" % quotas.get(arguments.text(given[-1]))


def set_quota(engine: Engine, conn: Connection, tree: Tree, payload: bytes) -> bytes:
    """SET_QUOTA: change a limit of every domain or, with a domid, of one."""
    *given, name, raw = arguments.strings(payload, 2, 3)
    quota, value = arguments.text(name), arguments.number(raw, (1 << 32) - 1)
    if given:
        account = engine.domains.account(_introduced(engine, given[0] + b"\0"))
        account.quotas = account.quotas.replaced(quota, value)
    else:
        engine.domains.set_default_quota(quota, value)
    return OK


def _optional(payload: bytes, at_most: int) -> list[bytes]:
    """The strings; an empty payload and a lone NUL both mean none."""
    return arguments.strings(payload, 0, at_most) if payload.strip(b"\0") else []


def _guest(raw: bytes) -> int:
    domid = arguments.domid(raw)
    if domid == DOM0:
        raise StoreError("EINVAL")
    return domid


def _introduced(engine: Engine, payload: bytes) -> int:
    domid = _guest(arguments.one_string(payload).encode())
    if domid not in engine.domains.introduced:
        raise StoreError("ENOENT")
    return domid
