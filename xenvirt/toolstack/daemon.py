"""The daemon as a process: one for each run directory, started by hand or on demand.

Commands import this module, so what only the daemon needs is imported when it runs.
"""

import argparse
import contextlib
import errno
import logging
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from xenvirt import log
from xenvirt.errors import LocalError, NotFoundError, XenvirtError
from xenvirt.hypervisor.caller import callers_gid, daemon_uid, uid_base
from xenvirt.hypervisor.sync_client import SyncClient
from xenvirt.toolstack.rundir import RunDir

if TYPE_CHECKING:
    from xenvirt.toolstack.hands import Hands

START_TIMEOUT_S: Final = 15.0

_RETRY_S: Final = 0.02
_LOG_LINES: Final = 10

_log = logging.getLogger(__name__)


def run_daemon(
    run_dir: RunDir,
    *,
    foreground: bool,
    ready_fd: int | None = None,
    debug: bool = False,
    lock_fd: int | None = None,
) -> int:
    """Run the daemon until it is told to stop; return its exit status.

    As root this process becomes the launcher, which starts the daemon, again if it
    dies; otherwise it is the daemon itself.

    With `foreground` false it goes on in the background, its standard error in the
    log, and the calling process gets 0 at once. A line is written to `ready_fd` when
    all sockets are served, and it is closed in any case. `lock_fd` is the run
    directory's lock, if the caller took it; otherwise a LocalError tells who has it.
    """
    run_dir.create()
    if lock_fd is None:
        lock_fd = run_dir.try_lock()
        if lock_fd is None:
            raise LocalError(
                f"a daemon runs in {run_dir.path} already",
                cause=_who_has_the_lock(run_dir),
            )
    try:
        if foreground:
            _log_beside_standard_error(run_dir)
        elif not _detach(run_dir):
            return 0
        os.umask(0o022)
        for fd in (lock_fd, ready_fd):
            if fd is not None:
                os.set_inheritable(fd, False)
        as_root = os.geteuid() == 0
        log.setup("launcher" if as_root else "daemon", debug=debug)
        os.pwrite(lock_fd, f"{os.getpid()}\n".encode(), 0)
        _raise_descriptor_limit()
        begin = _launch if as_root else _serve
        status = begin(run_dir, ready_fd, lock_fd, debug)
        _log.info("ended")
        return status
    except XenvirtError as error:
        _log.error("%s", error)
        return error.exit_code
    except Exception:
        # Told here, before the closing of `ready_fd` lets others read the log.
        _log.exception("the daemon failed")
        return 1
    finally:
        os.close(lock_fd)
        if ready_fd is not None:
            os.close(ready_fd)


def ensure_daemon(run_dir: RunDir, timeout_s: float = START_TIMEOUT_S) -> SyncClient:
    """Return a connection to the daemon, started if it did not run.

    Two callers at once start one daemon. LocalError, with the end of its log, if it
    does not start; whoever is too late for `timeout_s` is told who has the lock.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return SyncClient(run_dir.hypervisor_socket)
        except NotFoundError:
            run_dir.create()
        lock_fd = run_dir.try_lock()
        if lock_fd is not None:
            try:
                _start(run_dir, lock_fd, deadline)
            finally:
                os.close(lock_fd)
            return SyncClient(run_dir.hypervisor_socket)
        if time.monotonic() > deadline:
            raise LocalError(
                f"the daemon in {run_dir.path} does not answer",
                cause=_who_has_the_lock(run_dir),
                hint=f"it is starting or stopping; see {run_dir.log}",
            )
        # Somebody else's daemon is coming or going; flock has no timeout.
        time.sleep(_RETRY_S)


def _start(run_dir: RunDir, lock_fd: int, deadline: float) -> None:
    # The log is a file, also when the command's own standard error is the journal.
    env = {name: v for name, v in os.environ.items() if name != "JOURNAL_STREAM"}
    # With `-P` a path of our own: root's working directory may be anybody's.
    env["PYTHONPATH"] = str(Path(__file__).parents[2])
    log_fd = run_dir.open_log()
    log_size = os.fstat(log_fd).st_size
    ready, ready_fd = os.pipe()
    try:
        subprocess.run(
            [
                sys.executable, "-P", "-m", "xenvirt.toolstack.daemon",
                f"--run-dir={run_dir.path}",
                f"--ready-fd={ready_fd}", f"--lock-fd={lock_fd}",
            ],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            pass_fds=(ready_fd, lock_fd),
            start_new_session=True,
            check=False,
        )  # fmt: skip
        os.close(ready_fd)
        ready_fd = -1
        left_s = max(0.0, deadline - time.monotonic())
        if not select.select([ready], [], [], left_s)[0]:
            pid = run_dir.lock_holder()
            if pid is not None:
                os.kill(pid, signal.SIGTERM)
            raise _not_started(run_dir, log_size, "it took too long")
        if not os.read(ready, 1):
            raise _not_started(run_dir, log_size, "it ended")
    finally:
        for fd in (log_fd, ready, ready_fd):
            if fd >= 0:
                os.close(fd)


def _who_has_the_lock(run_dir: RunDir) -> str:
    pid = run_dir.lock_holder()
    who = "another command" if pid is None else f"process {pid}"
    return f"{who} holds its lock"


def _not_started(run_dir: RunDir, log_size: int, cause: str) -> LocalError:
    with run_dir.log.open("rb") as file:
        file.seek(log_size)
        lines = file.read().decode(errors="replace").splitlines()[-_LOG_LINES:]
    if not lines and run_dir.is_full():
        full = os.strerror(errno.ENOSPC)
        return LocalError("the daemon did not start", cause=f"{run_dir.path}: {full}")
    return LocalError(
        "the daemon did not start",
        cause="; ".join((cause, *lines)),
        hint=f"see {run_dir.log}",
    )


def _log_beside_standard_error(run_dir: RunDir) -> None:
    """Have the log as standard output, see `log.setup`."""
    sys.stdout.flush()
    log_fd = run_dir.open_log()
    os.dup2(log_fd, 1)
    os.close(log_fd)


def _detach(run_dir: RunDir) -> bool:
    """Go on in a child without a terminal; false in the parent."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        return False
    os.setsid()
    os.chdir("/")
    null_fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    log_fd = run_dir.open_log()
    for target, fd in ((0, null_fd), (1, log_fd), (2, log_fd)):
        os.dup2(fd, target)
    os.close(null_fd)
    os.close(log_fd)
    return True


def _launch(run_dir: RunDir, ready_fd: int | None, lock_fd: int, debug: bool) -> int:
    """Be the launcher."""
    from xenvirt.native.privileges import limit_capabilities
    from xenvirt.native.process import set_name
    from xenvirt.toolstack import confinement, hands
    from xenvirt.toolstack.launcher import Launcher
    from xenvirt.vif import placement

    # What the ends will be told by the environment: an end that refused it would be
    # started again and again.
    confinement.is_filtering()
    placement.choose(peer_is_here=True)
    _remove_leftovers(run_dir)
    run_dir.create_store(daemon_uid())
    sockets = run_dir.listen(callers_gid())
    limit_capabilities(confinement.LAUNCHER_CAPABILITIES)

    def run_daemon(sock: socket.socket, from_disk: bool) -> int:
        from xenvirt.native.privileges import drop_privileges
        from xenvirt.toolstack import daemon_process

        log.setup("daemon", debug=debug)
        drop_privileges(daemon_uid(), daemon_uid(), ())
        state = daemon_process.State(
            str(run_dir.path), debug, lock_fd, sockets.hypervisor.fileno(),
            (sockets.xenstored.fileno(), sockets.trace.fileno()),
            launcher_fd=sock.detach(), from_disk=from_disk,
        )  # fmt: skip
        if from_disk:
            daemon_process.become(state)
        return daemon_process.serve(state)

    def make_hands() -> "Hands":
        # Found when it is called, so that a test can put another one there; the
        # daemon's own modules come with it, for the next time that it is forked.
        made = hands.system_hands()
        from xenvirt.toolstack import daemon_process  # noqa: F401

        return made

    set_name("launcher")
    return Launcher(
        run_dir,
        run_daemon,
        make_hands,
        sockets,
        uid_base=uid_base(),
        keep_fds=(lock_fd,),
        ready_fd=os.dup(ready_fd) if ready_fd is not None else None,
    ).run()


def _serve(run_dir: RunDir, ready_fd: int | None, lock_fd: int, debug: bool) -> int:
    """Be the daemon, and nobody starts it again."""
    from xenvirt.toolstack import daemon_process

    run_dir.create_store(os.geteuid())
    sockets = run_dir.listen()
    xenstored, trace = sockets.xenstored.detach(), sockets.trace.detach()
    state = daemon_process.State(
        str(run_dir.path), debug, lock_fd, sockets.hypervisor.detach(),
        (xenstored, trace),
    )  # fmt: skip

    def tell_ready() -> None:
        if ready_fd is not None:
            # Whoever wanted to know may have been interrupted.
            with contextlib.suppress(BrokenPipeError):
                os.write(ready_fd, b"\n")

    return daemon_process.serve(state, tell_ready)


def _remove_leftovers(run_dir: RunDir) -> None:
    """Remove what a daemon and a launcher left that were both killed."""
    from xenvirt.toolstack import leftovers

    leftovers.remove(run_dir)


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _main() -> int:
    parser = argparse.ArgumentParser(prog="xenvirt.toolstack.daemon")
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--ready-fd", type=int, required=True)
    parser.add_argument("--lock-fd", type=int, required=True)
    args = parser.parse_args()
    return run_daemon(
        RunDir(args.run_dir),
        foreground=False,
        ready_fd=args.ready_fd,
        lock_fd=args.lock_fd,
    )


if __name__ == "__main__":
    sys.exit(_main())
