"""Debian's packages: which ones, fetched and unpacked without root.

Apt works on an empty list of installed packages, and so names all that a system of
its own needs; the host's packages are not touched.
"""

import json
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final
from urllib.parse import unquote

from tests.xenlab.errors import LabError
from tests.xenlab.work import Work, key_of

_GUEST: Final = (
    "bash", "coreutils", "grep", "sed", "mawk", "mount", "util-linux", "busybox-static",
    "python3-minimal", "libpython3-stdlib", "iproute2", "iputils-ping", "iperf3",
    "ethtool",
)  # fmt: skip
_DOM0: Final = (
    *_GUEST, "xenstore-utils", "bsdutils", "hostname", "procps", "psmisc", "tcpdump",
    "strace",
)  # fmt: skip

_NOT_NEEDED: Final = re.compile(
    r"(perl|lib.*perl|adduser|base-passwd|debconf|dpkg|gcc-\d+-base|init-system-helpers"
    r"|libdb5|libgdbm|libpam|libsemanage|libsepol|media-types|passwd"
    r"|readline-common|sensible-utils|tar|ucf|udev|usrmerge)"
)
"""Wanted by install scripts, which do not run, or by what is left out."""

_LEFT_OUT: Final = (
    "./usr/include/*", "./usr/share/bash-completion/*", "./usr/share/doc/*",
    "./usr/share/info/*", "./usr/share/locale/*", "./usr/share/man/*",
    "./var/lock", "./var/run", "*/boot/xen-shim", "*/bin/oxenstored", "*/gconv/*",
    "*/python3.*/test/*", "*/python3.*/idlelib/*", "*/python3.*/lib2to3/*",
    "*/python3.*/pydoc_data/*",
)  # fmt: skip

_HOST_LISTS: Final = Path("/var/lib/apt/lists")


@dataclass(frozen=True, slots=True)
class Selection:
    """The packages, by the names of their files, which hold their versions."""

    guest: tuple[str, ...]
    """What a guest with Python needs."""
    toolstack: tuple[str, ...]
    """What dom0 needs besides."""
    kernel: str
    hypervisor: str

    def all(self) -> tuple[str, ...]:
        """Return all of them."""
        return (*self.guest, *self.toolstack, self.kernel, self.hypervisor)


class Apt:
    """Apt, with its state in the work directory and the host's sources."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._lists = _HOST_LISTS
        (work.apt / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        (work.apt / "status").touch()
        if not any(_HOST_LISTS.glob("*_Packages*")) or self._own_lists.exists():
            self._use_own_lists()

    def select(self) -> Selection:
        """Choose the newest Xen and kernel there are, and what goes with them."""
        lists = [
            f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}"
            for path in sorted(self._lists.glob("*_Packages*"))
        ]
        key = key_of([*lists, *_DOM0, _NOT_NEEDED.pattern])
        chosen = self._work.cached("selection.json", key, self._choose)
        choice = json.loads(chosen.read_text())
        return Selection(
            tuple(choice["guest"]),
            tuple(choice["toolstack"]),
            choice["kernel"],
            choice["hypervisor"],
        )

    def fetch(self, selection: Selection) -> None:
        """Have the selected packages in the work directory, and no others."""
        wanted = set(selection.all())
        present = {path.name for path in self._work.debs.glob("*.deb")}
        for old in present - wanted:
            (self._work.debs / old).unlink()
        missing = [_specification(name) for name in sorted(wanted - present)]
        if missing:
            self._run("apt-get", "download", *missing, cwd=self._work.debs)

    def update(self) -> None:
        """Fetch lists for the lab alone: the host's are not ours to write."""
        self._use_own_lists()
        self._run("apt-get", "update")

    @property
    def _own_lists(self) -> Path:
        return self._work.apt / "lists"

    def _use_own_lists(self) -> None:
        fresh = not self._own_lists.exists()
        self._lists = self._own_lists
        if fresh:
            (self._own_lists / "partial").mkdir(parents=True)
            self.update()

    def _choose(self, path: Path) -> None:
        version = self._newest_xen()
        with ThreadPoolExecutor() as pool:
            guest = pool.submit(self._closure, _GUEST)
            dom0 = pool.submit(self._closure, (*_DOM0, f"xen-utils-{version}"))
            names = (f"xen-hypervisor-{version}-amd64", self._newest_kernel())
            boot = pool.submit(self._files, "download", names)
        shared = guest.result()
        selection = Selection(
            tuple(shared),
            tuple(name for name in dom0.result() if name not in shared),
            kernel=next(name for name in boot.result() if name.startswith("linux-")),
            hypervisor=next(name for name in boot.result() if name.startswith("xen-")),
        )
        path.write_text(json.dumps(asdict(selection)))

    def _newest_xen(self) -> str:
        pattern = r"^xen-hypervisor-4\.[0-9]+-amd64$"
        found = self._run("apt-cache", "search", "--names-only", pattern)
        minors = re.findall(r"^xen-hypervisor-4\.(\d+)-amd64 ", found, re.MULTILINE)
        if not minors:
            raise LabError(
                "apt knows no xen-hypervisor-4.X-amd64: the lab is made from Debian's "
                "packages for amd64, and needs them in /etc/apt/sources.list"
            )
        return f"4.{max(int(minor) for minor in minors)}"

    def _newest_kernel(self) -> str:
        depends = self._run("apt-cache", "depends", "linux-image-amd64")
        found = re.search(r"Depends: (linux-image-\S+)", depends)
        if found is None:
            raise LabError("apt knows no linux-image-amd64 that depends on a kernel")
        return found[1]

    def _closure(self, packages: Sequence[str]) -> list[str]:
        names = self._files("install", packages)
        return [name for name in names if not _NOT_NEEDED.match(name)]

    def _files(self, command: str, packages: Sequence[str]) -> list[str]:
        printed = self._run("apt-get", "--print-uris", command, *packages)
        return re.findall(r"^'\S+' (\S+\.deb) ", printed, re.MULTILINE)

    def _run(self, program: str, *arguments: str, cwd: Path | None = None) -> str:
        settings = {
            "APT::Architecture": "amd64",
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",
            "Debug::NoLocking": "true",
            "Dir::Cache": str(self._work.apt),
            "Dir::State::lists": str(self._lists),
            "Dir::State::status": str(self._work.apt / "status"),
        }
        options = [f"-o{name}={value}" for name, value in settings.items()]
        command = [program, "-q", *options, *arguments]
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip()
            raise LabError(f"{program} {' '.join(arguments[:2])} failed:\n{said}")
        return done.stdout


def _specification(name: str) -> str:
    """Return the NAME=VERSION of a package's file, in which apt escapes a colon."""
    package, version, _ = name.split("_")
    return f"{package}={unquote(version)}"


def unpack(debs: Iterable[Path], root: Path) -> None:
    """Unpack packages into one tree, without what no one reads there."""
    (root / "usr").mkdir(parents=True, exist_ok=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(exist_ok=True)
        link = root / name
        if not link.is_symlink():
            link.symlink_to(f"usr/{name}")
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(_unpack, deb, root) for deb in debs]:
            done.result()


def _unpack(deb: Path, root: Path) -> None:
    command = ["tar", "-x", "-C", str(root), "--keep-directory-symlink"]
    command += ["--no-same-owner", "--no-same-permissions"]
    command += [f"--exclude={pattern}" for pattern in _LEFT_OUT]
    with contents(deb) as stream:
        subprocess.run(command, stdin=stream, check=True)


@contextmanager
def contents(deb: Path) -> Iterator[IO[bytes]]:
    """Open the tar that is in a package, to be read to its end."""
    command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as source:
        assert source.stdout is not None
        yield source.stdout
    if source.returncode != 0:
        raise LabError(f"{deb} cannot be unpacked: remove it, and try again")
