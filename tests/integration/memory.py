"""What memory a process has, in KiB."""

from pathlib import Path


def private_kib(pid: int) -> int:
    """What is its alone."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if "Private_" in line)


def peak_kib(pid: int) -> int:
    """The most that was resident since `forget_peak`."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def forget_peak(pid: int) -> None:
    """Let the peak be what is resident now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
