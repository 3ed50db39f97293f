"""Hotplug scripts: what plugs a backend's interface into the host's network.

Xen's own scripts run as libxl runs them (libxl_linux.c, get_hotplug_env), and
find the store by XENSTORED_PATH, which their xenstore-read honours. The
built-in ones need nothing but the kernel.
"""

import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from xenvirt.abi.ids import DevId, DomId
from xenvirt.errors import NotFoundError, UsageError, XenvirtError
from xenvirt.vif.plug import BUILTIN_BRIDGE, BUILTINS

XEN_SCRIPT_DIR: Final = Path("/etc/xen/scripts")
HOTPLUG_TIMEOUT_S: Final = 40.0
"""LIBXL_HOTPLUG_TIMEOUT."""

_OUTPUT_MAX: Final = 2000
"""Bytes of a script's output that go into an error, its last."""

Action = Literal["online", "offline"]


class HotplugError(XenvirtError):
    """A script failed; `explained` adds what it left in the store."""

    def explained(self, hotplug_error: str | None) -> "HotplugError":
        """Return the error with the text of the backend's `hotplug-error` node."""
        if not hotplug_error:
            return self
        return HotplugError(
            self.what, cause=f"{hotplug_error} ({self.cause})", hint=self.hint
        )


def check_script(script: str) -> str:
    """Return `script=` made absolute; raise UsageError for an unknown built-in one.

    A relative path is one of Xen's scripts, below /etc/xen/scripts, as with libxl.
    """
    if not script.startswith("builtin:"):
        return str(XEN_SCRIPT_DIR / script)
    if script not in BUILTINS:
        raise UsageError(
            f"script={script} is not known",
            cause="built in are " + " and ".join(BUILTINS),
            hint=f"write script={BUILTIN_BRIDGE}, or the path of a script",
        )
    return script


def run_script(
    script: str,
    action: Action,
    *,
    domid: DomId,
    devid: DevId,
    vifname: str,
    xenstored_path: str,
    netdev: str | None = None,
    timeout_s: float = HOTPLUG_TIMEOUT_S,
) -> None:
    """Run the script for a vif whose backend nodes and interface are there.

    It blocks until the script ends; that it exits with 0 does not say that it
    wrote `hotplug-status`. Raises NotFoundError if it cannot be run, and
    HotplugError if it fails, or takes longer than `timeout_s`: it is then killed
    with all that it started.
    """
    what = f"hotplug script {script} {action} for {vifname}"
    environment = os.environ | {
        "script": script,
        "XENBUS_TYPE": "vif",
        "XENBUS_PATH": f"backend/vif/{domid}/{devid}",
        "XENBUS_BASE_PATH": "backend",
        "netdev": netdev or "",
        "vif": vifname,
        "XENSTORED_PATH": xenstored_path,
    }
    # A file and not a pipe: a script may leave a server behind, and its end of a
    # pipe would never close.
    with tempfile.TemporaryFile() as output:
        resume = _hold_interrupts()
        try:
            process = subprocess.Popen(
                [script, action, "type_if=vif"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            resume()
            raise NotFoundError(
                f"cannot run {what}",
                cause=str(error.strerror),
                hint="apt-get install xen-utils-common brings Xen's scripts; "
                f"or write script={BUILTIN_BRIDGE}",
            ) from error
        returncode = _wait(process, what, timeout_s, resume)
        if returncode != 0:
            size = output.seek(0, os.SEEK_END)
            output.seek(max(0, size - _OUTPUT_MAX))
            raise HotplugError(f"{what} failed", cause=_end(returncode, output.read()))


def _hold_interrupts() -> Callable[[], None]:
    """Put ^C off: within Popen it would leave a script that nobody knows of.

    The function that is returned ends that, and raises what came meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))

    def resume() -> None:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)

    return resume


def _wait(
    process: subprocess.Popen[bytes],
    what: str,
    timeout_s: float,
    resume: Callable[[], None],
) -> int:
    try:
        resume()
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired as error:
        raise HotplugError(
            f"{what} did not end within {timeout_s:g} s",
            cause="it was killed",
            hint="/var/log/xen/xen-hotplug.log may tell what it waited for",
        ) from error
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _end(returncode: int, output: bytes) -> str:
    if returncode < 0:
        how = f"killed by signal {-returncode}"
    else:
        how = f"exit status {returncode}"
    text = " ".join(output.decode(errors="replace").split())
    return f"{how}: {text}" if text else how
