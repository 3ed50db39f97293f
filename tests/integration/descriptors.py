"""What a process has open, from /proc: which objects they are, and whose else."""

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

NAMESPACES: Final = Path("/run/netns")


def descriptors_of(pid: int) -> Iterator[tuple[str, str]]:
    """Each descriptor's number, and its link in /proc."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        # It may have been closed meanwhile.
        with suppress(FileNotFoundError):
            yield fd, os.readlink(f"/proc/{pid}/fd/{fd}")


def _info(pid: int, fd: str, name: str) -> str:
    """What /proc says of a descriptor, in the line of that name."""
    text = Path(f"/proc/{pid}/fdinfo/{fd}").read_text()
    (value,) = re.findall(rf"^{name}:\s+(\S+)$", text, re.MULTILINE)
    return str(value)


def memory_of(pid: int) -> set[int]:
    """The domains whose memory a process has open, or mapped."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    texts = [text for _, text in descriptors_of(pid)]
    found = re.findall(r"/memfd:xenvirt-(\d+)\b", "\n".join([*texts, maps]))
    return {int(domid) for domid in found}


def interfaces_of(pid: int) -> set[str]:
    """The TAPs that a process has open."""
    return {
        _info(pid, fd, "iff")
        for fd, text in descriptors_of(pid)
        if text == "/dev/net/tun"
    }


def objects_of(pid: int) -> set[tuple[str, str]]:
    """What a process has open and could share with another, each with its kind."""
    found = set()
    for fd, text in descriptors_of(pid):
        if text == "anon_inode:[eventfd]":
            found.add(("eventfd", _info(pid, fd, "eventfd-id")))
        elif text.startswith("/memfd:"):
            name = text.removesuffix(" (deleted)")
            found.add((name, str(os.stat(f"/proc/{pid}/fd/{fd}").st_ino)))
        elif match := re.fullmatch(r"(socket|pipe):\[(\d+)\]", text):
            found.add((match[1], match[2]))
    return found


def _sockets(pid: int) -> set[str]:
    return {number for kind, number in objects_of(pid) if kind == "socket"}


def _netlink(pid: int) -> dict[str, str]:
    """The netlink sockets of a process's namespace, with their families."""
    lines = Path(f"/proc/{pid}/net/netlink").read_text().splitlines()[1:]
    return {words[9]: words[1] for words in map(str.split, lines)}


def unix_peers(names: Iterable[str]) -> dict[str, str]:
    """What each Unix socket leads to, of our network namespace and others; "0" none."""
    command = ["ss", "--no-header", "--unix", "--all", "--numeric"]
    peers = {}
    for inside in ([], *(["nsenter", f"--net={NAMESPACES / name}"] for name in names)):
        listed = subprocess.check_output([*inside, *command], text=True)
        for words in map(str.split, listed.splitlines()):
            peers[words[5]] = words[7]
    return peers


def sockets_of(pid: int, others: dict[str, int], peers: dict[str, str]) -> Counter[str]:
    """How many sockets lead where: to `others`, by their pids, or to itself."""
    netlink = _netlink(pid)
    whose = {
        socket: name
        for name, other in {**others, "itself": pid}.items()
        for socket in _sockets(other)
    }
    found: Counter[str] = Counter()
    for socket in _sockets(pid):
        if socket in netlink:
            found[f"netlink {netlink[socket]}"] += 1
        elif (peer := peers.get(socket)) == "0":
            found["listening"] += 1
        else:
            found[whose.get(peer, "somebody else") if peer else "unknown"] += 1
    return found
