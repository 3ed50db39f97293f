"""Builds `xenvirt._native` from native/, with one declaration for C and Python.

XENVIRT_SANITIZE=address builds with AddressSanitizer and UndefinedBehaviorSanitizer,
=thread with ThreadSanitizer; XENVIRT_WERROR=1 makes every warning an error.
"""

import os
import re
from pathlib import Path

from cffi import FFI

NATIVE = Path(__file__).resolve().parent

HEADERS = (
    "abi/netif.h",
    "abi/grant_table.h",
    "abi/xs_wire.h",
    "xenvirt.h",
    "xenstore/server.h",
)

SOURCES = (
    "abi/layout.c",
    "evtchn.c",
    "lateeoi.c",
    "gnttab.c",
    "gntalloc.c",
    "gntdev.c",
    "tap.c",
    "offload.c",
    "credit.c",
    "rx_stall.c",
    "queue.c",
    "settle.c",
    "front_tx.c",
    "tx_packet.c",
    "back_tx.c",
    "back_rx.c",
    "back_rx_copy.c",
    "back_rx_stall.c",
    "front_rx.c",
    "timers.c",
    "give_back.c",
    "scheduling.c",
    "polling.c",
    "orders.c",
    "worker.c",
    "xs_ring.c",
    "privileges.c",
    "seccomp_calls.c",
    "seccomp.c",
    "xenstore/path.c",
    "xenstore/perms.c",
    "xenstore/node.c",
    "xenstore/tree.c",
    "xenstore/transaction.c",
    "xenstore/watch.c",
    "xenstore/domain.c",
    "xenstore/rate.c",
    "xenstore/store.c",
    "xenstore/persist.c",
    "xenstore/journal_file.c",
    "xenstore/journal.c",
    "xenstore/conn.c",
    "xenstore/node_requests.c",
    "xenstore/session_requests.c",
    "xenstore/domain_requests.c",
    "xenstore/control.c",
    "xenstore/dispatch.c",
    "xenstore/engine.c",
    "xenstore/engine_domains.c",
    "xenstore/handover.c",
    "xenstore/listener.c",
    "xenstore/socket_transport.c",
    "xenstore/ring_transport.c",
    "xenstore/trace_stream.c",
    "xenstore/live_state.c",
    "xenstore/loop.c",
    "xenstore/server.c",
)

WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion"]

SANITIZERS = {
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    # Fences are for other processes, which it does not see.
    "thread": ["-fsanitize=thread", "-Wno-tsan"],
}


def declarations() -> str:
    """The public headers without what the preprocessor would have taken out."""
    text = "\n".join((NATIVE / header).read_text() for header in HEADERS)
    return re.sub(r"^#.*$", "", text, flags=re.MULTILINE)


def sanitizer() -> list[str]:
    """The flags of the sanitizer that is asked for, if one is."""
    name = os.environ.get("XENVIRT_SANITIZE", "")
    return SANITIZERS[name] if name else []


def compile_args() -> list[str]:
    """Flags for our own files and for the one that cffi generates."""
    args = ["-std=gnu11", "-O2", "-fvisibility=hidden", "-pthread"]
    if os.environ.get("XENVIRT_WERROR") == "1":
        # The generated file converts as it likes; ours are checked by scripts/lint.
        args += ["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"]
    if sanitizer():
        args += ["-g", "-O1", "-fno-omit-frame-pointer", *sanitizer()]
    return args


def link_args() -> list[str]:
    """What the sanitizers and threads need of the linker."""
    return ["-pthread", *sanitizer()]


def root_relative(name: str) -> str:
    """A path below the project's root, as setuptools wants it."""
    return os.path.relpath(NATIVE / name, Path.cwd())


ffibuilder = FFI()
ffibuilder.cdef(declarations())
ffibuilder.set_source(
    "xenvirt._native",
    '#include "xenvirt.h"\n#include "xenstore/server.h"',
    sources=[root_relative(source) for source in SOURCES],
    include_dirs=[root_relative(".")],
    depends=[
        root_relative(str(header.relative_to(NATIVE)))
        for header in sorted(NATIVE.rglob("*.h"))
    ],
    extra_compile_args=compile_args(),
    extra_link_args=link_args(),
    py_limited_api=True,
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
