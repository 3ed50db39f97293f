"""Our store as the command that others start, shared by many rows."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.conformance.rows_domains import DEFAULTS
from tests.conformance.table import DOM0, DOMIDS, PRESENT_DOMID, Who, z
from tests.conformance.wire import XS, SocketChannel, Wire

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conformance.servers import Hypervisor


class ServedStore:
    """`xenvirt xenstore serve` with a socket for each domain.

    close() brings the store back to what a fresh one is; stop() ends the process.
    """

    hypervisor: Hypervisor

    def __init__(self, directory: Path) -> None:
        domids = (*DOMIDS.values(), PRESENT_DOMID)
        self._paths = {domid: str(directory / f"domain-{domid}") for domid in domids}
        self._paths[0] = str(directory / "socket")
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "xenvirt.cli.main", "xenstore", "serve"),
                *("--socket", self._paths[0]),
                *(
                    argument
                    for domid in domids
                    for argument in ("--domain", f"{domid}={self._paths[domid]}")
                ),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        said = iter(self._process.stdout.readline, "")
        assert "ready\n" in said, "no store"

    def connect(self, who: Who) -> Wire:
        """See Server."""
        return Wire(SocketChannel.to(self._paths[DOMIDS.get(who, 0)]))

    def close(self) -> None:
        """Take away what a row has left."""
        wire = self.connect(DOM0)
        children = wire.ask(XS.DIRECTORY, z("/")).payload.split(b"\0")[:-1]
        for child in children:
            wire.ask(XS.RM, b"/" + child + b"\0")
        for type_, payload in (
            (XS.MKDIR, z("/tool/xenstored")),
            (XS.WRITE, z("/")),
            (XS.SET_PERMS, z("/", "n0")),
            (XS.SET_PERMS, z("@introduceDomain", "n0")),
            (XS.SET_PERMS, z("@releaseDomain", "n0", "r32757")),
        ):
            assert wire.ask(type_, payload).payload == b"OK\0"
        for name, value in DEFAULTS.items():
            self._restore_quota(wire, name, value)
            for domid in filter(None, self._paths):
                self._restore_quota(wire, domid, name, value)
        wire.close()

    def _restore_quota(self, wire: Wire, *whose_and_value: str | int) -> None:
        # A domain that is given a quota has its own for ever, so not without need.
        *whose, value = whose_and_value
        if wire.ask(XS.GET_QUOTA, z(*whose)).payload != z(value):
            assert wire.ask(XS.SET_QUOTA, z(*whose_and_value)).payload == b"OK\0"

    def stop(self) -> None:
        """End it as a user would."""
        self._process.terminate()
        assert self._process.wait(10) == 0
        assert self._process.stdout is not None
        self._process.stdout.close()
