"""The process that is the daemon: forked by the launcher, or what it has become.

The launcher forks it with all of this loaded. After a live update it is the code on
disk that counts, and this module runs as a program.
"""

import argparse
import json
import logging
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final, NoReturn

import uvloop

from xenvirt import log
from xenvirt.errors import LocalError
from xenvirt.hypervisor.caller import Identities, uid_base
from xenvirt.hypervisor.keeper import Keeper, Kept, OwnKeeper, Records
from xenvirt.hypervisor.server import HandedOver
from xenvirt.native.privileges import keep_memory_private
from xenvirt.native.process import set_name
from xenvirt.toolstack import confinement, inheritance
from xenvirt.toolstack.composition import Daemon, Surroundings
from xenvirt.toolstack.inheritance import Inheritance
from xenvirt.toolstack.launcher_client import LauncherClient
from xenvirt.toolstack.live_update import HandOver, Image
from xenvirt.toolstack.rundir import RunDir

VERSION: Final = 1
"""Of what one image leaves to the next."""

_PROGRAM: Final = (sys.executable, "-P", "-m", "xenvirt.toolstack.daemon_process")

_log = logging.getLogger(__name__)


def _nothing() -> None:
    """Be ready without telling anybody."""


@dataclass(frozen=True, slots=True)
class State:
    """What the process has, with numbers of descriptors, whichever image it is.

    `store_fds` are the listening sockets that the store has yet to be given, its
    own and the trace's. `records` are what no launcher keeps.
    """

    run_dir: str
    debug: bool
    lock_fd: int
    hypervisor_fd: int
    store_fds: tuple[int, ...]
    launcher_fd: int | None = None
    from_disk: bool = False
    handed: HandOver | None = None
    records: Records = field(default_factory=dict)

    def fds(self) -> list[int]:
        """Return every descriptor that the next image is to have open."""
        fds = [self.lock_fd, self.hypervisor_fd, *self.store_fds]
        if self.launcher_fd is not None:
            fds.append(self.launcher_fd)
        if self.handed is not None:
            fds.append(self.handed.store_fd)
            fds += [connection.fd for connection in self.handed.connections]
        for kept in self.records.values():
            fds += kept.fds
        return fds


def serve(state: State, tell_ready: Callable[[], None] = _nothing) -> int:
    """Be the daemon until it is told to stop; return its exit status."""
    set_name("daemon")
    if state.launcher_fd is not None:
        # Root's: an exec has made the memory what it was.
        keep_memory_private()
        confinement.filter_daemon()
    run_dir = RunDir(Path(state.run_dir))
    status = 1
    try:
        status = _serve(state, run_dir, tell_ready)
    finally:
        if state.launcher_fd is None:
            run_dir.remove_sockets()
            if status == 0:
                run_dir.remove_store()
    return status


def _serve(state: State, run_dir: RunDir, tell_ready: Callable[[], None]) -> int:
    launcher = None
    inherited = Inheritance(records=dict(state.records))
    if state.launcher_fd is not None:
        launcher = socket.socket(fileno=state.launcher_fd)
        launcher.setblocking(True)
        inherited = inheritance.receive(launcher)

    def ready() -> None:
        if inherited.after is None and state.handed is None:
            _log.info("ready in %s", run_dir.path)
        tell_ready()

    async def main() -> int:
        client = LauncherClient(launcher) if launcher is not None else None
        own = OwnKeeper(inherited.records)
        keeper: Keeper = client or own

        def become_next(hand_over: HandOver) -> None:
            become(
                replace(
                    state,
                    store_fds=(),
                    from_disk=True,
                    handed=hand_over,
                    records=own.records if client is None else {},
                )
            )

        given = Surroundings(
            socket.socket(fileno=state.hypervisor_fd),
            tuple(socket.socket(fileno=fd) for fd in state.store_fds),
            client,
            keeper,
            Identities(uid_base(), frozenset({0, os.geteuid()})),
            run_dir.journal,
            Image([*_PROGRAM, "--check"], _environment(), become_next),
            state.from_disk,
        )
        return await Daemon(given, inherited, state.handed).run(ready)

    return int(uvloop.run(main()))


def become(state: State) -> NoReturn:
    """Replace this process by the code on disk; OSError if that is impossible."""
    fd = os.memfd_create("xenvirt-state")
    try:
        os.set_inheritable(fd, True)
        body = json.dumps({"version": VERSION, "state": asdict(state)})
        with open(fd, "w", closefd=False) as file:
            file.write(body)
        for inherited in state.fds():
            os.set_inheritable(inherited, True)
        program = [*_PROGRAM, f"--state={fd}"]
        os.execve(program[0], program, _environment())
    finally:
        for inherited in state.fds():
            os.set_inheritable(inherited, False)
        os.close(fd)


def _environment() -> dict[str, str]:
    # With `-P` a path of our own: root's working directory may be anybody's.
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def _load(fd: int) -> State:
    """Read what the image before this one has left; LocalError if it is strange."""
    with open(fd) as file:
        file.seek(0)
        body = json.load(file)
    if body["version"] != VERSION:
        raise LocalError(
            f"the daemon before this one left a state of version {body['version']}",
            cause=f"this one knows version {VERSION}",
        )
    state = body["state"]
    handed = state["handed"]
    if handed is not None:
        handed["connections"] = [HandedOver(**c) for c in handed["connections"]]
        handed = HandOver(**handed)
    loaded = State(**state)
    loaded = replace(
        loaded,
        store_fds=tuple(loaded.store_fds),
        handed=handed,
        records={key: Kept(**kept) for key, kept in state["records"].items()},
    )
    for inherited in loaded.fds():
        os.set_inheritable(inherited, False)
    return loaded


def _main() -> int:
    parser = argparse.ArgumentParser(prog="xenvirt.toolstack.daemon_process")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true")
    action.add_argument("--state", type=int)
    args = parser.parse_args()
    if args.check:
        return 0
    log.setup("daemon")
    try:
        state = _load(args.state)
        log.setup("daemon", debug=state.debug)
        return serve(state)
    except Exception:
        _log.exception("the daemon failed")
        return 1


if __name__ == "__main__":
    sys.exit(_main())
