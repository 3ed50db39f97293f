"""DPDK's memif as a peer of the ring alone: two dpdk-testpmd, txonly and rxonly."""

import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

TESTPMD: Final = "dpdk-testpmd"
WARM_UP: Final = 2
"""Periods of one second that do not count: the two connect in the first."""

PATIENCE_S: Final = 30
RX_PPS: Final = re.compile(rb"Rx-pps: +(\d+)")


def missing() -> str | None:
    """Why memif cannot be measured, or None."""
    if shutil.which(TESTPMD) is None:
        return "there is no dpdk-testpmd: install Debian's package dpdk"
    return None


@contextmanager
def _testpmd(
    directory: str, role: str, cpu: int, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    """One of the two, its main thread and its forwarding one on the same CPU."""
    vdev = f"net_memif0,role={role},id=0,socket={directory}/socket,socket-abstract=no"
    eal = ["--no-huge", "-m", "512", "--no-pci", "--no-telemetry"]
    eal += [f"--file-prefix={Path(directory).name}-{role}"]
    eal += ["--lcores", f"0@{cpu},1@{cpu}", "--vdev", vdev]
    forward = ["--stats-period", "1", "--total-num-mbufs", "16384", *options]
    process = subprocess.Popen(
        [TESTPMD, *eal, "--", *forward],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "XDG_RUNTIME_DIR": directory},
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def frames_per_second(size: int, seconds: int, front_cpu: int, back_cpu: int) -> float:
    """What the receiver counts in `seconds` periods of a second, the mean.

    Raises RuntimeError, with what it printed, when testpmd does not run.
    """
    with tempfile.TemporaryDirectory(prefix="bench-memif-") as directory:
        with ExitStack() as stack:
            rx = stack.enter_context(
                _testpmd(directory, "server", back_cpu, "--forward-mode=rxonly")
            )
            output = _until_listening(rx)
            tx = ("--forward-mode=txonly", f"--txpkts={size}")
            stack.enter_context(_testpmd(directory, "client", front_cpu, *tx))
            rates: list[float] = []
            assert rx.stdout is not None
            for line in rx.stdout:
                output.append(line)
                if found := RX_PPS.search(line):
                    rates.append(float(found[1]))
                started = [rate for rate in rates if rate > 0]
                if len(started) == WARM_UP + seconds:
                    return sum(started[WARM_UP:]) / seconds
                if len(rates) > PATIENCE_S:
                    break
        raise RuntimeError(f"{TESTPMD}: {b''.join(output[-20:]).decode()}")


def _until_listening(rx: subprocess.Popen[bytes]) -> list[bytes]:
    """Wait for the first statistics, when the socket is there. Gives the output."""
    output = []
    assert rx.stdout is not None
    for line in rx.stdout:
        output.append(line)
        if RX_PPS.search(line):
            break
    return output
