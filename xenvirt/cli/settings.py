"""What the global options say, and what every command needs to begin."""

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from xenvirt.cli.logtail import LogTail
from xenvirt.errors import LocalError, NotFoundError, NotPermittedError
from xenvirt.hypervisor.interface import HypervisorKind
from xenvirt.toolstack.host import Connection, Host, connect, connect_or_start
from xenvirt.toolstack.rundir import RunDir

DEFAULT_TIMEOUT_S: Final = 10.0
"""LIBXL_INIT_TIMEOUT and LIBXL_DESTROY_TIMEOUT."""

_SECURE_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where sudo looks for commands (Debian's sudoers)."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The global options; `timeout_s` is how long a state may take."""

    verbose: bool = False
    quiet: bool = False
    json: bool = False
    run_dir: Path | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S
    hypervisor: HypervisorKind = HypervisorKind.EMULATED

    def find_run_dir(self) -> RunDir:
        """Return the run directory, touching nothing; UsageError without one."""
        return RunDir.find(self.run_dir)

    @property
    def on_xen(self) -> bool:
        """Whether the hypervisor is Xen itself."""
        return self.hypervisor is HypervisorKind.XEN

    def look(self) -> Connection:
        """Connect to what there is to look at; otherwise as `connect`."""
        if self.on_xen:
            from xenvirt.toolstack.xen_host import connect_xen

            return connect_xen(self.find_run_dir())
        return self._connect()

    def connect(self) -> Host:
        """Connect to the daemon.

        NotFoundError if none runs; what a killed one has left is removed then, if this
        is root.
        """
        self._refuse_xen()
        return self._connect()

    def _connect(self) -> Host:
        run_dir = self.find_run_dir()
        try:
            return connect(run_dir)
        except NotFoundError:
            if os.geteuid() == 0:
                from xenvirt.toolstack import leftovers

                if leftovers.clean(run_dir) and not self.quiet:
                    click.echo(f"xenvirt: {leftovers.REMOVED}", err=True)
            raise

    def connect_or_start(self) -> Host:
        """Connect to the daemon, started if none runs."""
        self._refuse_xen()
        return connect_or_start(self.find_run_dir())

    def _refuse_xen(self) -> None:
        if self.on_xen:
            raise LocalError(
                "this is a command of the emulation",
                cause="on Xen, domains and their vifs are xl's",
                hint="xl help, or xenvirt --hypervisor emulated …",
            )

    def log_tail(self) -> LogTail:
        """Return what shows the log with --verbose, from now on."""
        return LogTail(self.find_run_dir().log, on=self.verbose and not self.quiet)


def pass_settings() -> Settings:
    """Return the settings of the command that runs."""
    settings = click.get_current_context().find_object(Settings)
    assert settings is not None
    return settings


def require_root(what: str) -> None:
    """Raise NotPermittedError, with what to type instead, unless this is root."""
    if os.geteuid() == 0:
        return
    raise NotPermittedError(
        f"{what} needs root",
        cause=f"this is user {os.geteuid()}",
        hint=sudo_command(sys.argv),
    )


def sudo_command(argv: list[str]) -> str:
    """Return the command line that was typed, with sudo, such that sudo finds it."""
    program = Path(argv[0])
    if program.is_absolute() or "/" in argv[0]:
        found = shutil.which(program.name, path=_SECURE_PATH)
        same = found is not None and os.path.realpath(found) == os.path.realpath(
            program
        )
        name = program.name if same else str(program.absolute())
    else:
        found = shutil.which(argv[0])
        known = shutil.which(argv[0], path=_SECURE_PATH)
        name = argv[0] if known is not None or found is None else found
    return shlex.join(["sudo", name, *argv[1:]])
