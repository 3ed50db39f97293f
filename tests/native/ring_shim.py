"""native/ring.h, compiled on its own with functions around it."""

import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Final

from cffi import FFI

HERE: Final = Path(__file__).resolve().parent
NATIVE: Final = HERE.parent.parent / "native"

DECLARATIONS: Final = """
bool shim_init(void *shim, void *page, uint32_t start);
bool shim_back_attach(void *shim, void *page);
uint32_t shim_free_requests(const void *shim);
void shim_put_request(void *shim, uint16_t id);
uint16_t shim_take_request(void *shim);
void shim_put_response(void *shim, uint16_t id);
uint16_t shim_take_response(void *shim);
bool shim_push_requests(void *shim);
bool shim_push_responses(void *shim);
uint32_t shim_final_check_for_requests(void *shim, uint32_t ahead);
uint32_t shim_final_check_for_responses(void *shim, uint32_t ahead);
bool shim_request_prod_overflow(const void *shim, uint32_t prod);
bool shim_request_cons_overflow(const void *shim, uint32_t cons);
bool shim_response_prod_overflow(const void *shim, uint32_t prod);
"""

SHIM_SIZE: Final = 256
"""Bytes, more than `struct shim`."""


class Shim:
    """A front and a back ring on one page, both beginning at `start`."""

    def __init__(self, start: int) -> None:
        ffi, self.lib = compiled()
        self._page = ffi.new("uint64_t[512]")
        self._shim = ffi.new("uint64_t[]", SHIM_SIZE // 8)
        self.page = ffi.buffer(self._page)
        assert self.lib.shim_init(self._shim, self._page, start)

    def call(self, name: str, *arguments: int) -> int:
        """A function of ring_shim.c on these two rings."""
        result = getattr(self.lib, f"shim_{name}")(self._shim, *arguments)
        return 0 if result is None else int(result)

    def attach_again(self) -> bool:
        """Take up the page as a new backend does."""
        return bool(self.lib.shim_back_attach(self._shim, self._page))


@cache
def compiled() -> tuple[FFI, Any]:
    """Build it, once a run; the library stays loaded when its file is gone."""
    ffi = FFI()
    ffi.cdef(DECLARATIONS)
    with tempfile.TemporaryDirectory() as directory:
        library = Path(directory) / "ring_shim.so"
        source = HERE / "ring_shim.c"
        flags = ["-std=gnu11", "-O2", "-shared", "-fPIC", f"-I{NATIVE}"]
        subprocess.run(["gcc", *flags, "-o", library, source], check=True)
        return ffi, ffi.dlopen(str(library))
