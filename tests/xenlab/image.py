"""What the machine boots: Xen, Linux, and a domain's whole system as its initramfs.

A system is a few archives, one behind another, each of what changes together: Debian's
packages, what .venv has, the checkout.
"""

import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from gzip import decompress
from pathlib import Path
from typing import Final

from tests.xenlab import packages, python
from tests.xenlab.cpio import Archive
from tests.xenlab.errors import LabError
from tests.xenlab.kernel import Kernel
from tests.xenlab.packages import Apt, Selection
from tests.xenlab.work import ROOT, Work, key_of

_HERE: Final = Path(__file__).resolve().parent
_RECIPE: Final = [
    _HERE / f"{name}.py" for name in ("cpio", "image", "kernel", "packages", "python")
]

_XEN_MODULES: Final = (
    "xen-privcmd",
    "xenfs",
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
)
_DOM0_MODULES: Final = (
    *_XEN_MODULES, "xen-netback", "bridge", "tun", "veth", "virtio_pci",
    "virtio_console", "9p", "9pnet_virtio",
)  # fmt: skip
_GUEST_MODULES: Final = (*_XEN_MODULES, "tun")
_NETFRONT: Final = "xen-netfront"
"""Which init loads, or not, as it is told."""

_MOUNT_POINTS: Final = ("dev", "proc", "sys", "run", "tmp", "root", "var", "etc")
_MODULES: Final = "lib/modules"
_MODULE_LIST: Final = "etc/modules"
"""What init loads, in this order."""

# The archives' names are also the names of what is in the work directory.
_XEN: Final = "xen"
_VMLINUX: Final = "vmlinux"
_COMMON: Final = "common.cpio"
_TOOLSTACK: Final = "toolstack.cpio"
_DOM0_KERNEL: Final = "dom0-kernel.cpio"
_GUEST_KERNEL: Final = "guest-kernel.cpio"

_ETC: Final = {
    "etc/passwd": "root:x:0:0::/root:/bin/bash\n"
    "tcpdump:x:100:100::/:/bin/false\n"
    "nobody:x:65534:65534::/:/bin/false\n",
    "etc/group": "root:x:0:\ntcpdump:x:100:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
}
_LINKS: Final = {
    "usr/bin/awk": "mawk",
    "usr/bin/sh": "bash",
    "var/lock": "/run/lock",
    "var/run": "/run",
}
_XENVIRT: Final = '#!/bin/sh\nexec python3 -m xenvirt.cli.main "$@"\n'
_NOOP: Final = "#!/bin/sh\nexit 0\n"


@dataclass(frozen=True, slots=True)
class Images:
    """Paths of what a machine boots."""

    xen: Path
    vmlinux: Path
    dom0: Path


def build(work: Work) -> Images:
    """Bring the images up to date; what dom0 boots guests from is in /host/boot."""
    try:
        return _build(work)
    finally:
        work.clear_scratch()


def _build(work: Work) -> Images:
    with ThreadPoolExecutor() as pool:
        site = pool.submit(_site, work)
        project = pool.submit(_project, work)
        system = _fetched_system(work)
    opt = [site.result(), project.result()]
    common, kernel = system / _COMMON, system / _GUEST_KERNEL
    guest_init = _init(work, "domu-init")

    boot = work.host / "boot"
    shutil.rmtree(boot, ignore_errors=True)
    boot.mkdir()
    (boot / "vmlinux").hardlink_to(system / _VMLINUX)
    small, python_guest = [kernel, guest_init], [common, kernel, *opt, guest_init]
    (boot / "domu.cpio").hardlink_to(_joined(work, "domu.cpio", small))
    (boot / "domu-python.cpio").hardlink_to(
        _joined(work, "domu-python.cpio", python_guest)
    )
    dom0 = [common, system / _TOOLSTACK, system / _DOM0_KERNEL, *opt]
    return Images(
        system / _XEN,
        system / _VMLINUX,
        _joined(work, "dom0.cpio", [*dom0, _init(work, "dom0-init")]),
    )


def _fetched_system(work: Work) -> Path:
    apt = Apt(work)
    selection = apt.select()
    try:
        apt.fetch(selection)
    except LabError:
        # The lists are older than what the mirror still has.
        apt.update()
        selection = apt.select()
        apt.fetch(selection)
    key = key_of([*selection.all(), *(path.read_bytes() for path in _RECIPE)])
    return work.cached("system", key, lambda path: _System(work, selection).make(path))


class _System:
    """All that Debian's packages give: it takes long, and changes seldom."""

    def __init__(self, work: Work, selection: Selection) -> None:
        self._work = work
        self._selection = selection

    def make(self, directory: Path) -> None:
        directory.mkdir()
        with ThreadPoolExecutor() as pool:
            parts: list[Callable[[Path], None]] = [
                self._boot,
                self._common,
                self._toolstack,
            ]
            for done in [pool.submit(part, directory) for part in parts]:
                done.result()

    def _boot(self, directory: Path) -> None:
        kernel = Kernel(self._work.debs / self._selection.kernel)
        (directory / _VMLINUX).write_bytes(kernel.vmlinux())
        root = self._unpacked("hypervisor", [self._selection.hypervisor])
        (image,) = (root / "boot").glob("xen-*.gz")
        (directory / _XEN).write_bytes(decompress(image.read_bytes()))

        netfront = kernel.modules([_NETFRONT])
        with Archive(directory / _DOM0_KERNEL) as archive:
            _add_modules(archive, kernel.modules(_DOM0_MODULES), netfront)
        (busybox,) = [n for n in self._selection.guest if n.startswith("busybox-")]
        root = self._unpacked("busybox", [busybox])
        with Archive(directory / _GUEST_KERNEL) as archive:
            archive.add_tree(root)
            _add_modules(archive, kernel.modules(_GUEST_MODULES), netfront)

    def _common(self, directory: Path) -> None:
        root = self._unpacked("common", self._selection.guest)
        python.check_python(root)
        (library,) = (root / "usr/lib").glob("python3.*")
        python.compile_tree(root, str(library.relative_to(root)))
        for name, target in _LINKS.items():
            (root / name).symlink_to(target)
        for name, content in _ETC.items():
            (root / name).write_text(content)
        with Archive(directory / _COMMON) as archive:
            archive.add_tree(root)

    def _toolstack(self, directory: Path) -> None:
        root = self._unpacked("toolstack", self._selection.toolstack)
        with Archive(directory / _TOOLSTACK) as archive:
            archive.add_tree(root)
            archive.add_file(
                "etc/xen/scripts/vif-noop", _NOOP.encode(), executable=True
            )

    def _unpacked(self, name: str, debs: Iterable[str]) -> Path:
        root = self._work.scratch(name)
        packages.unpack([self._work.debs / deb for deb in debs], root)
        return root


def _add_modules(
    archive: Archive, loaded: dict[str, bytes], available: dict[str, bytes]
) -> None:
    for name in (*_MOUNT_POINTS, "usr/lib/modules"):
        archive.add_directory(name)
    for name, content in (available | loaded).items():
        archive.add_file(f"{_MODULES}/{name}.ko", content)
    archive.add_file(_MODULE_LIST, "".join(f"{name}\n" for name in loaded).encode())


def _site(work: Work) -> Path:
    distributions = python.site_distributions()
    versions = [f"{each.name} {each.version}" for each in distributions]
    key = key_of([*versions, *(path.read_bytes() for path in _RECIPE)])

    def make(path: Path) -> None:
        root = work.scratch("site")
        python.copy_site(distributions, root)
        with Archive(path) as archive:
            archive.add_tree(root)

    return work.cached("site.cpio", key, make)


def _project(work: Work) -> Path:
    files = python.project_files()
    key = key_of(
        part for file in files for part in (str(file), (ROOT / file).read_bytes())
    )

    def make(path: Path) -> None:
        root = work.scratch("project")
        python.copy_project(files, root)
        with Archive(path) as archive:
            archive.add_tree(root)
            archive.add_directory("usr")
            archive.add_directory("usr/bin")
            archive.add_file("usr/bin/xenvirt", _XENVIRT.encode(), executable=True)

    return work.cached("project.cpio", key, make)


def _init(work: Work, name: str) -> Path:
    script = (_HERE / name).read_bytes()

    def make(path: Path) -> None:
        with Archive(path) as archive:
            archive.add_directory("dev")
            archive.add_console("dev/console")
            archive.add_file("init", script, executable=True)

    return work.cached(f"{name}.cpio", key_of([script]), make)


def _joined(work: Work, name: str, parts: list[Path]) -> Path:
    def make(path: Path) -> None:
        with path.open("wb") as joined:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, joined)

    return work.cached(name, key_of(str(part) for part in parts), make)
