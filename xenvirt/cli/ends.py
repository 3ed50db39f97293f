"""backend, frontend: be an end on Xen, in the foreground."""

import re

import click

from xenvirt.cli.settings import Settings, pass_settings, require_root
from xenvirt.errors import LocalError, UsageError
from xenvirt.hypervisor import kernel_drivers
from xenvirt.hypervisor.interface import HypervisorKind


@click.command("backend")
@click.argument("vifs", nargs=-1, metavar="[DOMID/DEVID]...")
@click.option(
    "--no-hotplug",
    is_flag=True,
    help="Wait for no script; for vifs whose script= writes no hotplug-status.",
)
def backend_command(vifs: tuple[str, ...], no_hotplug: bool) -> None:
    """Serve this domain's vifs in place of the kernel's netback, on Xen.

    All that are there and all that come, or only those that are named. To keep the
    kernel from new ones: echo 0 > /sys/bus/xen-backend/drivers_autoprobe

    ^C lets go of everything; frontends notice nothing but a pause when the next
    backend takes over.
    """
    ids = frozenset(_ids(vif, r"(\d+)/(\d+)", "DOMID/DEVID") for vif in vifs)
    _run("backend", ids, awaits_hotplug=not no_hotplug)


@click.command("frontend")
@click.argument("vifs", nargs=-1, metavar="[DEVID]...")
def frontend_command(vifs: tuple[str, ...]) -> None:
    """Be the frontend of this domain's vifs in place of the kernel's netfront, on Xen.

    All that are there and all that come, or only those that are named. Each gets an
    interface, xennet0 and so on. To take one from the kernel, 0 for example:
    echo vif-0 > /sys/bus/xen/drivers/vif/unbind
    """
    ids = frozenset(_ids(vif, r"(\d+)", "DEVID") for vif in vifs)
    _run("frontend", ids, awaits_hotplug=True)


def _ids(text: str, pattern: str, form: str) -> tuple[int, ...]:
    match = re.fullmatch(pattern, text, re.ASCII)
    if match is None:
        raise UsageError(f"{text!r} is no vif", hint=f"it is {form}, as in 1/0 or 0")
    return tuple(int(group) for group in match.groups())


def _run(kind: str, ids: frozenset[tuple[int, ...]], *, awaits_hotplug: bool) -> None:
    settings = pass_settings()
    require_root(f"the {kind}")
    _require_xen(settings, kind)
    if kind == "backend" and not ids:
        kernel_drivers.refuse_contest()
    from xenvirt.vif.main import XEN, Role, run_on_xen

    run_dir = settings.find_run_dir().path
    role = Role(kind, "xen", str(run_dir), XEN, ids, awaits_hotplug)
    run_on_xen(role, debug=settings.verbose)


def _require_xen(settings: Settings, kind: str) -> None:
    if settings.hypervisor is not HypervisorKind.XEN:
        raise LocalError(
            f"the emulation starts its own {kind}s",
            cause="this kernel runs on no Xen, or --hypervisor emulated was said",
            hint="xenvirt up",
        )
