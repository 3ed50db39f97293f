"""Completion of domains, vifs, bridges and keys.

It never fails, and never starts a daemon.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import click
from click.shell_completion import CompletionItem

from xenvirt.errors import XenvirtError
from xenvirt.toolstack import domains, vif_nodes, vifs
from xenvirt.toolstack.host import Host, connect
from xenvirt.toolstack.rundir import RunDir

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

_VIF_KEYS: Final = (
    "mac=", "bridge=", "script=", "ip=", "backend=", "rate=", "mtu=", "vifname=",
    "devid=", "type=", "model=", "trusted", "untrusted", "gatewaydev=", "vlan=",
    "queues=", "x-front-without=", "x-back-without=",
)  # fmt: skip


@contextlib.contextmanager
def _host(ctx: click.Context) -> Iterator[Host]:
    # Options are parsed while completing, but the group's function is not run.
    run_dir = RunDir.find(ctx.find_root().params.get("run_dir"))
    with connect(run_dir) as host:
        yield host


def _never_fails(complete: Complete) -> Complete:
    def safely(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        with contextlib.suppress(XenvirtError, OSError):
            return complete(ctx, param, incomplete)
        return []

    return safely


@_never_fails
def domain_names(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete a domain's name; the host's only where it has a use."""
    del param
    with _host(ctx) as host:
        return [
            CompletionItem(domain.name, help=f"domain {domain.domid}")
            for domain in domains.list_all(host)
            if domain.domid != 0 and domain.name.startswith(incomplete)
        ]


@_never_fails
def vif_names(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete DOM or DOM/DEVID."""
    del param
    with _host(ctx) as host:
        found = []
        for domain in domains.list_all(host):
            if domain.domid == 0:
                continue
            found.append(CompletionItem(domain.name))
            found += [
                CompletionItem(f"{domain.name}/{paths.devid}")
                for paths in vifs.list_of(host.store, domain.domid)
            ]
    return [item for item in found if str(item.value).startswith(incomplete)]


@_never_fails
def devids(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the number or MAC of a vif of the domain that is typed already."""
    del param
    with _host(ctx) as host:
        domain = domains.find(host, str(ctx.params.get("domain")))
        found = []
        for paths in vifs.list_of(host.store, domain.domid):
            mac = vif_nodes.read_or_none(host.store, f"{paths.libxl}/mac")
            found.append(CompletionItem(str(paths.devid), help=mac))
            if mac is not None:
                found.append(CompletionItem(mac, help=f"vif {paths.devid}"))
    return [item for item in found if str(item.value).startswith(incomplete)]


@_never_fails
def vif_keys(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete a key of a vif, and the names of bridges and domains after one."""
    if incomplete.startswith("bridge="):
        return _prefixed("bridge=", incomplete, _bridges())
    if incomplete.startswith("backend="):
        items = domain_names(ctx, param, incomplete.removeprefix("backend="))
        return _prefixed("backend=", incomplete, [str(item.value) for item in items])
    return [CompletionItem(k) for k in _VIF_KEYS if k.startswith(incomplete)]


def _bridges() -> list[str]:
    return [path.parent.name for path in Path("/sys/class/net").glob("*/bridge")]


def _prefixed(key: str, incomplete: str, values: list[str]) -> list[CompletionItem]:
    words = (f"{key}{value}" for value in values)
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]
