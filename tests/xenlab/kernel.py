"""Linux as its package has it, made ready for a boot under emulation."""

import lzma
import re
import struct
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from tests.xenlab.errors import LabError
from tests.xenlab.packages import contents

_MODULES: Final = re.compile(
    r".*/kernel/(drivers/char/virtio_console|drivers/net/(tun|veth|xen-[^/]+/?[^/]*)"
    r"|(drivers/virtio|drivers/xen|fs/9p|fs/fscache|fs/netfs|net/802|net/9p|net/bridge"
    r"|net/llc)/[^.]*)\.ko(\.xz)?"
)
"""Those that the lab loads, and what they may depend on."""

# The boot protocol of x86, Documentation/arch/x86/boot.rst.
_SETUP_SECTORS: Final = 0x1F1
_PAYLOAD: Final = 0x248
_SECTOR: Final = 512
_GZIP: Final = 16 + zlib.MAX_WBITS


class Kernel:
    """The kernel of the package `deb`, in memory."""

    def __init__(self, deb: Path) -> None:
        self._image = b""
        self._modules: dict[str, bytes] = {}
        self._builtin: set[str] = set()
        with contents(deb) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                if member.isfile():
                    self._keep(tar, member)

    def _keep(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = Path(member.name)
        if path.name.startswith("vmlinuz"):
            self._image = _read(tar, member)
        elif path.name == "modules.builtin":
            lines = _read(tar, member).decode().split()
            self._builtin = {_module_name(Path(line).name) for line in lines}
        elif _MODULES.fullmatch(member.name):
            content = _read(tar, member)
            if path.suffix == ".xz":
                content = lzma.decompress(content)
            self._modules[_module_name(path.name)] = content

    def vmlinux(self) -> bytes:
        """Return the ELF image, which the emulated processor need not unpack."""
        image = self._image
        offset, length = struct.unpack_from("<II", image, _PAYLOAD)
        start = ((image[_SETUP_SECTORS] or 4) + 1) * _SECTOR + offset
        payload = image[start : start + length]
        if payload.startswith(b"\xfd7zXZ\0"):
            return lzma.LZMADecompressor().decompress(payload)
        if payload.startswith(b"\x1f\x8b"):
            return zlib.decompressobj(_GZIP).decompress(payload)
        return image

    def modules(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return modules and what they depend on, in an order to load them in.

        The keys are their names, with no dash in them. What is built in is left out.
        """
        chosen: dict[str, bytes] = {}
        for name in names:
            chosen |= self._with_dependencies(_module_name(name), chosen)
        return chosen

    def _with_dependencies(
        self, name: str, loaded: dict[str, bytes]
    ) -> dict[str, bytes]:
        if name in loaded or name in self._builtin:
            return {}
        if name not in self._modules:
            raise LabError(f"the kernel's package has no module {name} where it was")
        content = self._modules[name]
        found: dict[str, bytes] = {}
        for dependency in _dependencies(content):
            found |= self._with_dependencies(dependency, loaded | found)
        return found | {name: content}


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = tar.extractfile(member)
    assert content is not None
    return content.read()


def _module_name(file: str) -> str:
    return file.partition(".")[0].replace("-", "_")


def _dependencies(module: bytes) -> Iterator[str]:
    found = re.search(rb"\0depends=([^\0]*)\0", module)
    for name in found[1].decode().split(",") if found else ():
        if name:
            yield _module_name(name)
